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
