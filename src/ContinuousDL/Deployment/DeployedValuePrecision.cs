namespace ContinuousDL.Deployment;

/// <summary>The numbers that the deployed values of float32 parameters are rounded to: fewer bits for each, and updates are smaller.</summary>
public enum DeployedValuePrecision
{
    /// <summary>They are not rounded.</summary>
    Float32,

    /// <summary>bfloat16: the range of float32, 8 bits of precision.</summary>
    BFloat16,

    /// <summary>float16: up to 65,504, 11 bits of precision above 6e-5.</summary>
    Float16,
}
