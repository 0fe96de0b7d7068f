using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Memory;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>
/// The kernels over all weights give, bit for bit, what torch's operations give: on ILGPU's CPU accelerator, and as interpreted PTX, there
/// with smaller sizes.
/// </summary>
[TestFixture(false)]
[TestFixture(true)]
public class AccumulationKernelTests(bool interpreted)
{
    private static readonly ScalarType[] DTypes = [ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16];

    private IKernelQueue queue = null!;

    [OneTimeSetUp]
    public void Start() => queue = interpreted ? new PtxQueue((8, 0), 32, 3) : new AcceleratorQueue(groupSize: 16, fullGrid: 3);

    [OneTimeTearDown]
    public void Stop() => (queue as IDisposable)?.Dispose();

    [Test]
    public void Gradients_of_each_dtype_are_added_for_every_size([ValueSource(nameof(DTypes))] ScalarType dtype)
    {
        foreach (var n in interpreted ? [1, 9, 33, 4097] : new[] { 1, 7, 8, 9, 31, 32, 33, 255, 257, 4096, 4097, 10_007 })
        {
            using var comparison = new Comparison(queue, new VectorLayout(n), dtype: dtype);
            for (var step = 0; step < 2; step++) comparison.Step(Vectors.HeavyTailed(n, step), Math.Max(1, n / 10), release: step == 0);
        }
    }

    [Test]
    public void Gradients_of_each_dtype_are_added_wherever_they_lie([ValueSource(nameof(DTypes))] ScalarType dtype)
    {
        foreach (var shift in interpreted ? [0, 3] : new[] { 0, 1, 2, 3, 4, 8 })
        {
            using var comparison = new Comparison(queue, new VectorLayout(40, 0, 4100, 3, 1000), shift, dtype: dtype);
            for (var step = 0; step < 2; step++) comparison.Step(Vectors.HeavyTailed(5143, step), 50, release: false, absent: step == 1 ? 2 : -1);
        }
    }

    [Test]
    public void Every_16_bit_number_is_added([Values(ScalarType.BFloat16, ScalarType.Float16)] ScalarType dtype, [Values(0, 1)] int shift)
    {
        // What a NaN's bits become is another matter, see below.
        var values = Enumerable.Range(0, 65536).Select(bits => ValueOf(dtype, (ushort)bits)).Where(v => !float.IsNaN(v)).ToArray();
        if (interpreted) values = [.. values.Where((_, i) => i % 8 == shift)];
        using var comparison = new Comparison(queue, new VectorLayout(values.Length), shift, dtype: dtype);
        comparison.Step(values, 100, release: false);
    }

    [Test]
    public void What_is_not_a_number_is_owed_as_such([Values(ScalarType.BFloat16, ScalarType.Float16)] ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var gradient = full(8, float.NaN).to(dtype);
        var residual = ones(8);
        using var selector = new DeviceSelector(queue, residual, new VectorLayout(8));
        selector.Begin(3);
        selector.Accumulate(0, gradient);
        selector.Select(release: false);
        residual.isnan().all().item<bool>().Should().BeTrue();
        selector.Indices.ToArray().Should().Equal(0, 1, 2);
    }

    [Test]
    public void Updates_are_taken_back_for_every_size_and_look_ahead([ValueSource(nameof(DTypes))] ScalarType dtype)
    {
        var lookaheads = new[] { 0.5, 0, 1 };
        foreach (var (i, n) in (interpreted ? [1, 9, 33, 4101] : new[] { 1, 2, 7, 8, 9, 31, 32, 33, 255, 256, 257, 4095, 4096, 4097, 10_007 }).Index())
        {
            using var comparison = new WeightComparison(queue, new VectorLayout(n), dtype, lookaheads[i % 3], Vectors.HeavyTailed(n, 9));
            for (var step = 0; step < 2; step++) comparison.Step(Scaled(Vectors.HeavyTailed(n, step), 0.1f), Math.Max(1, n / 20));
        }
    }

    [Test]
    public void Updates_are_taken_back_wherever_the_weights_lie([ValueSource(nameof(DTypes))] ScalarType dtype)
    {
        foreach (var shift in interpreted ? [0, 5] : new[] { 0, 1, 2, 3, 4, 8 })
        {
            using var comparison = new WeightComparison(queue, new VectorLayout(40, 0, 4100, 3, 1000), dtype, 0.3, Vectors.HeavyTailed(5143, 7), shift);
            for (var step = 0; step < 2; step++) comparison.Step(Scaled(Vectors.HeavyTailed(5143, step), 0.1f), 60, absent: step == 1 ? 2 : -1);
        }
    }

    [Test]
    public void Updates_are_taken_back_of_every_kind_of_values(
        [ValueSource(nameof(DTypes))] ScalarType dtype, [ValueSource(typeof(Vectors), nameof(Vectors.Kinds))] KeyValuePair<string, Func<int, int, float[]>> kind)
    {
        var n = interpreted ? 500 : 2000;
        using var comparison = new WeightComparison(queue, new VectorLayout(n), dtype, 0.7, kind.Value(n, 1));
        for (var step = 0; step < 2; step++) comparison.Step(kind.Value(n, step + 2), 50);
    }

    [TestCase(1, 4)]
    [TestCase(7, 2)]
    [TestCase(64, 1)]
    public void Groups_of_any_size_and_number_give_the_same(int groupSize, int groups)
    {
        var n = interpreted || groupSize > 32 ? 4200 : 9001;
        IKernelQueue own = interpreted ? new PtxQueue((9, 0), groupSize, groups) : new AcceleratorQueue(groupSize, groups);
        using var disposed = own as IDisposable;
        foreach (var dtype in DTypes)
        {
            using var weights = new WeightComparison(own, new VectorLayout(n / 3, n - (n / 3)), dtype, 0.5, Vectors.HeavyTailed(n, 1));
            weights.Step(Scaled(Vectors.HeavyTailed(n, 2), 0.1f), n / 16);
            using var gradients = new Comparison(own, new VectorLayout(n), dtype: dtype);
            gradients.Step(Vectors.Kinds["many ties"](n, 1), n / 16, release: true);
        }
    }

    [Test]
    public void A_million_weights_are_taken_back()
    {
        if (interpreted) Assert.Ignore("Too many for the interpreter.");
        const int N = 1_000_003;
        using var comparison = new WeightComparison(queue, new VectorLayout(N), ScalarType.BFloat16, 0.5, Vectors.HeavyTailed(N, 1));
        comparison.Step(Scaled(Vectors.HeavyTailed(N, 2), 0.1f), 1000);
    }

    [Test]
    public void Coordinates_that_are_given_are_gathered_with_their_factors()
    {
        using var residual = from_array(Vectors.HeavyTailed(1000, 1)).clone();
        using var selector = new DeviceSelector(queue, residual, new VectorLayout(600, 400));
        var expected = residual.data<float>().ToArray();
        foreach (var indices in new int[][] { [], [3], [0, 599, 600, 999], [.. Enumerable.Range(0, 1000)], [7, 8] })
        {
            var factors = indices.Select(i => i % 2 == 0 ? 1f : 3.3f).ToArray();
            selector.Begin(0);
            selector.Accumulate(0, null);
            selector.Accumulate(1, null);
            selector.Gather(indices, factors);
            selector.Indices.ToArray().Should().Equal(indices);
            selector.Values.ToArray().Should().Equal(indices.Select((i, j) => expected[i] * factors[j]));
            selector.Subtract(selector.Values);
            foreach (var (i, j) in indices.Select((i, j) => (i, j))) expected[i] -= expected[i] * factors[j];
            residual.data<float>().ToArray().Should().Equal(expected);
        }
    }

    [Test]
    public void A_step_that_selects_nothing_still_adds_up_and_leaves_the_next_ones_guess()
    {
        using var residual = zeros(9000);
        using var gradient = from_array(Vectors.HeavyTailed(9000, 1)).clone();
        using var selector = new DeviceSelector(queue, residual, new VectorLayout(9000));
        foreach (var k in new[] { 90, 0, 90, 0 })
        {
            selector.Begin(k);
            selector.Accumulate(0, gradient);
            selector.Select(release: false);
            selector.Count.Should().Be(k);
        }

        selector.LookedAtAll.Should().BeFalse();
        using var four = gradient.Plus(gradient).Plus(gradient).Plus(gradient);
        residual.data<float>().ToArray().Should().Equal(four.data<float>().ToArray());
    }

    [Test]
    public void What_does_not_fit_is_refused()
    {
        using var scope = NewDisposeScope();
        using var selector = new DeviceSelector(queue, zeros(10), new VectorLayout(10));
        selector.Begin(1);
        selector.Invoking(s => s.TakeBack(0, zeros(9), zeros(10), 0)).Should().Throw<ArgumentException>().WithParameterName("trained").WithMessage("*9 elements*of 10*");
        selector.Invoking(s => s.TakeBack(0, zeros(10), zeros(10, dtype: ScalarType.Float64), 0)).Should().Throw<ArgumentException>().WithParameterName("deployed").WithMessage("*Float64*");
        selector.Invoking(s => s.TakeBack(0, zeros(10), zeros(10, dtype: ScalarType.Float16), 0)).Should().Throw<ArgumentException>().WithParameterName("deployed").WithMessage("*same dtype*");
        selector.Invoking(s => s.Gather([1, 2], [1])).Should().Throw<ArgumentException>().WithParameterName("factors");
    }

    private static float[] Scaled(float[] values, float factor) => [.. values.Select(v => v * factor)];

    private static float ValueOf(ScalarType dtype, ushort bits) =>
        dtype == ScalarType.Float16 ? (float)BitConverter.UInt16BitsToHalf(bits) : BitConverter.UInt32BitsToSingle((uint)bits << 16);
}
