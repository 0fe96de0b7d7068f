using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>What the samples of a history look like: one input and one target.</summary>
/// <param name="Input">What one input looks like.</param>
/// <param name="Target">What one target looks like.</param>
internal sealed record SampleFormat(RowFormat Input, RowFormat Target)
{
    /// <summary>The size of one sample in bytes.</summary>
    public long Bytes => Input.Bytes + Target.Bytes;

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
