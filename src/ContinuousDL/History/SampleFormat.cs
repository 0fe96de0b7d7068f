using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>The format of a history's samples: one input and one target.</summary>
/// <param name="Input">The format of one input.</param>
/// <param name="Target">The format of one target.</param>
internal sealed record SampleFormat(TensorFormat Input, TensorFormat Target)
{
    /// <summary>The size of one sample in bytes.</summary>
    public long Bytes => Input.Bytes + Target.Bytes;

    /// <summary>Takes the format from a batch.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c>.</param>
    /// <param name="expected">The format of the samples before, if there are any.</param>
    /// <param name="count">The number of samples, N.</param>
    /// <exception cref="ArgumentException">The batch is empty, the counts differ, or shape or dtype is not the expected one.</exception>
    /// <exception cref="ObjectDisposedException">One of the tensors is disposed.</exception>
    public static SampleFormat Of(Tensor inputs, Tensor targets, SampleFormat? expected, out long count)
    {
        var input = TensorFormat.Of(inputs, nameof(inputs), out count);
        var target = TensorFormat.Of(targets, nameof(targets), out var targetCount);
        if (count != targetCount)
            throw new ArgumentException($"There are {count} inputs and {targetCount} targets; each input has one target.", nameof(targets));
        expected?.Input.CheckMatches(input, nameof(inputs));
        expected?.Target.CheckMatches(target, nameof(targets));
        return new SampleFormat(input, target);
    }

    /// <summary>Makes uninitialised tensors for samples, on the CPU. They belong to the caller and to no dispose scope.</summary>
    /// <param name="rows">The number of samples.</param>
    public (Tensor Inputs, Tensor Targets) NewTensors(long rows)
    {
        // A tensor that is made in inference mode could neither be written to nor be trained on outside of it.
        using var ordinaryTensors = inference_mode(false);
        var inputs = Input.NewTensor(rows);
        try
        {
            return (inputs, Target.NewTensor(rows));
        }
        catch
        {
            inputs.Dispose();
            throw;
        }
    }
}
