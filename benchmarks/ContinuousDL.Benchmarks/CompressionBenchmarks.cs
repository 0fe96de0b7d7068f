using BenchmarkDotNet.Attributes;
using ContinuousDL.Benchmarks.Compression;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Compression;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks;

/// <summary>One step of top-k compression with error feedback (accumulate, select, release), against the ways it is usually done and against a copy.</summary>
[Config(typeof(BenchmarkConfig.Short))]
public class CompressionBenchmarks
{
    private HeavyTailedGradients gradients = null!;
    private UsualRecipe recipe = null!;
    private ThresholdEstimate estimate = null!;
    private ErrorFeedbackTopK wholeModel = null!;
    private ErrorFeedbackTopK perTensor = null!;
    private Tensor copy = null!;

    /// <summary>The names of the models whose layers are compressed.</summary>
    public static IEnumerable<string> Models => LayerLengths.Names;

    /// <summary>Whose layers are compressed.</summary>
    [ParamsSource(nameof(Models))]
    public string Model { get; set; } = "";

    /// <summary>The share of the coordinates that is sent.</summary>
    [Params(1e-2, 1e-3, 1e-4)]
    public double Density { get; set; }

    /// <summary>Draws the gradients.</summary>
    [GlobalSetup]
    public void Setup()
    {
        random.manual_seed(1);
        var layout = LayerLengths.Of(Model);
        gradients = new HeavyTailedGradients(layout);
        recipe = new UsualRecipe(layout.Length, Density);
        estimate = new ThresholdEstimate(layout.Length, Density);
        wholeModel = new ErrorFeedbackTopK(layout, Density, CompressionScope.WholeModel);
        perTensor = new ErrorFeedbackTopK(layout, Density, CompressionScope.PerTensor);
        copy = zeros(layout.Length);
    }

    /// <summary><c>topk(abs)</c>, clone, zero the selected, subtract, with TorchSharp operations.</summary>
    [Benchmark(Baseline = true)]
    public void TorchSharpTopK() => recipe.Step(gradients.Next()).Dispose();

    /// <summary>GRACE's threshold estimate from a sample, with TorchSharp operations.</summary>
    [Benchmark]
    public void TorchSharpThresholdEstimate() => estimate.Step(gradients.Next()).Dispose();

    /// <summary>Ours, the k largest of the whole model.</summary>
    [Benchmark]
    public void WholeModel() => wholeModel.Step(gradients.Next());

    /// <summary>Ours, the k largest of each tensor.</summary>
    [Benchmark]
    public void PerTensor() => perTensor.Step(gradients.Next());

    /// <summary>A copy of n floats: half of the memory traffic that reading a gradient and updating a residual takes, and a bit.</summary>
    [Benchmark]
    public void Copy() => HeavyTailedGradients.Elements(gradients.Next()).CopyTo(HeavyTailedGradients.Elements(copy));

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        gradients.Dispose();
        recipe.Dispose();
        estimate.Dispose();
        wholeModel.Dispose();
        perTensor.Dispose();
        copy.Dispose();
    }
}
