using System.Buffers.Binary;
using System.Globalization;
using System.IO.Hashing;
using System.Text.Json;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Tests.Wire;

/// <summary>Sentences of docs/wire-format.md that a reader can get wrong without noticing on most messages.</summary>
public class DocumentedReadingTests
{
    private static readonly UpdateCodec Codec = new();

    [TestCase(DeployedValuePrecision.BFloat16)]
    [TestCase(DeployedValuePrecision.Float16)]
    public void Old_values_are_not_rounded_whatever_the_precision(DeployedValuePrecision precision)
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 400));
        var (before, after) = WireValues.Trained(model.Layout, new Random(1), precision);
        model.Load(before, sequence: 7);
        using var update = model.Update(after, [.. Enumerable.Range(0, 150)]);
        var message = Codec.Encode(update);

        PlainDecoder.Decode(message, model.Layout, before).Values.ToArray().AsSpan().SequenceEqual(update.Values).Should().BeTrue();

        var rounded = before.ToArray();
        for (var i = 0; i < 400; i++)
        {
            var value = BitConverter.UInt32BitsToSingle((uint)Scalars.Load(before, i, 4));
            Scalars.Store(rounded, i, 4, BitConverter.SingleToUInt32Bits(precision.Round(value)));
        }

        PlainDecoder.Decode(message, model.Layout, rounded).Values.ToArray().AsSpan().SequenceEqual(update.Values)
            .Should().BeFalse("a reader that rounds them first reads other values");
    }

    [Test]
    public void Class_0_stands_for_the_old_value_rounded_to_the_format()
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 400));
        var before = Floats(Enumerable.Repeat(1.0009765f, 400));
        var after = Floats(Enumerable.Repeat(DeployedValuePrecision.BFloat16.Round(1.0009765f), 400));
        model.Load(before, sequence: 7);
        using var update = model.Update(after, [.. Enumerable.Range(0, 100)]);
        update.Values.SequenceEqual(update.PreviousValues).Should().BeFalse();
        var message = Codec.Encode(update);

        var plain = PlainDecoder.Decode(message, model.Layout, before);
        plain.Classes.Should().OnlyContain(symbol => symbol == 0);
        plain.Values.ToArray().AsSpan().SequenceEqual(update.Values).Should().BeTrue();
        using var decoded = Codec.Decode(message, model.State);
        decoded.Values.SequenceEqual(update.Values).Should().BeTrue();
    }

    [Test]
    public void A_float16_NaN_keeps_sign_and_fraction_and_becomes_quiet_in_float32()
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 400));
        model.Load(new byte[1600], sequence: 7);
        using var update = model.Update(Floats(Enumerable.Repeat(float.NegativeInfinity, 400)), [3]);
        var message = Codec.Encode(update);
        UpdateCodec.ReadHeader(message).ValuePrecision.Should().NotBe(DeployedValuePrecision.Float32);
        var isFloat16 = SetPrecision(message, DeployedValuePrecision.Float16);

        // The number of the only value, 16 bits, ends the section: 0xfc00 becomes 0xfc01.
        var last = PlainDecoder.Decode(isFloat16, model.Layout, new byte[1600]).EndOfValues - 1;
        SetNumber(isFloat16, last, 0xfc01);

        const uint expected = 0xffc02000;
        PlainDecoder.Decode(isFloat16, model.Layout, new byte[1600]).Values.Should().Equal(BitConverter.GetBytes(expected));
        using var decoded = Codec.Decode(isFloat16, model.State);
        decoded.Values.ToArray().Should().Equal(BitConverter.GetBytes(expected));
    }

    [TestCase(0, 1)]
    [TestCase(4, 5)]
    public void The_real_part_of_a_complex_number_is_the_low_half_of_the_integer(int changedByte, int expectedBytesOfTheChange)
    {
        using var model = new WireModel((DType.ComplexFloat32, CoordinateKind.Buffer, 400));
        var before = Floats(Enumerable.Range(0, 800).Select(i => i % 2 == 0 ? 1.5f : -2f));
        var after = before.ToArray();
        after[(8 * 5) + changedByte] ^= 1;
        model.Load(before, sequence: 7);
        using var update = model.Update(after, [5]);
        var message = Codec.Encode(update);

        // A change of the low half by 1 is z = 2, with a symbol of 1 bit and a bit; one of the high half is z = 2^33, with 12 and 33.
        var plain = PlainDecoder.Decode(message, model.Layout, before);
        plain.Values.ToArray().AsSpan().SequenceEqual(update.Values).Should().BeTrue();
        (plain.ValueBits / 8).Should().BeLessThanOrEqualTo(expectedBytesOfTheChange).And.BeGreaterThanOrEqualTo(expectedBytesOfTheChange - 1);
    }

    [TestCase(float.PositiveInfinity)]
    [TestCase(float.NaN)]
    public void A_class_other_than_39_on_an_old_value_that_is_not_finite_is_refused(float old)
    {
        using var model = new WireModel((DType.Float32, CoordinateKind.Parameter, 400));
        model.Load(Floats(Enumerable.Repeat(1.1f, 400)), sequence: 7);
        using var update = model.Update(Floats(Enumerable.Repeat(1.3f, 400)), [3]);
        var message = Codec.Encode(update);
        model.Load(Floats(Enumerable.Repeat(old, 400)), sequence: 7);

        var byTheDocument = () => PlainDecoder.Decode(message, model.Layout, model.Values());
        byTheDocument.Should().Throw<InvalidDataException>();
        var byTheLibrary = () => Codec.Decode(message, model.State);
        byTheLibrary.Should().Throw<WireFormatException>().WithMessage("*not finite*");
    }

    [Test]
    public void The_metadata_of_a_snapshot_are_what_the_document_says()
    {
        using var signing = UpdateSigning.HmacSha256("the key of the snapshots' tests"u8);
        using var model = new WireModel((DType.Float64, CoordinateKind.Parameter, 3), (DType.ComplexFloat32, CoordinateKind.Buffer, 2), (DType.Int8, CoordinateKind.Buffer, 5));
        var values = WireValues.Any(model.Layout, new Random(3));
        model.Load(values, sequence: 12_345);
        var snapshot = new UpdateCodec(new UpdateCodecOptions { Signing = signing }).Sign(model.State.CreateSnapshot());
        using var file = new MemoryStream();
        snapshot.Save(file);
        var headerLength = (int)BinaryPrimitives.ReadInt64LittleEndian(file.GetBuffer());
        using var header = JsonDocument.Parse(file.GetBuffer().AsMemory(8, headerLength));
        var metadata = header.RootElement.GetProperty("__metadata__").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetString()!);

        metadata.Keys.Should().BeEquivalentTo(
            "continuousdl.version", "continuousdl.tensors", "continuousdl.fingerprint", "continuousdl.run", "continuousdl.sequence", "continuousdl.digest", "continuousdl.signature", "format");
        metadata["continuousdl.version"].Should().Be("1");
        metadata["continuousdl.tensors"].Should().Be("""[["tensor0","parameter"],["tensor1","buffer"],["tensor2","buffer"]]""");
        metadata["continuousdl.run"].Should().Be(WireModel.Run.ToString());
        metadata["continuousdl.sequence"].Should().Be("12345");
        metadata["format"].Should().Be("pt");
        var layout = "parameter tensor0 Float64[3]\nbuffer tensor1 ComplexFloat32[2]\nbuffer tensor2 Int8[5]"u8;
        metadata["continuousdl.fingerprint"].Should().Be(Convert.ToHexStringLower(XxHash128.Hash(layout)));
        metadata["continuousdl.digest"].Should().Be(PlainDigest(values, [8, 8, 8, 8, 8, 1, 1, 1, 1, 1]).ToString("x16", CultureInfo.InvariantCulture));
        metadata["continuousdl.signature"].Should().Be(Convert.ToHexStringLower(snapshot.Signature.Span)).And.HaveLength(64);
    }

    /// <summary>The digest by the document's formula.</summary>
    private static ulong PlainDigest(byte[] values, int[] sizes)
    {
        var (sum, offset) = (0ul, 0);
        for (var i = 0; i < sizes.Length; i++)
        {
            var bits = 0ul;
            for (var b = 0; b < sizes[i]; b++) bits |= (ulong)values[offset + b] << (8 * b);
            offset += sizes[i];
            sum += Mix(Mix(((ulong)i + 1) * 0x9e3779b97f4a7c15) + (bits * 0xd6e8feb86659fd93));
        }

        return sum;

        static ulong Mix(ulong z)
        {
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            return z ^ (z >> 31);
        }
    }

    private static byte[] Floats(IEnumerable<float> values) => [.. values.SelectMany(BitConverter.GetBytes)];

    /// <summary>The message with another precision in its flags.</summary>
    private static byte[] SetPrecision(byte[] message, DeployedValuePrecision precision)
    {
        var changed = message.ToArray();
        changed[3] = (byte)((changed[3] & ~0x18) | ((int)precision << 3));
        SetChecksum(changed);
        return changed;
    }

    /// <summary>Writes a number of 16 bits, the last of them at a place.</summary>
    private static void SetNumber(byte[] message, int last, int number)
    {
        for (var i = 0; i < 16; i++)
        {
            var (at, mask) = ((last - i) / 8, (byte)(1 << (7 - ((last - i) % 8))));
            message[at] = (byte)((number >> i & 1) != 0 ? message[at] | mask : message[at] & ~mask);
        }

        SetChecksum(message);
    }

    private static void SetChecksum(byte[] message) =>
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(message.Length - 4), (uint)XxHash3.HashToUInt64(message.AsSpan(0, message.Length - 4)));
}
