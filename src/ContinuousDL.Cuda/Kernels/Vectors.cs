using System.Runtime.InteropServices;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>Four values that are loaded and stored together, in 128 bits.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Quad
{
    public float A;
    public float B;
    public float C;
    public float D;
}

/// <summary>128 bits that are loaded and stored together.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Words
{
    public int A;
    public int B;
    public int C;
    public int D;
}
