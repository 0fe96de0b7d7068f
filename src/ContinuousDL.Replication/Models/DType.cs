namespace ContinuousDL.Replication.Models;

/// <summary>The type of a tensor's elements, of those that can be replicated: elements of at most 8 bytes. Names and numbers are PyTorch's own.</summary>
public enum DType
{
    /// <summary>Unsigned integers of 8 bits.</summary>
    Byte = 0,

    /// <summary>Signed integers of 8 bits.</summary>
    Int8 = 1,

    /// <summary>Signed integers of 16 bits.</summary>
    Int16 = 2,

    /// <summary>Signed integers of 32 bits.</summary>
    Int32 = 3,

    /// <summary>Signed integers of 64 bits.</summary>
    Int64 = 4,

    /// <summary>IEEE 754 binary16.</summary>
    Float16 = 5,

    /// <summary>IEEE 754 binary32.</summary>
    Float32 = 6,

    /// <summary>IEEE 754 binary64.</summary>
    Float64 = 7,

    /// <summary>Complex numbers of two <see cref="Float32"/>, the real part first.</summary>
    ComplexFloat32 = 9,

    /// <summary>Booleans, a byte each.</summary>
    Bool = 11,

    /// <summary>The upper half of <see cref="Float32"/>.</summary>
    BFloat16 = 15,
}
