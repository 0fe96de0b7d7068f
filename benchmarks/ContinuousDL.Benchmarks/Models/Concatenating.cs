using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>A branch whose output is appended to its input's channels: one layer of a dense block.</summary>
internal sealed class Concatenating : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> branch;

    /// <param name="branch">The branch. It becomes this module's.</param>
    public Concatenating(Module<Tensor, Tensor> branch)
        : base(nameof(Concatenating))
    {
        this.branch = branch;
        RegisterComponents();
    }

    /// <inheritdoc />
    public override Tensor forward(Tensor input)
    {
        using var added = branch.call(input);
        return cat([input, added], 1);
    }

    /// <inheritdoc />
    protected override void Dispose(bool disposing)
    {
        if (disposing) branch.Dispose();
        base.Dispose(disposing);
    }
}
