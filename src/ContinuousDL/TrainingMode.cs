using static TorchSharp.torch;

namespace ContinuousDL;

/// <summary>
/// Puts a model into training mode as it was when it was handed over: a batch norm that its owner froze inside a training
/// model stays frozen, even after somebody called <c>eval()</c> on the whole.
/// </summary>
internal sealed class TrainingMode
{
    private readonly nn.Module model;
    private readonly (nn.Module Module, bool Training)[] modes;

    public TrainingMode(nn.Module model)
    {
        this.model = model;

        // A model handed over in eval mode says nothing of how it is meant to be trained.
        if (!model.training) model.train();
        modes = [.. model.modules().Select(m => (m, m.training))];
    }

    public void Enter()
    {
        if (model.training) return;
        model.train();

        // train() also sets the modules inside, so those come after the module that holds them: the order of modules().
        foreach (var (module, training) in modes)
        {
            if (module.training != training) module.train(training);
        }
    }
}
