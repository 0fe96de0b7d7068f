using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Vectors;

namespace ContinuousDL.Cuda.Models;

/// <summary>
/// Puts parameters on their device at w + α·e at the coordinates that were sent, since both w and e have changed there: of all
/// tensors in one launch.
/// </summary>
/// <remarks>Not thread-safe.</remarks>
internal sealed class LookAheadWriter : IDisposable
{
    private readonly IKernelQueue queue;
    private readonly TensorTable targets, weights;
    private readonly float lookahead;

    private LookAheadWriter(IKernelQueue queue, TensorTable targets, TensorTable weights, float lookahead)
    {
        (this.queue, this.targets, this.weights, this.lookahead) = (queue, targets, weights, lookahead);
    }

    /// <summary>Prepares for parameters.</summary>
    /// <param name="queue">The queue of the parameters' device. Stays the caller's.</param>
    /// <param name="layout">The tensors of the residual, e.</param>
    /// <param name="targets">What is written, as many tensors. They stay their owner's.</param>
    /// <param name="weights">The weights w, of the same dtypes. They stay their owner's.</param>
    /// <param name="lookahead">α; with 0, elements become w whatever is owed.</param>
    /// <returns>The writer, which is the caller's; null where kernels can't address the tensors.</returns>
    public static LookAheadWriter? TryMake(IKernelQueue queue, VectorLayout layout, IEnumerable<TensorSlot> targets, IEnumerable<TensorSlot> weights, float lookahead)
    {
        if (TableOf(queue, layout, targets) is not { } first || TableOf(queue, layout, weights) is not { } second) return null;
        return new LookAheadWriter(queue, first, second, lookahead);
    }

    /// <summary>Writes what was selected last, or given.</summary>
    /// <param name="selector">The selector with the coordinates and the residual, from which what was sent has been taken off.</param>
    public void Write(DeviceSelector selector)
    {
        if (selector.Count == 0) return;
        targets.Refresh();
        weights.Refresh();
        queue.Launch(
            nameof(ModelKernels.LookAhead),
            queue.GroupsFor(selector.Count),
            [targets.Memory, targets.Tensors, weights.Memory, weights.Tensors, selector.ResidualView, selector.SentView, lookahead]);
    }

    /// <summary>Frees the memory.</summary>
    public void Dispose()
    {
        targets.Dispose();
        weights.Dispose();
    }

    /// <summary>The table of tensors whose values are rounded to nothing but their dtype.</summary>
    private static TensorTable? TableOf(IKernelQueue queue, VectorLayout layout, IEnumerable<TensorSlot> slots) =>
        TensorTable.TryMake(queue, layout, slots, DeployedValuePrecision.Float32, out _);
}
