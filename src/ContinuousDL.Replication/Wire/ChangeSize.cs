namespace ContinuousDL.Replication.Wire;

/// <summary>The size of a change, as what a model is fitted to.</summary>
/// <param name="Bits">The bits of about the largest size that leads to the same value, a float32.</param>
/// <param name="Step">The logarithm of the distance of the values there, rounded down.</param>
internal readonly record struct ChangeSize(uint Bits, int Step)
{
    /// <summary>The bits of a float32's exponent, which are those of infinity.</summary>
    public const uint ExponentMask = 0x7f800000;

    /// <summary>The bits of a float32 below its exponent.</summary>
    public const int MantissaBits = 23;

    private const int ExponentBias = 127;

    /// <summary>The logarithm of a positive float32, rounded down.</summary>
    public static int Log2(uint bits) => (int)(bits >> MantissaBits) - ExponentBias;
}
