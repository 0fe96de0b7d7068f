using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Puts a model in evaluation mode until it is disposed, which puts back the mode of every module in it: a batch norm that was
/// frozen inside a training model is frozen again afterwards.
/// </summary>
internal readonly struct EvaluationMode : IDisposable
{
    private readonly List<(nn.Module Module, bool Training)>? modes;

    private EvaluationMode(List<(nn.Module Module, bool Training)> modes) => this.modes = modes;

    /// <summary>Puts a model in evaluation mode. One that is in it already is left alone.</summary>
    public static EvaluationMode Enter(nn.Module model)
    {
        List<(nn.Module Module, bool Training)> modes = [(model, model.training)];
        var training = model.training;
        foreach (var module in model.modules())
        {
            modes.Add((module, module.training));
            training |= module.training;
        }

        if (!training) return default;
        var mode = new EvaluationMode(modes);
        model.eval();
        return mode;
    }

    /// <summary>Puts back the modes.</summary>
    public void Dispose()
    {
        // train() also sets the modules inside, so those must come after the module that holds them: the order of modules().
        if (modes is null) return;
        foreach (var (module, training) in modes) module.train(training);
    }
}
