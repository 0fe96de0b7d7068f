using ContinuousDL.Deployment;
using ContinuousDL.Parameters;
using ContinuousDL.Wire;
using CsCheck;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>What a message carries is the update, bit for bit, whatever the values are.</summary>
public class RoundTripTests
{
    private static readonly ScalarType[] DTypes =
    [
        ScalarType.Float32, ScalarType.Float64, ScalarType.BFloat16, ScalarType.Float16, ScalarType.ComplexFloat32,
        ScalarType.Byte, ScalarType.Int8, ScalarType.Bool, ScalarType.Int16, ScalarType.Int32, ScalarType.Int64,
    ];

    private static readonly Gen<(ScalarType, CoordinateKind, int)> Entry =
        Gen.Select(Gen.Int[0, DTypes.Length - 1].Select(i => DTypes[i]), Gen.Bool.Select(b => b ? CoordinateKind.Parameter : CoordinateKind.Buffer), Gen.OneOf(Gen.Int[0, 5], Gen.Int[1, 300]));

    [Test]
    public void A_message_carries_the_update_for_any_dtypes_values_and_coordinates() =>
        Gen.Select(Entry.Array[1, 6], Gen.Int, Gen.Int[0, 5], Gen.Int[0, 3]).Sample(
            (entries, seed, density, form) =>
            {
                using var model = new WireModel(entries);
                var random = new Random(seed);
                var before = WireValues.Any(model.Layout, random);
                var after = WireValues.Changed(model.Layout, before, random);
                model.Load(before, sequence: random.Next(3) == 0 ? 0 : random.NextInt64(1L << random.Next(1, 62)));
                int[]? coordinates = form == 3 ? null : [.. Enumerable.Range(0, model.Layout.Count).Where(_ => random.NextDouble() < Density(density))];
                using var update = model.Update(after, coordinates, steps: form == 1 ? 5 : 1, withPrevious: form == 0);
                AssertCarried(model, update);
            },
            iter: 2000);

    private static double Density(int density) => density switch { 0 => 0, 1 => 0.01, 2 => 0.3, 3 => 0.6, 4 => 0.95, _ => 1 };

    private static void AssertCarried(WireModel model, ModelUpdate update)
    {
        var codec = new UpdateCodec();
        var message = codec.Encode(update);
        var header = UpdateCodec.ReadHeader(message);
        (header.BaseSequence, header.Sequence, header.Count, header.IsWhole).Should().Be((update.BaseSequence, update.Sequence, update.Count, update.IsWhole));
        (header.StateDigest, header.IsSigned, header.Length).Should().Be((update.StateDigest, false, message.Length));
        using var decoded = codec.Decode(message, model.State);
        decoded.RunId.Should().Be(update.RunId);
        decoded.ModelFingerprint.Should().Be(update.ModelFingerprint);
        decoded.StateDigest.Should().Be(update.StateDigest);
        (decoded.BaseSequence, decoded.Sequence, decoded.IsWhole).Should().Be((update.BaseSequence, update.Sequence, update.IsWhole));
        decoded.Coordinates.SequenceEqual(update.Coordinates).Should().BeTrue();
        decoded.Values.SequenceEqual(update.Values).Should().BeTrue();
    }
}
