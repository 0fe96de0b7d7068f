using System.Buffers.Binary;
using System.IO.Hashing;
using System.Numerics;
using ContinuousDL.Replication.Models;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>A decoder written from docs/wire-format.md alone, as plainly as can be: what the library's is compared with.</summary>
internal sealed class PlainDecoder
{
    private readonly byte[] message;
    private readonly ModelLayout layout;
    private readonly byte[] state;
    private readonly Dictionary<(CoordinateKind, DType), Model> models = [];
    private int position;
    private int flags;

    private PlainDecoder(byte[] message, ModelLayout layout, byte[] state) => (this.message, this.layout, this.state) = (message, layout, state);

    public long Sequence { get; private set; }

    public long Steps { get; private set; }

    public List<int> Coordinates { get; } = [];

    public List<byte> Values { get; } = [];

    /// <summary>How many bits the coordinates took.</summary>
    public int CoordinateBits { get; private set; }

    /// <summary>The classes of the floating-point values, in the order in which they were read.</summary>
    public List<int> Classes { get; } = [];

    /// <summary>Where the bits of the values end, in bits from the start of the message.</summary>
    public int EndOfValues { get; private set; }

    /// <summary>How many bits the values took, their models included.</summary>
    public int ValueBits { get; private set; }

    /// <summary>Decodes a message.</summary>
    /// <param name="message">The message.</param>
    /// <param name="layout">The model's tensors.</param>
    /// <param name="state">All values of the state that it is for, packed.</param>
    public static PlainDecoder Decode(byte[] message, ModelLayout layout, byte[] state)
    {
        var decoder = new PlainDecoder(message, layout, state);
        decoder.Decode();
        return decoder;
    }

    private void Decode()
    {
        Bytes(2).Should().Be('C' + (256ul * 'U'));
        Bytes(1).Should().Be(2);
        flags = (int)Bytes(1);
        var signature = ((flags >> 5) & 3) switch { 0 => 0, 1 => 32, 2 => 64, _ => throw new InvalidOperationException() };
        var end = message.Length - signature - 4;
        BinaryPrimitives.ReadUInt32LittleEndian(message.AsSpan(end)).Should().Be((uint)XxHash3.HashToUInt64(message.AsSpan(0, end)));
        Bytes(4).Should().Be((uint)layout.Fingerprint);
        Bytes((flags & 4) != 0 ? 16 : 4);
        Sequence = Varint();
        Steps = Varint();
        var count = (int)Varint();
        Bytes(8);
        if ((flags & 1) != 0) Coordinates.AddRange(Enumerable.Range(0, layout.Count));
        else ReadCoordinates(count);
        var start = position;
        ReadValues();
        (EndOfValues, ValueBits) = (position, position - start);
        position = (position + 7) / 8 * 8;
        (position / 8).Should().Be(end);
    }

    private void ReadCoordinates(int count)
    {
        var n = layout.Count;
        var complement = 2L * count > n;
        var listed = complement ? n - count : count;
        var start = position;
        long sum = 8 * ((n - listed) / (listed + 1L)), weight = 8;
        var numbers = new HashSet<int>();
        var next = 0;
        for (var i = 0; i < listed; i++)
        {
            var r = 0;
            while ((25 * weight) << r < (12 * sum) + (6 * weight)) r++;
            var zeros = 0;
            while (zeros < 24 && Bits(1) == 0) zeros++;
            var gap = zeros == 24 ? (long)Bits(31) : ((long)zeros << r) + (long)Bits(r);
            numbers.Add((int)(next + gap));
            next += (int)gap + 1;
            sum += gap;
            if (++weight == 64) (sum, weight) = (sum / 2, weight / 2);
        }

        CoordinateBits = position - start;
        position = (position + 7) / 8 * 8;
        Coordinates.AddRange(Enumerable.Range(0, n).Where(c => numbers.Contains(c) != complement));
    }

    private void ReadValues()
    {
        var tensors = layout.Entries.Where(e => e.Length > 0).ToList();
        for (var first = 0; first < tensors.Count;)
        {
            var next = first;
            while (next < tensors.Count && (tensors[next].Kind, tensors[next].DType) == (tensors[first].Kind, tensors[first].DType)) next++;
            var run = Coordinates.Where(c => c >= tensors[first].Offset && c < tensors[next - 1].End).ToArray();
            if (run.Length > 0) ReadRun(tensors[first], run);
            first = next;
        }
    }

    /// <summary>Reads the values of a run of tensors of one kind and dtype.</summary>
    private void ReadRun(LayoutEntry first, int[] coordinates)
    {
        var isFloat = first.DType is DType.Float32 or DType.Float64 or DType.BFloat16 or DType.Float16;
        if (!models.TryGetValue((first.Kind, first.DType), out var model)) models[(first.Kind, first.DType)] = model = ReadModel(isFloat);
        foreach (var block in coordinates.Chunk(1024))
        {
            foreach (var value in isFloat ? ReadFloats(model, first, block) : block.Select(c => ReadInteger(model, 8 * first.ElementSize, Old(c))))
            {
                for (var i = 0; i < first.ElementSize; i++) Values.Add((byte)(value >> (8 * i)));
            }
        }
    }

    /// <summary>The bits of a coordinate's old value.</summary>
    private ulong Old(int coordinate)
    {
        if ((flags & 2) == 0) return 0;
        var offset = 0;
        var entry = layout.Entries.First(e =>
        {
            if (coordinate < e.End) return true;
            offset += e.Length * e.ElementSize;
            return false;
        });
        return Scalars.Load(state.AsSpan(offset), coordinate - entry.Offset, entry.ElementSize);
    }

    private Model ReadModel(bool isFloat)
    {
        var sizes = new float[40];
        if (isFloat)
        {
            var q = (int)Bits(5);
            var first = (long)Bits(31 - q) << q;
            for (var s = 2; s < 39; s++)
            {
                var i = s - 2;
                var f = i <= 24 ? i : 23 + (1L << (i - 24));
                sizes[s] = BitConverter.UInt32BitsToSingle((uint)Math.Min(0x7f800000, first + (f << q)));
            }
        }

        var lengths = Enumerable.Range(0, 40).Select(s => s is >= 2 and <= 7 ? s - 1 : 12).ToArray();
        if (Bits(1) == 1) lengths = [.. Enumerable.Range(0, 40).Select(_ => (int)Bits(4))];
        var codes = new Dictionary<(int Length, int Code), int>();
        var code = 0;
        for (var length = 1; length <= 12; length++, code *= 2)
        {
            for (var s = 0; s < 40; s++)
            {
                if (lengths[s] == length) codes[(length, code++)] = s;
            }
        }

        return new Model(sizes, codes);
    }

    private int ReadSymbol(Model model)
    {
        var code = 0;
        for (var length = 1; length <= 12; length++)
        {
            code = (2 * code) + (int)Bits(1);
            if (model.Codes.TryGetValue((length, code), out var symbol)) return symbol;
        }

        throw new InvalidOperationException("No code.");
    }

    private ulong ReadInteger(Model model, int bits, ulong old)
    {
        var symbol = ReadSymbol(model);
        var change = symbol == 0 ? 0 : symbol == 39 ? (BigInteger)Bits(bits) : (BigInteger.One << (symbol - 1)) + Bits(symbol - 1);
        var signed = change.IsEven ? change / 2 : -(change + 1) / 2;
        var result = (old + signed) % (BigInteger.One << bits);
        return (ulong)(result < 0 ? result + (BigInteger.One << bits) : result);
    }

    private ulong[] ReadFloats(Model model, LayoutEntry entry, int[] coordinates)
    {
        var format = (entry.DType, entry.Kind, (flags >> 3) & 3) switch
        {
            (DType.Float32, CoordinateKind.Parameter, 1) or (DType.BFloat16, _, _) => DType.BFloat16,
            (DType.Float32, CoordinateKind.Parameter, 2) or (DType.Float16, _, _) => DType.Float16,
            _ => entry.DType,
        };
        var width = format switch { DType.Float32 => 32, DType.Float64 => 64, _ => 16 };
        var infinity = Round(format, double.PositiveInfinity);
        var classes = coordinates.Select(_ => (Symbol: ReadSymbol(model), Negative: Bits(1) == 1)).ToArray();
        var (lower, count, numbers) = (new BigInteger[classes.Length], new BigInteger[classes.Length], new BigInteger[classes.Length]);
        Classes.AddRange(classes.Select(c => c.Symbol));
        for (var j = 0; j < classes.Length; j++)
        {
            var (symbol, negative) = classes[j];
            if (symbol == 39)
            {
                (lower[j], count[j]) = (0, BigInteger.One << width);
                continue;
            }

            var a = Scalars.ToDouble(entry.DType, Old(coordinates[j]));
            if (!double.IsFinite(a)) throw new InvalidDataException("Another class than 39 on an old value that is not finite.");
            if (negative) a = -a;
            BigInteger start = Order(Round(format, a), width);
            BigInteger Boundary(int s) => s switch
            {
                0 => start,
                1 => start + 1,
                39 => Order(infinity, width),
                _ => BigInteger.Max(start + 1, Order(Round(format, entry.DType == DType.Float64 ? a + model.Sizes[s] : (float)a + model.Sizes[s]), width)),
            };
            lower[j] = Boundary(symbol);
            count[j] = Boundary(symbol + 1) - lower[j];
        }

        BigInteger Shorter(int j) => (BigInteger.One << (int)count[j].GetBitLength()) - count[j];
        for (var j = 0; j < classes.Length; j++) numbers[j] = Bits((int)count[j].GetBitLength() - 1);
        for (var j = 0; j < classes.Length; j++)
        {
            if (numbers[j] >= Shorter(j)) numbers[j] = (2 * numbers[j]) + Bits(1) - Shorter(j);
        }

        return [.. classes.Select((c, j) =>
        {
            var order = (ulong)(lower[j] + numbers[j]);
            if (c.Symbol == 39) return Store(entry.DType, format, order);
            var half = 1ul << (width - 1);
            var code = order >= half ? order - half : (half - 1 - order) | half;
            return Store(entry.DType, format, c.Negative ? code ^ half : code);
        })];
    }

    private static ulong Order(ulong code, int width)
    {
        var half = 1ul << (width - 1);
        return code >= half ? half - 1 - (code - half) : code + half;
    }

    /// <summary>The bits of the nearest value of a format; −0 stays −0.</summary>
    private static ulong Round(DType format, double value)
    {
        if (format == DType.Float64) return BitConverter.DoubleToUInt64Bits(value);
        if (format == DType.Float16) return BitConverter.HalfToUInt16Bits((Half)(float)value);
        var bits = BitConverter.SingleToUInt32Bits((float)value);
        return format == DType.Float32 ? bits : (bits >> 16) + ((bits & 0xffff) + ((bits >> 16) & 1) > 0x8000 ? 1u : 0);
    }

    private static ulong Store(DType dtype, DType format, ulong code) => (dtype, format) switch
    {
        (DType.Float32, DType.BFloat16) => code << 16,
        (DType.Float32, DType.Float16) => BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)code)),
        _ => code,
    };

    /// <summary>Fixed-size numbers: the least significant byte first.</summary>
    private ulong Bytes(int count)
    {
        var value = 0ul;
        for (var i = 0; i < count; i++, position += 8)
        {
            if (i < 8) value |= (ulong)message[position / 8] << (8 * i);
        }

        return value;
    }

    private long Varint()
    {
        var value = 0L;
        for (var shift = 0; ; shift += 7)
        {
            var group = (long)Bytes(1);
            value |= (group & 0x7f) << shift;
            if (group < 0x80) return value;
        }
    }

    private ulong Bits(int count)
    {
        var value = 0ul;
        for (var i = 0; i < count; i++, position++) value = (value << 1) | (uint)((message[position / 8] >> (7 - (position % 8))) & 1);
        return value;
    }

    private sealed record Model(float[] Sizes, Dictionary<(int Length, int Code), int> Codes);
}
