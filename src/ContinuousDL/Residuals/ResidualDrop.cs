using ContinuousDL.Vectors;

namespace ContinuousDL.Residuals;

/// <summary>Makes a residual memory forget what it owes to one tensor.</summary>
internal static class ResidualDrop
{
    /// <summary>Tells the memory, between two steps, that all it owes to the tensor was sent, which every memory understands.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="layout">The tensors of its vector.</param>
    /// <param name="tensor">The tensor's index.</param>
    /// <param name="scratch">Is overwritten.</param>
    public static void Drop(IResidualMemory memory, VectorLayout layout, int tensor, CompressedGradient scratch)
    {
        var owed = memory.Accumulated[layout[tensor]];
        scratch.SetSparse(layout.Length, owed.Length);
        owed.CopyTo(scratch.Values);
        for (var j = 0; j < owed.Length; j++) scratch.Indices[j] = layout.Offsets[tensor] + j;
        memory.Release(scratch);
    }
}
