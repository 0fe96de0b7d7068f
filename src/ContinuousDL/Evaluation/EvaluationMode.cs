using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Puts a model in evaluation mode until it is disposed, which puts back the mode of every module in it: a batch norm that was
/// frozen inside a training model is frozen again afterwards.
/// </summary>
internal readonly struct EvaluationMode : IDisposable
{
    private readonly nn.Module[]? modules;
    private readonly bool[] modes;

    private EvaluationMode(nn.Module[] modules, bool[] modes) => (this.modules, this.modes) = (modules, modes);

    /// <summary>The modules of a model as <see cref="Enter(nn.Module[])"/> takes them: the model, then those inside, each after the one that holds it.</summary>
    public static nn.Module[] ModulesOf(nn.Module model) => [model, .. model.modules()];

    /// <summary>Puts a model in evaluation mode. One that is in it already is left alone.</summary>
    public static EvaluationMode Enter(nn.Module model) => Enter(ModulesOf(model));

    /// <summary>Puts a model in evaluation mode. One that is in it already is left alone.</summary>
    /// <param name="modules">Its modules, see <see cref="ModulesOf"/>: finding them takes longer than all the rest.</param>
    public static EvaluationMode Enter(nn.Module[] modules)
    {
        if (!Array.Exists(modules, static m => m.training)) return default;
        var modes = Array.ConvertAll(modules, static m => m.training);
        modules[0].eval();
        return new EvaluationMode(modules, modes);
    }

    /// <summary>Puts back the modes.</summary>
    public void Dispose()
    {
        // train() also sets the modules inside, so those must come after the module that holds them.
        for (var i = 0; i < modules?.Length; i++)
        {
            if (modules[i].training != modes[i]) modules[i].train(modes[i]);
        }
    }
}
