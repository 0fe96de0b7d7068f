using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using CsCheck;

namespace ContinuousDL.Tests.Wire;

/// <summary>What a message carries is the update, bit for bit, whatever the values are; to the library and to who reads by the document.</summary>
public class RoundTripTests
{
    private static readonly DType[] DTypes =
    [
        DType.Float32, DType.Float64, DType.BFloat16, DType.Float16, DType.ComplexFloat32,
        DType.Byte, DType.Int8, DType.Bool, DType.Int16, DType.Int32, DType.Int64,
    ];

    private static readonly double[] Densities = [0, 0.01, 0.3, 0.6, 0.95, 1];

    private static readonly Gen<(DType, CoordinateKind, int)> Entry = Gen.Select(
        Gen.Int[0, DTypes.Length - 1].Select(i => DTypes[i]),
        Gen.Bool.Select(isBuffer => isBuffer ? CoordinateKind.Buffer : CoordinateKind.Parameter),
        Gen.OneOf(Gen.Int[0, 5], Gen.Int[1, 300]));

    /// <summary>How an update is written.</summary>
    public enum Form
    {
        Relative,
        OfSeveralSteps,
        WithoutPreviousValues,
        Whole,
    }

    [Test]
    public void A_message_carries_the_update_for_any_dtypes_values_and_coordinates([Values] Form form) =>
        Gen.Select(Entry.Array[1, 6], Gen.Int, Gen.Int[0, Densities.Length - 1]).Sample(
            (entries, seed, density) =>
            {
                using var model = new WireModel(entries);
                var random = new Random(seed);
                var before = WireValues.Any(model.Layout, random);
                var after = WireValues.Changed(model.Layout, before, random);
                model.Load(before, sequence: random.Next(3) == 0 ? 0 : random.NextInt64(1L << random.Next(1, 62)));
                int[] coordinates = [.. Enumerable.Range(0, model.Layout.Count).Where(_ => random.NextDouble() < Densities[density])];
                using var update = model.Update(
                    after, form == Form.Whole ? null : coordinates, form == Form.OfSeveralSteps ? 5 : 1, form != Form.WithoutPreviousValues);
                AssertCarried(model, update);
            },
            iter: 500);

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(2_000)]
    [TestCase(100_000)]
    public void Changes_that_a_selection_by_size_picks_are_carried(int count)
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 200_000), (DType.Float32, CoordinateKind.Buffer, 300));
        var random = new Random(count);
        var (before, after) = WireValues.Trained(model.Layout, random);
        model.Load(before, sequence: 7);
        int[] coordinates = [.. Enumerable.Range(0, 200_000).Where(_ => random.NextDouble() < count / 200_000.0), .. Enumerable.Range(200_000, count == 0 ? 0 : 300)];
        using var update = model.Update(after, coordinates);
        AssertCarried(model, update);
    }

    [Test]
    public void Clusters_of_coordinates_far_apart_are_carried()
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 3_000_000));
        var (before, after) = WireValues.Trained(model.Layout, new Random(1));
        model.Load(before, sequence: 7);
        using var update = model.Update(after, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2_500_000, 2_500_001, 2_999_998, 2_999_999]);
        AssertCarried(model, update);
    }

    [TestCase(DType.Float32)]
    [TestCase(DType.Float64)]
    [TestCase(DType.BFloat16)]
    [TestCase(DType.Float16)]
    public void Values_of_several_blocks_and_tensors_are_carried(DType dtype)
    {
        // The second run of the dtype uses the model of the first.
        using var model = new WireModel(
            (dtype, CoordinateKind.Parameter, 1_000), (DType.Int32, CoordinateKind.Parameter, 0), (dtype, CoordinateKind.Parameter, 1_100),
            (DType.Int64, CoordinateKind.Parameter, 5), (dtype, CoordinateKind.Parameter, 30));
        var random = new Random(1);
        var before = WireValues.Any(model.Layout, random);
        model.Load(before, sequence: 7);
        model.Layout.Runs.Length.Should().Be(3);
        for (var i = 0; i < 8; i++)
        {
            using var update = model.Update(WireValues.Changed(model.Layout, before, random), [.. Enumerable.Range(0, model.Layout.Count).Where(_ => random.Next(20) > 0)]);
            AssertCarried(model, update);
        }
    }

    [TestCase(DeployedValuePrecision.BFloat16)]
    [TestCase(DeployedValuePrecision.Float16)]
    public void Rounded_values_of_parameters_are_carried_in_16_bits(DeployedValuePrecision precision)
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 5_000), (DType.Float32, CoordinateKind.Buffer, 100));
        var (before, after) = WireValues.Trained(model.Layout, new Random(1), precision);
        model.Load(before, sequence: 7);
        using var update = model.Update(after, [.. Enumerable.Range(0, 2_500).Select(i => 2 * i), .. Enumerable.Range(5_000, 100)]);
        UpdateCodec.ReadHeader(new UpdateCodec().Encode(update)).ValuePrecision.Should().Be(precision);
        AssertCarried(model, update);
    }

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
        model.State.DigestAfter(decoded, knowsPrevious: true).Should().Be(update.StateDigest);

        var coordinates = new int[update.Count];
        UpdateCodec.ReadCoordinates(message, model.Layout.Count, coordinates);
        coordinates.Should().Equal(update.IsWhole ? Enumerable.Range(0, update.Count) : update.Coordinates.ToArray());

        if (update.Count > 10_000) return;
        var plain = PlainDecoder.Decode(message, model.Layout, model.Values());
        (plain.Sequence, plain.Steps).Should().Be((update.Sequence, update.Sequence - update.BaseSequence));
        plain.Coordinates.Should().Equal(coordinates);
        plain.Values.ToArray().AsSpan().SequenceEqual(update.Values).Should().BeTrue();
    }
}
