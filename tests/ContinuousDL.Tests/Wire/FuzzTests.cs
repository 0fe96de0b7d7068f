using System.Buffers.Binary;
using System.Globalization;
using System.IO.Hashing;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>
/// Hostile bytes: mutated, cut, spliced and random messages cause nothing but the documented exceptions, take little memory, and
/// change no replica.
/// </summary>
/// <remarks>
/// For a longer run set CONTINUOUSDL_FUZZ_MESSAGES (default 240,000) and CONTINUOUSDL_FUZZ_SEED (default 1):
/// <c>CONTINUOUSDL_FUZZ_MESSAGES=100000000 CONTINUOUSDL_FUZZ_SEED=7 dotnet test tests/ContinuousDL.Tests -c Release --filter FullyQualifiedName~FuzzTests</c>.
/// A failure says the seed and the message in hexadecimal.
/// </remarks>
[Category("Slow")]
public class FuzzTests
{
    /// <summary>What one message may allocate: an exception with its text, and arrays for a model of a thousand values.</summary>
    private const long MostBytes = 256 * 1024;

    private const int ChecksumSize = 4;

    private static readonly int Messages = Setting("CONTINUOUSDL_FUZZ_MESSAGES", 240_000);
    private static readonly int Seed = Setting("CONTINUOUSDL_FUZZ_SEED", 1);

    [Test]
    public void Hostile_messages_change_no_replica()
    {
        random.manual_seed(1);
        using var model = TestModels.WithBatchNorm();
        using var loss = nn.CrossEntropyLoss();
        using var optimizer = new FusedAdam(model.parameters(), 0.01);
        using var trainer = new ProactiveTrainer(model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 16, Density = 0.2 });
        var codec = new UpdateCodec();
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        var messages = new List<byte[]>();
        for (var i = 0; i < 8; i++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, i);
            using var result = trainer.Step(inputs, targets);
            messages.Add(codec.Encode(result.Update!));
            if (i < 4) replica.Apply(messages[i], codec);
        }

        // Mostly of the one that the replica needs, which gets furthest; of the others for splices, replays and gaps.
        var start = replica.CreateSnapshot();
        messages.AddRange(Enumerable.Repeat(messages[4], 24));
        Fuzz(messages, Messages / 2, message =>
        {
            var applied = replica.Apply(message, codec);
            if (!applied) return;
            replica.Verify().Should().BeTrue();
            replica.Digest.Should().Be(UpdateCodec.ReadHeader(message).StateDigest);
            replica.Restore(start);
        },
        () => (replica.Sequence, replica.Digest) == (start.Sequence, start.StateDigest));
        replica.Verify().Should().BeTrue();
        replica.Apply(messages[4], codec).Should().BeTrue("it goes on as if nothing had been");
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void Hostile_messages_of_all_dtypes_are_refused()
    {
        var dtypes = new[] { DType.Float32, DType.Float64, DType.BFloat16, DType.Float16, DType.ComplexFloat32, DType.Bool, DType.Int16, DType.Int32, DType.Int64 };
        using var model = new WireModel([.. dtypes.Select((d, i) => (d, (CoordinateKind)(i % 2), 40))]);
        var random = new Random(Seed);
        var codec = new UpdateCodec();
        var messages = new List<byte[]>();
        model.Load(WireValues.Any(model.Layout, random), sequence: 3);
        for (var i = 0; i < 16; i++)
        {
            int[]? coordinates = i % 4 == 3 ? null : [.. Enumerable.Range(0, model.Layout.Count).Where(_ => random.NextDouble() < (i % 2 == 0 ? 0.1 : 0.7))];
            using var update = model.Update(WireValues.Changed(model.Layout, model.Values(), random), coordinates, i % 4 == 2 ? 3 : 1);
            messages.Add(codec.Encode(update));
        }

        var coordinateBuffer = new int[model.Layout.Count];
        var values = model.Values();
        Fuzz(messages, Messages / 2, message =>
        {
            using var update = codec.DecodeIfNeeded(message, model.State);
            UpdateCodec.ReadCoordinates(message, model.Layout.Count, coordinateBuffer);
        },
        () => true);
        model.Values().Should().Equal(values);
    }

    private static void Fuzz(List<byte[]> messages, int count, Action<byte[]> target, Func<bool> isUnchanged)
    {
        var random = new Random(Seed);
        var outcomes = new Dictionary<string, int>();
        for (var i = 0; i < count; i++)
        {
            var message = Mutate(messages, random);
            var outcome = "accepted";
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                target(message);
            }
            catch (DeploymentException e)
            {
                outcome = e.GetType().Name;
            }
            catch (Exception e)
            {
                Assert.Fail($"Seed {Seed}, message {i}, {Convert.ToHexString(message)}: {e}");
            }

            var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            if (outcome != "accepted" && allocated > MostBytes) Assert.Fail($"Seed {Seed}, message {i}, {Convert.ToHexString(message)}: {allocated:N0} bytes were allocated.");
            if (!isUnchanged()) Assert.Fail($"Seed {Seed}, message {i}, {Convert.ToHexString(message)}: the state has changed ({outcome}).");
            outcomes[outcome] = outcomes.GetValueOrDefault(outcome) + 1;
        }

        TestContext.Out.WriteLine(string.Join(", ", outcomes.OrderBy(o => o.Key).Select(o => $"{o.Key}: {o.Value:N0}")));
        outcomes.Should().ContainKey(nameof(WireFormatException));
    }

    private static byte[] Mutate(List<byte[]> messages, Random random)
    {
        var message = messages[random.Next(messages.Count)].ToArray();
        var changes = 1 << random.Next(0, 4);
        switch (random.Next(8))
        {
            case 0: Array.Resize(ref message, random.Next(message.Length)); break;
            case 1: Array.Resize(ref message, message.Length + random.Next(1, 20)); break;
            case 2:
                var other = messages[random.Next(messages.Count)];
                message = [.. message.AsSpan(0, random.Next(message.Length)), .. other.AsSpan(random.Next(other.Length))];
                break;
            case 3:
                message = new byte[random.Next(200)];
                random.NextBytes(message);
                break;
            case 4:
                // The header, where numbers are.
                for (var i = 0; i < changes; i++) message[random.Next(2, Math.Min(48, message.Length))] = (byte)(random.Next(2) == 0 ? random.Next(256) : 0xff * random.Next(2));
                break;
            case 5:
                random.NextBytes(message.AsSpan(random.Next(message.Length)));
                break;
            default:
                for (var i = 0; i < changes; i++) message[random.Next(message.Length)] ^= (byte)(1 << random.Next(8));
                break;
        }

        // Whoever attacks computes the checksum too.
        if (message.Length > ChecksumSize && random.Next(8) != 0)
        {
            var body = message.AsSpan(0, message.Length - ChecksumSize);
            BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(body.Length), (uint)XxHash3.HashToUInt64(body));
        }

        return message;
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { } value ? int.Parse(value, CultureInfo.InvariantCulture) : otherwise;
}
