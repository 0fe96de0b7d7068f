using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The kernels on ILGPU's CPU accelerator give, bit for bit, what the CPU's memory and compressor give.</summary>
public class SelectionKernelTests
{
    private AcceleratorQueue queue = null!;

    [OneTimeSetUp]
    public void Start() => queue = new AcceleratorQueue(groupSize: 16, fullGrid: 3);

    [OneTimeTearDown]
    public void Stop() => queue.Dispose();

    [Test]
    public void Selection_is_the_compressors_for_every_size_and_count(
        [Values(1, 2, 3, 31, 32, 33, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097, 10007, 65537)] int n)
    {
        foreach (var k in new[] { 1, 2, n / 1000, n / 100, n / 7, n - 1, n }.Where(k => k >= 1 && k <= n).Distinct())
        {
            using var comparison = new Comparison(queue, new VectorLayout(n));
            for (var step = 0; step < 2; step++) comparison.Step(Vectors.HeavyTailed(n, step), k, release: step == 0);
        }
    }

    [Test]
    public void Selection_is_the_compressors_for_every_kind_of_values(
        [ValueSource(typeof(Vectors), nameof(Vectors.Kinds))] KeyValuePair<string, Func<int, int, float[]>> kind, [Values(1, 900, 9001)] int k)
    {
        // Infinity less itself is no zero, so that the memory keeps NaN where the kernel would put a zero.
        var release = kind.Key is not ("infinities" or "NaN" or "every bit pattern but NaN");
        using var comparison = new Comparison(queue, new VectorLayout(9001));
        for (var step = 0; step < 2; step++) comparison.Step(kind.Value(9001, step), k, release);
    }

    [TestCase(1e-2)]
    [TestCase(1e-5)]
    public void Selection_is_the_compressors_in_a_million_values(double density)
    {
        const int N = 1_000_003;
        using var comparison = new Comparison(queue, new VectorLayout(N));
        for (var step = 0; step < 2; step++)
        {
            comparison.Step(Vectors.HeavyTailed(N, step), (int)(N * density), release: false);
            comparison.LookedAtAll.Should().Be(step == 0, "the floor is known from the second step on");
        }
    }

    [Test]
    public void A_model_of_many_tensors_is_selected_from_as_a_whole()
    {
        var random = new Random(1);
        var layout = new VectorLayout([.. Enumerable.Range(0, 40).Select(_ => 1 + (int)Math.Pow(10, 4.2 * random.NextDouble()))]);
        using var comparison = new Comparison(queue, layout);
        for (var step = 0; step < 4; step++) comparison.Step(Vectors.HeavyTailed(layout.Length, step), layout.Length / 50, release: false);
    }

    [Test]
    public void A_tensor_without_a_gradient_is_still_owed_what_it_was()
    {
        using var comparison = new Comparison(queue, new VectorLayout(3000, 5000, 4096));
        for (var step = 0; step < 6; step++) comparison.Step(Vectors.HeavyTailed(12096, step), 200, release: true, absent: (step % 4) - 1);
    }

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(2)]
    [TestCase(3)]
    public void Memory_that_is_not_aligned_gives_the_same(int shift)
    {
        using var own = new AcceleratorQueue(8, 2);
        using var comparison = new Comparison(own, new VectorLayout(9001), shift);
        for (var step = 0; step < 2; step++) comparison.Step(Vectors.HeavyTailed(9001, step), 90, release: true);
        own.Launched.Where(l => l.Kernel == "AccumulateFloat32").Select(l => l.Numbers[^1]).Distinct().Should().Equal(shift == 0 ? 1 : 0);
    }

    [TestCase(1, 1, 8333)]
    [TestCase(1, 5, 8333)]
    [TestCase(2, 3, 8333)]
    [TestCase(7, 4, 8333)]
    [TestCase(32, 1, 8333)]
    [TestCase(64, 40, 8333)]
    [TestCase(256, 1, 60)]
    public void Groups_of_any_size_and_number_give_the_same(int groupSize, int groups, int n)
    {
        using var own = new AcceleratorQueue(groupSize, groups);
        using var comparison = new Comparison(own, new VectorLayout(n / 2, n - (n / 2)));
        comparison.Step(Vectors.Kinds["many ties"](n, 1), n / 16, release: true);
        comparison.Step(Vectors.HeavyTailed(n, 2), n / 16, release: false);
    }

    [Test]
    public void A_floor_that_has_become_too_high_costs_a_look_at_all_and_nothing_else()
    {
        using var comparison = new Comparison(queue, new VectorLayout(20_000));
        comparison.Step(Vectors.HeavyTailed(20_000, 1), 20_000, release: true);
        comparison.Step(Vectors.HeavyTailed(20_000, 1), 200, release: true);
        comparison.Step(Vectors.HeavyTailed(20_000, 2), 200, release: true);
        comparison.LookedAtAll.Should().BeFalse();
        comparison.Step([.. Vectors.HeavyTailed(20_000, 3).Select(x => x * 1e-9f)], 200, release: true);
        for (var step = 0; !comparison.LookedAtAll; step++)
        {
            step.Should().BeLessThan(200, "what is owed gets less, and nothing comes in");
            comparison.Step(new float[20_000], 200, release: true);
        }
    }

    [Test]
    public void A_floor_that_has_become_too_low_costs_a_look_at_all_and_nothing_else()
    {
        using var comparison = new Comparison(queue, new VectorLayout(20_000));
        for (var step = 0; step < 3; step++) comparison.Step(Vectors.HeavyTailed(20_000, step), 20, release: true);
        comparison.LookedAtAll.Should().BeFalse();
        comparison.Step([.. Vectors.HeavyTailed(20_000, 3).Select(x => x * 1e6f)], 20, release: true);
        comparison.LookedAtAll.Should().BeTrue();
    }

    [Test]
    public void Groups_that_race_one_another_change_nothing()
    {
        using var own = new AcceleratorQueue(2, 64);
        for (var repetition = 0; repetition < 30; repetition++)
        {
            using var comparison = new Comparison(own, new VectorLayout(20_000));
            comparison.Step(Vectors.Kinds["many ties"](20_000, 4), 3000, release: true);
            comparison.Step(Vectors.Kinds["many ties"](20_000, 5), 3000, release: true);
        }
    }

    [Test]
    public void What_does_not_fit_is_refused()
    {
        using var residual = zeros(10);
        using var wrong = zeros(9);
        using var integers = zeros(10, dtype: ScalarType.Int32);
        FluentActions.Invoking(() => new DeviceSelector(queue, wrong, new VectorLayout(10))).Should().Throw<ArgumentException>().WithMessage("*9 elements*10 is needed*");
        using var selector = new DeviceSelector(queue, residual, new VectorLayout(10));
        selector.Invoking(s => s.Begin(-1)).Should().Throw<ArgumentOutOfRangeException>();
        selector.Invoking(s => s.Begin(11)).Should().Throw<ArgumentOutOfRangeException>();
        selector.Begin(3);
        selector.Invoking(s => s.Accumulate(0, wrong)).Should().Throw<ArgumentException>().WithParameterName("gradient");
        selector.Invoking(s => s.Accumulate(0, integers)).Should().Throw<ArgumentException>().WithParameterName("gradient");
        selector.Invoking(s => s.Subtract([1])).Should().Throw<ArgumentException>().WithParameterName("sent");
        using var square = zeros(4, 4);
        using var transposed = square.t();
        FluentActions.Invoking(() => DeviceMemory.AddressOf(transposed)).Should().Throw<ArgumentException>().WithMessage("*contiguous*");
    }

    [TestCase(ScalarType.Float32)]
    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    [TestCase(ScalarType.Int64)]
    [TestCase(ScalarType.Bool)]
    public unsafe void AddressOf_is_that_of_the_first_element_of_a_view(ScalarType dtype)
    {
        using var whole = zeros(12, dtype: dtype);
        using var part = whole.narrow(0, 5, 7);
        fixed (byte* first = whole.bytes)
        {
            DeviceMemory.AddressOf(whole).Should().Be((nint)first);
            DeviceMemory.AddressOf(part).Should().Be((nint)(first + (5 * whole.element_size())));
        }
    }
}
