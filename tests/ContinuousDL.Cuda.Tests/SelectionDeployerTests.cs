using System.Runtime.InteropServices;
using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Cuda.Ptx;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Tests;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>What the kernels add to deployed parameters, keep as residual and report is, bit for bit, what the deployed model does by itself.</summary>
public class SelectionDeployerTests
{
    private static readonly ScalarType[] Trainable = [ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16, ScalarType.Float64];

    private static IEnumerable<(int Major, int Minor)> Targets => PtxCompiler.Targets;

    [Test]
    public void Deploying_is_adding_for_every_dtype_and_precision(
        [ValueSource(nameof(Trainable))] ScalarType dtype, [Values] DeployedValuePrecision precision, [Values] bool separate)
    {
        using var queue = new AcceleratorQueue(16, 3);
        Compare(queue, [dtype], precision, separate, n: 3000, k: 1000, seed: 1);
    }

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(33)]
    [TestCase(255)]
    [TestCase(4800)]
    public void Deploying_is_adding_for_any_number_of_coordinates_of_a_model_of_several_dtypes(int k)
    {
        using var queue = new AcceleratorQueue(16, 3);
        Compare(queue, Trainable, DeployedValuePrecision.BFloat16, separate: true, n: 1200, k, seed: k);
    }

    [TestCase(1, 1)]
    [TestCase(7, 4)]
    [TestCase(128, 2)]
    public void Groups_of_any_size_and_number_give_the_same(int groupSize, int groups)
    {
        using var queue = new AcceleratorQueue(groupSize, groups);
        Compare(queue, Trainable, DeployedValuePrecision.Float16, separate: false, n: 300, k: 200, seed: 3);
    }

    [TestCaseSource(nameof(Targets))]
    public void The_PTX_of_every_target_gives_the_same((int Major, int Minor) target)
    {
        foreach (var precision in Enum.GetValues<DeployedValuePrecision>())
        {
            Compare(new PtxQueue(target, 32, 3), Trainable, precision, separate: false, n: 300, k: 500, seed: 4);
        }
    }

    [Test]
    public void Sums_are_rounded_as_the_CPU_rounds_them_at_every_edge(
        [Values(ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16)] ScalarType dtype, [Values] DeployedValuePrecision precision)
    {
        // Every float16, the middle between it and the next, and the floats around that; and the same for bfloat16.
        var edges = new List<float>();
        for (var bits = 1; bits < 0x7c00; bits++) AddEdges((float)BitConverter.UInt16BitsToHalf((ushort)bits), (float)BitConverter.UInt16BitsToHalf((ushort)(bits + 1)));
        for (var bits = 1u; bits < 0x7f80; bits += 3) AddEdges(BitConverter.UInt32BitsToSingle(bits << 16), BitConverter.UInt32BitsToSingle((bits + 1) << 16));
        float[] gradient = [.. edges.Where(value => !Overflows(dtype, value))];
        using var queue = new AcceleratorQueue(16, 2);
        using var host = new Side([dtype], precision, separate: false, gradient.Length);
        using var device = new Side([dtype], precision, separate: false, gradient.Length);
        using (no_grad())
        {
            foreach (var side in new[] { host, device }) _ = side.Deployed.Parameter(0).zero_();
        }

        using var residual = tensor(gradient);
        using var selector = new DeviceSelector(queue, residual, host.Vector.Layout);
        using var deployer = SelectionDeployer.TryMake(queue, device.Deployed, out _)!;
        selector.Begin(gradient.Length);
        selector.Accumulate(0, null);
        deployer.Deploy(selector, gradient.Length);
        var sent = new CompressedGradient();
        TopKCompressor.OfCount(gradient.Length).Compress(gradient, host.Vector.Layout, sent);
        host.Deployed.Add(sent);
        TestModels.Bytes(device.Deployed.Parameter(0)).SequenceEqual(TestModels.Bytes(host.Deployed.Parameter(0))).Should().BeTrue();
        device.Deployed.Digest.Should().Be(host.Deployed.Digest);

        void AddEdges(float number, float next)
        {
            var middle = (float)(((double)number + (float.IsInfinity(next) ? 65536 : next)) / 2);
            var sign = edges.Count % 2 == 0 ? 1 : -1;
            foreach (var value in new[] { number, float.BitDecrement(middle), middle, float.BitIncrement(middle) })
            {
                if (float.IsFinite(value)) edges.Add(sign * value);
            }
        }
    }

    [Test]
    public void A_sum_that_is_not_finite_is_taken_back_as_on_the_CPU(
        [Values(ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16)] ScalarType dtype, [Values] DeployedValuePrecision precision, [Values] bool separate)
    {
        // At and around the first float that each format rounds to infinity, of either sign.
        float[] edges = [65519.996f, 65520, 3.3961773e38f, 3.3961775e38f, float.MaxValue];
        foreach (var edge in edges.Concat(edges.Select(e => -e)))
        {
            using var queue = new AcceleratorQueue(16, 2);
            using var host = new Side([ScalarType.Float32, dtype], precision, separate, 40);
            using var device = new Side([ScalarType.Float32, dtype], precision, separate, 40);
            using (no_grad())
            {
                foreach (var side in new[] { host, device }) _ = side.Deployed.Parameter(1).zero_();
            }

            using var residual = ones(80);
            using var selector = new DeviceSelector(queue, residual, host.Vector.Layout);
            using var deployer = SelectionDeployer.TryMake(queue, device.Deployed, out _)!;
            residual.data<float>()[60] = edge;
            var sent = new CompressedGradient();
            TopKCompressor.OfCount(70).Compress(residual.data<float>().ToArray(), host.Vector.Layout, sent);
            var (bytes, digest) = (TestModels.Bytes(device.Deployed.Parameter(0)), device.Deployed.Digest);
            selector.Begin(70);
            for (var t = 0; t < 2; t++) selector.Accumulate(t, null);
            if (!Overflows(dtype, edge))
            {
                deployer.Deploy(selector, 70);
                host.Deployed.Add(sent);
                device.Deployed.Digest.Should().Be(host.Deployed.Digest);
                continue;
            }

            deployer.Invoking(d => d.Deploy(selector, 70)).Should().Throw<NonFiniteException>().Which.ParameterName.Should().Be("weight1");
            host.Deployed.Invoking(d => d.Add(sent)).Should().Throw<NonFiniteException>().Which.ParameterName.Should().Be("weight1");
            foreach (var side in new[] { host, device })
            {
                TestModels.Bytes(side.Deployed.Parameter(0)).Should().Equal(bytes);
                TestModels.Bytes(side.Deployed.Parameter(1)).Should().OnlyContain(x => x == 0);
                side.Deployed.Digest.Should().Be(digest);
            }
        }
    }

    [TestCase(float.PositiveInfinity)]
    [TestCase(float.NegativeInfinity)]
    [TestCase(float.NaN)]
    public void Something_selected_that_is_not_finite_changes_nothing_and_is_thrown(float value)
    {
        using var queue = new AcceleratorQueue(16, 3);
        using var side = new Side([ScalarType.Float32], DeployedValuePrecision.Float32, separate: false, 100);
        var gradient = Vectors.HeavyTailed(100, 1);
        gradient[57] = value;
        using var residual = zeros(100);
        using var selector = new DeviceSelector(queue, residual, side.Vector.Layout);
        using var deployer = SelectionDeployer.TryMake(queue, side.Deployed, out _)!;
        using var added = tensor(gradient);
        selector.Begin(3);
        selector.Accumulate(0, added);
        var (before, owed) = (TestModels.State(side.Module), TestModels.Bytes(residual));
        deployer.Invoking(d => d.Deploy(selector, 3)).Should().Throw<NonFiniteException>().WithMessage("*learning rate*");
        TestModels.State(side.Module).Should().Equal(before);
        TestModels.Bytes(residual).Should().Equal(owed);
        using var update = side.Deployed.Commit();
        update.Count.Should().Be(0);
    }

    /// <summary>Steps of a residual in main memory and its deployed model, and of another by the kernels.</summary>
    internal static void Compare(
        IKernelQueue queue, ScalarType[] dtypes, DeployedValuePrecision precision, bool separate, int n, int k, int seed, Device? place = null)
    {
        using var host = new Side(dtypes, precision, separate, n);
        using var device = new Side(dtypes, precision, separate, n, place);
        var layout = host.Vector.Layout;
        using var residual = zeros(layout.Length, device: place ?? CPU);
        using var selector = new DeviceSelector(queue, residual, layout);
        using var deployer = SelectionDeployer.TryMake(queue, device.Deployed, out _)!;
        var owed = new float[layout.Length];
        var sent = new CompressedGradient();
        for (var step = 0; step < 3; step++)
        {
            // Some so small that a sum stays what it was; in the end, some large ones, but none that overflows a float16.
            var gradient = Vectors.HeavyTailed(layout.Length, seed + step);
            for (var i = 0; i < gradient.Length; i += 7) gradient[i] *= i % 2 == 0 && step == 2 ? 1e9f : 1e-9f;
            for (var t = 0; t < layout.TensorCount; t++)
            {
                if (dtypes[t] == ScalarType.Float16) System.Numerics.Tensors.TensorPrimitives.Clamp(gradient.AsSpan(layout[t]), -15_000, 15_000, gradient.AsSpan(layout[t]));
            }

            if (step == 1) Array.Clear(gradient);
            selector.Begin(k);
            for (var t = 0; t < layout.TensorCount; t++)
            {
                using var added = tensor(gradient[layout[t]]);
                using var aligned = added.to(residual.device, copy: true);
                selector.Accumulate(t, aligned);
            }

            deployer.Deploy(selector, k);

            for (var i = 0; i < owed.Length; i++) owed[i] += gradient[i];
            TopKCompressor.OfCount(k).Compress(owed, layout, sent);
            host.Deployed.Add(sent);
            for (var j = 0; j < sent.Indices.Length; j++) owed[sent.Indices[j]] -= sent.Values[j];

            MemoryMarshal.AsBytes<float>(owed).SequenceEqual(Bytes(residual)).Should().BeTrue("what is owed is the same");
            using var actual = device.Deployed.Commit();
            using var expected = host.Deployed.Commit();
            actual.Coordinates.SequenceEqual(expected.Coordinates).Should().BeTrue("the coordinates are the same");
            actual.Values.SequenceEqual(expected.Values).Should().BeTrue("the values are the same");
            actual.PreviousValues.SequenceEqual(expected.PreviousValues).Should().BeTrue("the values before are the same");
            actual.StateDigest.Should().Be(expected.StateDigest);
            for (var t = 0; t < layout.TensorCount; t++) Bytes(device.Deployed.Parameter(t)).SequenceEqual(TestModels.Bytes(host.Deployed.Parameter(t))).Should().BeTrue("the deployed values are the same");
        }
    }

    /// <summary>Whether a value that is added to zero becomes infinite.</summary>
    private static bool Overflows(ScalarType dtype, float value) => dtype switch
    {
        ScalarType.Float16 => Math.Abs(value) >= 65520,
        ScalarType.BFloat16 => Math.Abs(value) >= BitConverter.UInt32BitsToSingle(0x7f7f8000),
        _ => false,
    };

    private static byte[] Bytes(Tensor tensor)
    {
        using var host = tensor.cpu();
        return TestModels.Bytes(host);
    }

    /// <summary>A model with its deployed copy.</summary>
    private sealed class Side : IDisposable
    {
        private readonly IUpdateRule rule;

        public Side(ScalarType[] dtypes, DeployedValuePrecision precision, bool separate, int n, Device? place = null)
        {
            Module = new Weights(dtypes, n, place ?? CPU);
            var tensors = ModelTensors.Of(Module);
            rule = new TorchOptimizerRule(optim.SGD(Module.Trained, 0.1));
            Vector = new TrainableVector(tensors, rule.Parameters);
            Deployed = new DeployedModel(tensors, Vector, new BufferDeploymentOptions(), precision);
            if (separate) Deployed.SeparateParameters();
        }

        public Weights Module { get; }

        public TrainableVector Vector { get; }

        public DeployedModel Deployed { get; }

        public void Dispose()
        {
            Deployed.Dispose();
            rule.Dispose();
            Module.Dispose();
        }
    }

    /// <summary>Parameters of some dtypes after one that is not trained, so that their coordinates in the vector are not those in the model.</summary>
    private sealed class Weights : nn.Module
    {
        private readonly List<Tensor> tensors = [];

        public Weights(ScalarType[] dtypes, int n, Device place)
            : base("weights")
        {
            using var guard = no_grad();
            using var generator = new Generator(7, CPU);
            using var untrained = randn(11, generator: generator);
            tensors.Add(new Parameter(untrained.to(place, copy: true)));
            register_parameter("fixed", (Parameter)tensors[0]);
            for (var t = 0; t < dtypes.Length; t++)
            {
                using var drawn = randn(n, generator: generator);
                using var rounded = drawn.to(dtypes[t]);
                var parameter = new Parameter(rounded.to(place, copy: true));
                tensors.Add(parameter);
                register_parameter($"weight{t}", parameter);
            }

            using var mean = randn(5, generator: generator);
            tensors.Add(mean.to(place, copy: true));
            register_buffer("mean", tensors[^1]);
        }

        public IEnumerable<Parameter> Trained => tensors.Skip(1).OfType<Parameter>();

        protected override void Dispose(bool disposing)
        {
            if (disposing) tensors.ForEach(t => t.Dispose());
            base.Dispose(disposing);
        }
    }
}
