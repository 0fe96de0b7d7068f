using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Ptx;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The PTX of the kernels, run by an interpreter, gives what the CPU's memory and compressor give, and touches nothing else.</summary>
public class PtxExecutionTests
{
    private static IEnumerable<(int Major, int Minor)> Targets => PtxCompiler.Targets;

    [TestCaseSource(nameof(Targets))]
    public void Selection_is_the_compressors_on_every_target((int Major, int Minor) target)
    {
        var queue = new PtxQueue(target, 32, 3);
        using var comparison = new Comparison(queue, new VectorLayout(4200, 1, 30));
        for (var step = 0; step < 3; step++) comparison.Step(Vectors.HeavyTailed(4231, step), 40, release: step != 1);
        comparison.LookedAtAll.Should().BeFalse();
    }

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(33)]
    [TestCase(4097)]
    public void Selection_is_the_compressors_for_any_size(int n)
    {
        var queue = new PtxQueue((9, 0), 32, 2);
        foreach (var k in new[] { 1, n / 3, n }.Where(k => k > 0).Distinct())
        {
            using var comparison = new Comparison(queue, new VectorLayout(n));
            for (var step = 0; step < 2; step++) comparison.Step(Vectors.HeavyTailed(n, step), k, release: false);
        }
    }

    [Test]
    public void Selection_is_the_compressors_for_every_kind_of_values(
        [ValueSource(typeof(Vectors), nameof(Vectors.Kinds))] KeyValuePair<string, Func<int, int, float[]>> kind)
    {
        var release = kind.Key is not ("infinities" or "NaN" or "every bit pattern but NaN");
        using var comparison = new Comparison(new PtxQueue((8, 6), 64, 2), new VectorLayout(4200));
        for (var step = 0; step < 3; step++) comparison.Step(kind.Value(4200, step), 300, release);
    }

    [TestCase(1)]
    [TestCase(3)]
    public void Memory_that_is_not_aligned_gives_the_same(int shift)
    {
        using var comparison = new Comparison(new PtxQueue((7, 0), 32, 2), new VectorLayout(4200), shift);
        for (var step = 0; step < 2; step++) comparison.Step(Vectors.HeavyTailed(4200, step), 42, release: true, absent: step);
    }

    [TestCase(1)]
    [TestCase(7)]
    [TestCase(256)]
    public void Groups_of_any_size_give_the_same(int groupSize)
    {
        using var comparison = new Comparison(new PtxQueue((7, 5), groupSize, 4), new VectorLayout(9000));
        comparison.Step(Vectors.Kinds["many ties"](9000, 1), 700, release: true);
        comparison.Step(Vectors.HeavyTailed(9000, 2), 700, release: true);
    }

    [Test]
    public void An_access_outside_of_what_was_given_is_found()
    {
        // Room for fewer values than there are indices: what ought to fail, does.
        var queue = new PtxQueue((9, 0), 32, 1);
        using var vector = zeros(4);
        using var indices = zeros(4, dtype: ScalarType.Int32);
        using var values = zeros(4);
        var room = DeviceMemory.View(values).Part(0, 3, sizeof(float));
        queue.Invoking(q => q.Launch(nameof(UpdateKernels.Gather), 1, [DeviceMemory.View(vector), DeviceMemory.View(indices), room]))
            .Should().Throw<InvalidOperationException>().WithMessage("*outside of every view*");
    }
}
