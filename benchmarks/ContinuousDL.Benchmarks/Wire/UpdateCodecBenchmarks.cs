using System.Buffers;
using BenchmarkDotNet.Attributes;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Benchmarks.Wire;

/// <summary>An update encoded, decoded for a state, and applied to one, with the digests of both sides; one thread.</summary>
[Config(typeof(BenchmarkConfig.Short))]
public class UpdateCodecBenchmarks
{
    /// <summary>How many updates are applied one after the other.</summary>
    private const int ChainLength = 16;

    private readonly UpdateCodec codec = new();
    private readonly ArrayBufferWriter<byte> output = new();
    private SyntheticUpdates updates = null!;

    /// <summary>The number of coordinates: MobileNetV2's and ResNet-18's.</summary>
    [Params(2_236_682, 11_181_642)]
    public int Size { get; set; }

    /// <summary>The share of them that an update changes.</summary>
    [Params(1e-2, 1e-3, 1e-4)]
    public double Density { get; set; }

    /// <summary>Makes the updates.</summary>
    [GlobalSetup]
    public void Setup() => updates = new SyntheticUpdates(Size, Density, ChainLength);

    /// <summary>Frees them.</summary>
    [GlobalCleanup]
    public void Cleanup() => updates.Dispose();

    /// <summary>Makes a message.</summary>
    [Benchmark]
    public void Encode()
    {
        output.ResetWrittenCount();
        codec.Encode(updates.Updates[0], output);
    }

    /// <summary>Makes an update of a message.</summary>
    [Benchmark]
    public void Decode() => codec.Decode(updates.Messages[0], updates.State).Dispose();

    /// <summary>Puts the state back where the updates start from, for <see cref="Apply"/>.</summary>
    [IterationSetup(Target = nameof(Apply))]
    public void Restore() => updates.State.Load(updates.Start);

    /// <summary>Decodes a message, checks the digest, and writes the values.</summary>
    [Benchmark(OperationsPerInvoke = ChainLength)]
    public void Apply()
    {
        foreach (var message in updates.Messages)
        {
            using var update = codec.Decode(message, updates.State);
            updates.State.Write(update, updates.State.DigestAfter(update, knowsPrevious: true));
        }
    }
}
