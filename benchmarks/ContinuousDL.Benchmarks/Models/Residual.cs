using ContinuousDL.Memory;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>A branch whose output is added to its input, or to what a shortcut makes of the input.</summary>
internal sealed class Residual : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> branch;
    private readonly Module<Tensor, Tensor>? shortcut;
    private readonly bool rectify;

    /// <param name="branch">The branch. It becomes this module's.</param>
    /// <param name="shortcut">Fits the input to the branch's output. Default: the input as it is.</param>
    /// <param name="rectify">Whether a ReLU follows the sum.</param>
    public Residual(Module<Tensor, Tensor> branch, Module<Tensor, Tensor>? shortcut = null, bool rectify = false)
        : base(nameof(Residual))
    {
        this.branch = branch;
        this.shortcut = shortcut;
        this.rectify = rectify;
        RegisterComponents();
    }

    /// <inheritdoc />
    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        var output = branch.call(input).AddInPlace(shortcut is null ? input : shortcut.call(input));
        if (rectify) output = output.relu_();
        return output.MoveToOuterDisposeScope();
    }

    /// <inheritdoc />
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            branch.Dispose();
            shortcut?.Dispose();
        }

        base.Dispose(disposing);
    }
}
