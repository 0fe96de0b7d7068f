using ContinuousDL.Replication.Models;

namespace ContinuousDL.Tests.Wire;

/// <summary>Values of all kinds: ordinary ones, special ones, and bits at random.</summary>
internal static class WireValues
{
    private static readonly double[] Special =
    [
        0, -0.0, double.NaN, double.PositiveInfinity, double.NegativeInfinity, double.Epsilon, double.MaxValue, float.Epsilon, -float.Epsilon,
        float.MaxValue, -float.MaxValue, 1e-40, 65504, -65505, 65520, 3.4e38, 1, -1,
    ];

    /// <summary>Values for all tensors of a layout, packed.</summary>
    public static byte[] Any(ModelLayout layout, Random random) =>
        [.. layout.Entries.SelectMany(e =>
        {
            var mode = random.Next(4);
            return Enumerable.Range(0, e.Length).SelectMany(_ => Any(e.DType, e.ElementSize, random, mode));
        })];

    /// <summary>The same values, changed as training changes them, as anything does, or not at all.</summary>
    public static byte[] Changed(ModelLayout layout, byte[] before, Random random)
    {
        var after = before.ToArray();
        var offset = 0;
        foreach (var entry in layout.Entries)
        {
            var mode = random.Next(4);
            var size = Math.Pow(10, random.Next(-6, 2));
            for (var i = 0; i < entry.Length; i++, offset += entry.ElementSize)
            {
                var own = after.AsSpan(offset, entry.ElementSize);
                if (mode == 0) Any(entry.DType, entry.ElementSize, random, random.Next(4)).CopyTo(own);
                else if (mode == 1) Convert(entry.DType, ToDouble(entry.DType, own) + (random.Next(2) == 0 ? size : -size) * (1 + random.NextDouble() / 10), own);
                else if (mode == 2) Convert(entry.DType, Round(ToDouble(entry.DType, own) + size, random), own);
            }
        }

        return after;
    }

    /// <summary>Weights, and the same after a step of training: each moved by a little more than a threshold, one way or the other.</summary>
    public static (byte[] Before, byte[] After) Trained(ModelLayout layout, Random random, DeployedValuePrecision precision = DeployedValuePrecision.Float32)
    {
        var before = new byte[layout.SizeInBytes];
        var after = new byte[layout.SizeInBytes];
        foreach (var entry in layout.Entries)
        {
            var rounding = entry.Kind == CoordinateKind.Parameter ? precision : DeployedValuePrecision.Float32;
            for (var i = entry.Offset; i < entry.End; i++)
            {
                var weight = (float)((random.NextDouble() - 0.5) * 0.1);
                var change = 1e-3 * (1 + (0.01 * -Math.Log(1 - random.NextDouble()))) * (random.Next(2) == 0 ? 1 : -1);
                Scalars.Store(before, i, 4, BitConverter.SingleToUInt32Bits(weight));
                Scalars.Store(after, i, 4, BitConverter.SingleToUInt32Bits(rounding.Round((float)(weight + change))));
            }
        }

        return (before, after);
    }

    private static double Round(double value, Random random) => random.Next(2) == 0 ? BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits((float)value) & 0xffff0000) : (float)(Half)value;

    private static byte[] Any(DType dtype, int size, Random random, int mode)
    {
        var bytes = new byte[size];
        if (mode == 0) random.NextBytes(bytes);
        else if (mode == 1) Convert(dtype, Special[random.Next(Special.Length)], bytes);
        else Convert(dtype, (random.NextDouble() - 0.5) * (mode == 2 ? 0.1 : 200), bytes);
        return bytes;
    }

    private static double ToDouble(DType dtype, ReadOnlySpan<byte> bytes) => Scalars.ToDouble(dtype, Scalars.Load(bytes, 0, bytes.Length));

    private static void Convert(DType dtype, double value, Span<byte> bytes)
    {
        var bits = dtype switch
        {
            DType.Float32 or DType.ComplexFloat32 => BitConverter.SingleToUInt32Bits((float)value),
            DType.Float64 => BitConverter.DoubleToUInt64Bits(value),
            DType.Float16 => BitConverter.HalfToUInt16Bits((Half)value),
            DType.BFloat16 => BitConverter.SingleToUInt32Bits((float)value) >> 16,
            DType.Bool => value > 0 ? 1ul : 0,
            _ => unchecked((ulong)(long)(double.IsFinite(value) ? Math.Clamp(value, -1e18, 1e18) : 0)),
        };
        Scalars.Store(bytes, 0, bytes.Length, bits);
    }
}
