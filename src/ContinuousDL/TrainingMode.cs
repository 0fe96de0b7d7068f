using ContinuousDL.Evaluation;
using static TorchSharp.torch;

namespace ContinuousDL;

/// <summary>
/// Puts a model into training mode as it was when it was handed over: a batch norm that its owner froze inside a training
/// model stays frozen, even after somebody called <c>eval()</c> on the whole.
/// </summary>
internal sealed class TrainingMode
{
    private readonly nn.Module[] modules;
    private readonly bool[] modes;

    public TrainingMode(nn.Module model)
    {
        // A model handed over in eval mode says nothing of how it is meant to be trained.
        if (!model.training) model.train();
        modules = EvaluationMode.ModulesOf(model);
        modes = Array.ConvertAll(modules, m => m.training);
    }

    public void Enter()
    {
        if (modules[0].training) return;
        modules[0].train();

        // train() also sets the modules inside, so those come after the module that holds them.
        for (var i = 0; i < modules.Length; i++)
        {
            if (modules[i].training != modes[i]) modules[i].train(modes[i]);
        }
    }

    /// <summary>Puts the model into evaluation mode until the result is disposed.</summary>
    public EvaluationMode Evaluate() => EvaluationMode.Enter(modules);
}
