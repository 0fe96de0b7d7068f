using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Evaluation;

/// <summary>Finds, for every row of logits, the predicted class and whether the right one is among the k largest.</summary>
/// <remarks>
/// Of equal logits that of the lower class comes first, in both. The right class is among the k largest when fewer than k
/// come before it: counting those needs no sorting.
/// </remarks>
internal static class LogitScores
{
    /// <summary>The predicted class of a row that holds a NaN.</summary>
    public const int NoPrediction = -1;

    /// <summary>Scores a batch.</summary>
    /// <param name="logits">The logits, <c>[N, C]</c>, floating point, on any device.</param>
    /// <param name="labels">The right classes, N of them; a row whose label is not in 0 to C−1 gives an undefined result.</param>
    /// <param name="k">How many of the largest logits the right class may be among.</param>
    /// <param name="predicted">Receives the N predicted classes, or <see cref="NoPrediction"/>.</param>
    /// <param name="amongTopK">Receives whether the right class is among the k largest; false where there is no prediction.</param>
    public static void Compute(Tensor logits, ReadOnlySpan<long> labels, int k, Span<int> predicted, Span<bool> amongTopK)
    {
        // Arrivals are few at a time: reading their memory costs less than a single tensor operation.
        if (logits.device_type == DeviceType.CPU && logits.numel() <= int.MaxValue / sizeof(double))
        {
            ComputeFromMemory(logits, labels, k, predicted, amongTopK);
        }
        else
        {
            ComputeByTensorOperations(logits, labels, k, predicted, amongTopK);
        }
    }

    /// <summary>Does the same by tensor operations, where the logits are, so that only the results come to the CPU.</summary>
    public static void ComputeByTensorOperations(Tensor logits, ReadOnlySpan<long> labels, int k, Span<int> predicted, Span<bool> amongTopK)
    {
        using var scope = NewDisposeScope();
        using var noGradient = no_grad();
        var classes = logits.size(1);
        var device = logits.device;

        using var zero = 0.ToScalar();
        using var one = 1.ToScalar();
        using var last = (classes - 1).ToScalar();
        using var end = classes.ToScalar();
        var label = tensor(labels.ToArray(), ScalarType.Int64, device).clamp(zero, last).unsqueeze(1);
        var own = logits.gather(1, label);
        var all = arange(zero, end, one, ScalarType.Int64, device);
        var before = (logits > own).logical_or((logits == own).logical_and(all < label));
        var scores = stack([logits.argmax(1), before.sum(1), logits.isnan().any(1).to(ScalarType.Int64)]).cpu();
        var values = MemoryMarshal.Cast<byte, long>(scores.bytes);
        var n = labels.Length;
        for (var i = 0; i < n; i++)
        {
            var valid = values[2 * n + i] == 0;
            predicted[i] = valid ? (int)values[i] : NoPrediction;
            amongTopK[i] = valid && values[n + i] < k;
        }
    }

    private static void ComputeFromMemory(Tensor logits, ReadOnlySpan<long> labels, int k, Span<int> predicted, Span<bool> amongTopK)
    {
        var dtype = logits.dtype;
        if (dtype is (ScalarType.Float32 or ScalarType.Float64) && logits.is_contiguous())
        {
            if (dtype == ScalarType.Float64) ScoreRows<double>(logits, labels, k, predicted, amongTopK);
            else ScoreRows<float>(logits, labels, k, predicted, amongTopK);
            return;
        }

        // All narrower dtypes fit into float32 exactly.
        using var scope = NewDisposeScope();
        var copy = logits.detach().to(dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32).contiguous();
        ComputeFromMemory(copy, labels, k, predicted, amongTopK);
    }

    private static void ScoreRows<T>(Tensor logits, ReadOnlySpan<long> labels, int k, Span<int> predicted, Span<bool> amongTopK)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ReadOnlySpan<T> values = MemoryMarshal.Cast<byte, T>(logits.bytes);
        var classes = values.Length / labels.Length;
        for (var i = 0; i < labels.Length; i++)
        {
            var row = values.Slice(i * classes, classes);
            var max = TensorPrimitives.Max(row);
            if (T.IsNaN(max))
            {
                predicted[i] = NoPrediction;
                amongTopK[i] = false;
                continue;
            }

            // Not TensorPrimitives.IndexOfMax: it puts 0 before −0, which compare as equal everywhere else.
            predicted[i] = row.IndexOf(max);
            amongTopK[i] = predicted[i] == labels[i] || IsAmongTopK(row, labels[i], k);
        }

        // The finalizer of a tensor that nobody refers to any more would free the memory while it is read.
        GC.KeepAlive(logits);
    }

    private static bool IsAmongTopK<T>(ReadOnlySpan<T> row, long label, int k)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if ((ulong)label >= (ulong)row.Length) return false;
        var own = row[(int)label];
        var before = 0;
        for (var j = 0; j < row.Length && before < k; j++)
        {
            if (row[j] > own || (row[j] == own && j < label)) before++;
        }

        return before < k;
    }
}
