using System.Runtime.InteropServices;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>Where one of a model's tensors is, as kernels look it up by coordinate.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TensorPlace
{
    /// <summary>How far its first element is from the start of the memory, in elements of its own size.</summary>
    public long First;

    /// <summary>Its first coordinate in the numbering that it is looked up by.</summary>
    public int Start;

    /// <summary>Its first coordinate in the model's layout.</summary>
    public int Offset;

    /// <summary>The bytes of an element: 1, 2, 4 or 8.</summary>
    public int Size;

    /// <summary>What an element's bits mean, a <see cref="NumberFormat"/>; only for what is added to.</summary>
    public int Format;
}
