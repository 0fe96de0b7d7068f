namespace ContinuousDL.Replication.Models;

/// <summary>The numbers that the deployed values of float32 parameters are rounded to: fewer bits for each, and updates are smaller.</summary>
public enum DeployedValuePrecision
{
    /// <summary>They are not rounded.</summary>
    Float32,

    /// <summary>bfloat16: the range of float32, 8 bits of precision.</summary>
    BFloat16,

    /// <summary>float16: 11 bits of precision from 6e-5 on, and none below 3e-8. Values above 65,504 become that.</summary>
    Float16,
}

/// <summary>Rounds values as a <see cref="DeployedValuePrecision"/> says.</summary>
public static class DeployedValueRounding
{
    /// <summary>The nearest value of the precision, ties to even; the largest finite one where a finite value would become infinite.</summary>
    public static float Round(this DeployedValuePrecision precision, float value)
    {
        var rounded = precision switch
        {
            DeployedValuePrecision.BFloat16 => BitConverter.UInt32BitsToSingle((uint)Scalars.ToBFloat16(value) << 16),
            DeployedValuePrecision.Float16 => (float)(Half)value,
            _ => value,
        };
        if (float.IsFinite(rounded) || !float.IsFinite(value)) return rounded;
        var largest = precision == DeployedValuePrecision.BFloat16 ? BitConverter.UInt32BitsToSingle(0x7f7f0000) : (float)Half.MaxValue;
        return MathF.CopySign(largest, value);
    }
}
