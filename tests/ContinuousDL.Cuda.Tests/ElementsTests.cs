using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The kernels' conversions, as C#, against the framework's.</summary>
public class ElementsTests
{
    /// <summary>Every number of 16 bits, the middle to the next one, and what is around both; and random ones.</summary>
    private static IEnumerable<float> Singles
    {
        get
        {
            for (var bits = 0; bits <= ushort.MaxValue; bits++)
            {
                var half = (float)BitConverter.UInt16BitsToHalf((ushort)bits);
                foreach (var around in new[] { BitConverter.SingleToInt32Bits(half), (int)(BitConverter.SingleToUInt32Bits(half) + 0x1000), bits << 16, (bits << 16) + 0x8000 })
                {
                    for (var step = -1; step <= 1; step++) yield return BitConverter.Int32BitsToSingle(around + step);
                }
            }

            // Middles between subnormal ones, and what float32 has below.
            for (var i = 0; i < 2048; i++)
            {
                foreach (var step in new[] { -1, 0, 1 }) yield return BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(i * MathF.ScaleB(1, -25)) + step);
            }

            var random = new Random(1);
            for (var i = 0; i < 200_000; i++) yield return BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue));
        }
    }

    [Test]
    public void Float16_is_read_as_the_framework_reads_it()
    {
        for (var bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var expected = BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)bits));
            if (BitConverter.SingleToUInt32Bits(Float16Elements.Read((ushort)bits)) != expected) Assert.Fail($"{bits:x4}");
        }
    }

    [Test]
    public void Float16_is_rounded_to_as_the_framework_does()
    {
        foreach (var value in Singles)
        {
            var expected = (Half)value;
            if (Float16Elements.Nearest(value) != BitConverter.HalfToUInt16Bits(expected)) Assert.Fail($"{value:g9}, {BitConverter.SingleToUInt32Bits(value):x8}");
            var rounded = Float16Elements.Round(value);
            if (!(rounded == (float)expected && float.IsNegative(rounded) == float.IsNegative(value)) && !(float.IsNaN(rounded) && float.IsNaN(value))) Assert.Fail($"{value:g9} rounded");
        }
    }

    [Test]
    public void BFloat16_is_read_and_rounded_to_as_torch_does()
    {
        foreach (var value in Singles)
        {
            var expected = Scalars.ToBFloat16(value);
            if (BFloat16Elements.Nearest(value) != expected) Assert.Fail($"{value:g9}, {BitConverter.SingleToUInt32Bits(value):x8}");
            if (BitConverter.SingleToUInt32Bits(BFloat16Elements.Round(value)) != (uint)expected << 16) Assert.Fail($"{value:g9} rounded");
            if (BitConverter.SingleToUInt32Bits(BFloat16Elements.Read(expected)) != (uint)expected << 16) Assert.Fail($"{value:g9} read");
        }
    }
}
