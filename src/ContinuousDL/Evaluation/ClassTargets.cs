using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Evaluation;

/// <summary>Reads targets as one class for each row of logits.</summary>
internal static class ClassTargets
{
    /// <summary>
    /// How far the probabilities of a target may be from 1 in all: float16 and bfloat16 keep three and two decimal digits.
    /// </summary>
    private const double SumTolerance = 0.01;

    /// <summary>Reads class indices.</summary>
    /// <param name="targets">The targets, of any shape.</param>
    /// <param name="binary">Whether targets of other dtypes, with the values 0 and 1, are class indices, too.</param>
    /// <param name="destination">Receives a class for each target.</param>
    /// <exception cref="ArgumentException">The dtype is not that of class indices.</exception>
    public static void ReadIndices(Tensor targets, bool binary, Span<long> destination)
    {
        var dtype = targets.dtype;
        if (dtype == ScalarType.Int64 && targets.device_type == DeviceType.CPU && targets.is_contiguous())
        {
            MemoryMarshal.Cast<byte, long>(targets.bytes).CopyTo(destination);
            GC.KeepAlive(targets);
            return;
        }

        using var scope = NewDisposeScope();
        switch (dtype)
        {
            case ScalarType.Byte or ScalarType.Int8 or ScalarType.Int16 or ScalarType.Int32 or ScalarType.Int64:
            case ScalarType.Bool when binary:
                MemoryMarshal.Cast<byte, long>(targets.to(ScalarType.Int64).cpu().contiguous().bytes).CopyTo(destination);
                break;
            case ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 or ScalarType.Float64 when binary:
                ReadBinary(targets, destination);
                break;
            default:
                throw new ArgumentException($"The targets are of dtype {dtype}; class indices are of an integer dtype.", nameof(targets));
        }
    }

    /// <summary>Checks that each target is a class, or the one to ignore.</summary>
    /// <exception cref="ArgumentOutOfRangeException">One is not.</exception>
    public static void CheckIndices(ReadOnlySpan<long> targets, int classes, long? ignoreIndex)
    {
        for (var i = 0; i < targets.Length; i++)
        {
            var label = targets[i];
            if ((ulong)label < (ulong)classes || label == ignoreIndex) continue;
            var orIgnored = ignoreIndex is { } ignored ? $", and {ignored} to ignore a sample" : "";
            throw new ArgumentOutOfRangeException(nameof(targets), label,
                $"Target {i} is no class: there are {classes} classes, 0 to {classes - 1}{orIgnored}.");
        }
    }

    /// <summary>Reads the most probable class, the lowest among equals, of soft labels.</summary>
    /// <param name="targets">The probabilities, <c>[N, C, ...]</c>, floating point.</param>
    /// <param name="destination">Receives a class for each row.</param>
    /// <exception cref="ArgumentOutOfRangeException">A row is no distribution over the classes.</exception>
    public static void ReadProbabilities(Tensor targets, Span<long> destination)
    {
        using var scope = NewDisposeScope();
        var classes = (int)targets.size(1);
        var rows = ClassRows.Of(targets.detach()).to(ScalarType.Float64).cpu().contiguous();
        ReadOnlySpan<double> values = MemoryMarshal.Cast<byte, double>(rows.bytes);
        for (var i = 0; i < destination.Length; i++)
        {
            var row = values.Slice(i * classes, classes);
            var sum = TensorPrimitives.Sum(row);
            if (!(TensorPrimitives.Min(row) >= 0 && Math.Abs(sum - 1) <= SumTolerance))
            {
                throw new ArgumentOutOfRangeException(nameof(targets), sum,
                    $"Target {i} is no distribution over the {classes} classes: probabilities are at least 0, with the sum 1. "
                    + $"For labels that do not exclude each other there is {nameof(MultiLabelEvaluator)}.");
            }

            destination[i] = row.IndexOf(TensorPrimitives.Max(row));
        }
    }

    private static void ReadBinary(Tensor targets, Span<long> destination)
    {
        var values = MemoryMarshal.Cast<byte, double>(targets.detach().to(ScalarType.Float64).cpu().contiguous().bytes);
        for (var i = 0; i < values.Length; i++)
        {
            destination[i] = (long)values[i];
            if (destination[i] == values[i]) continue;
            throw new ArgumentOutOfRangeException(nameof(targets), values[i], $"Target {i} is no class: it is to be 0 or 1.");
        }
    }
}
