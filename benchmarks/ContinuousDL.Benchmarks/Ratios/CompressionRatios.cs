using ContinuousDL.Benchmarks.Compression;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Compression;
using ContinuousDL.Residuals;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>Compression against the usual recipe and against a copy, and whole-model against per-tensor selection.</summary>
internal static class CompressionRatios
{
    /// <summary>The recipe takes so long, and is so far off, that few rounds of it have to do.</summary>
    private static readonly TimeSpan BudgetOfRecipe = TimeSpan.FromSeconds(4);

    private static readonly TimeSpan BudgetOfWorst = TimeSpan.FromSeconds(0.4);

    /// <summary>The recipe takes and gives back so much memory that the first pass after it meets pages that the system has taken meanwhile.</summary>
    private static readonly TimeSpan LongestWake = TimeSpan.FromMilliseconds(100);

    private static readonly TimeSpan BudgetOfOthers = TimeSpan.FromSeconds(5);

    /// <summary>A group for each model of 2.2 M parameters and more, and each density.</summary>
    public static IEnumerable<RatioGroup> Groups() =>
        from model in LayerLengths.Names.Skip(1)
        from density in (double[])[1e-2, 1e-3, 1e-4]
        select Group(model, density);

    /// <summary>A group for a small and a large model: the slowest of the hard inputs against an ordinary one.</summary>
    public static IEnumerable<RatioGroup> WorstCases() =>
        from model in (string[])["LeNet-5", "ResNet-18"]
        from density in (double[])[1e-2, 1e-3]
        select new RatioGroup(
            [new(FormattableString.Invariant($"compress: worst of {AdversarialVectors.Names.Count} adversarial inputs / normal values, {model}, d={density:0.####}"), 4)],
            () => [MeasureWorst(LayerLengths.Of(model), density)]);

    private static Measurement MeasureWorst(VectorLayout layout, double density)
    {
        // Without error feedback, which would mix every input with those before it.
        var random = new Random(2);
        float[][] normal = [.. Enumerable.Range(0, 3).Select(_ => AdversarialVectors.Normal(layout.Length, 1, random))];
        using var typical = new ErrorFeedbackTopK(layout, density, CompressionScope.WholeModel, new NoResidualMemory());

        // What is measured first would be measured while the runtime still compiles it anew.
        _ = PairedTimes.Measure(BudgetOfWorst, () => EachOf(typical, normal));
        var worst = (Name: "", Measurement: new Measurement(Spread.Exactly(0), ""));
        foreach (var name in AdversarialVectors.Names)
        {
            var vectors = AdversarialVectors.Make(name, layout.Length);
            using var hard = new ErrorFeedbackTopK(layout, density, CompressionScope.WholeModel, new NoResidualMemory());
            var times = PairedTimes.Measure(BudgetOfWorst, () => EachOf(hard, vectors), () => EachOf(typical, normal));
            var measured = Measurement.Of(times, 0, 1, (double)normal.Length / vectors.Length);
            if (measured.Spread.Median > worst.Measurement.Spread.Median) worst = (name, measured);
        }

        return worst.Measurement with { Detail = worst.Name };
    }

    private static void EachOf(ErrorFeedbackTopK compression, float[][] vectors)
    {
        foreach (var vector in vectors) compression.Step(vector);
    }

    private static RatioGroup Group(string model, double density)
    {
        var where = FormattableString.Invariant($"{model}, d={density:0.####}");
        var bars = new List<Bar>
        {
            new($"compress: TorchSharp's top-k / ours, {where}", density > 1e-3 ? 15 : 25, AtLeast: true),
            new($"compress: whole model / per tensor, {where}", 1.1),
        };
        if (density <= 1e-3) bars.Add(new($"compress: ours / a copy, {where}", 3));
        return new RatioGroup(bars, () => Measure(model, density, bars.Count));
    }

    private static Measurement[] Measure(string model, double density, int bars)
    {
        random.manual_seed(1);
        var layout = LayerLengths.Of(model);
        using var gradients = new HeavyTailedGradients(layout);
        using var recipe = new UsualRecipe(layout.Length, density);
        using var wholeModel = new ErrorFeedbackTopK(layout, density, CompressionScope.WholeModel);
        using var perTensor = new ErrorFeedbackTopK(layout, density, CompressionScope.PerTensor);
        using var copy = zeros(layout.Length);

        // First the many rounds, in which the threshold settles: the recipe has time for a few only.
        var fast = PairedTimes.Measure(
            BudgetOfOthers,
            () => wholeModel.Step(gradients.Next()),
            () => perTensor.Step(gradients.Next()),
            () => HeavyTailedGradients.Elements(gradients.Next()).CopyTo(HeavyTailedGradients.Elements(copy)));
        var slow = PairedTimes.Measure(BudgetOfRecipe, LongestWake, () => recipe.Step(gradients.Next()).Dispose(), () => wholeModel.Step(gradients.Next()));
        Measurement[] all = [Measurement.Of(slow, 0, 1), Measurement.Of(fast, 0, 1), Measurement.Of(fast, 0, 2)];
        return all[..bars];
    }
}
