using ContinuousDL.Optimization;
using ContinuousDL.State;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Optimization;

/// <summary>The library's optimizers compute what PyTorch's do, whole or in parts, applied or handed over.</summary>
public class OptimizerTests
{
    private const int Steps = 60;

    private static IEnumerable<TestCaseData> Pairs()
    {
        yield return Case("sgd", p => new FusedSgd(p, 0.1), p => optim.SGD(p, 0.1));
        yield return Case("sgd momentum", p => new FusedSgd(p, 0.1, momentum: 0.9), p => optim.SGD(p, 0.1, momentum: 0.9));
        yield return Case("sgd dampening", p => new FusedSgd(p, 0.1, momentum: 0.9, dampening: 0.3), p => optim.SGD(p, 0.1, momentum: 0.9, dampening: 0.3));
        yield return Case("sgd nesterov", p => new FusedSgd(p, 0.1, momentum: 0.9, nesterov: true), p => optim.SGD(p, 0.1, momentum: 0.9, nesterov: true));
        yield return Case("sgd decay", p => new FusedSgd(p, 0.1, momentum: 0.5, weightDecay: 0.01), p => optim.SGD(p, 0.1, momentum: 0.5, weight_decay: 0.01));
        yield return Case("adam", p => new FusedAdam(p, 0.01), p => optim.Adam(p, 0.01));
        yield return Case("adam amsgrad", p => new FusedAdam(p, 0.01, amsGrad: true), p => optim.Adam(p, 0.01, amsgrad: true));
        yield return Case("adam decay", p => new FusedAdam(p, 0.01, beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weightDecay: 0.1), p => optim.Adam(p, 0.01, 0.8, 0.95, 1e-6, 0.1));
        yield return Case("adamw", p => new FusedAdamW(p, 0.01), p => optim.AdamW(p, 0.01, weight_decay: 0.01));
        yield return Case("adamw amsgrad", p => new FusedAdamW(p, 0.01, weightDecay: 0.2, amsGrad: true), p => optim.AdamW(p, 0.01, weight_decay: 0.2, amsgrad: true));

        static TestCaseData Case(string name, Func<IEnumerable<Parameter>, optim.Optimizer> ours, Func<IEnumerable<Parameter>, optim.Optimizer> theirs) =>
            new TestCaseData(ours, theirs).SetArgDisplayNames(name);
    }

    [TestCaseSource(nameof(Pairs))]
    public void Step_is_that_of_TorchSharp(
        Func<IEnumerable<Parameter>, optim.Optimizer> ours, Func<IEnumerable<Parameter>, optim.Optimizer> theirs)
    {
        using var a = Parameters.Make(3);
        using var b = Parameters.Make(3);
        using var mine = ours(a.All);
        using var reference = theirs(b.All);
        for (var step = 0; step < Steps; step++)
        {
            a.SetGradients(step);
            b.SetGradients(step);
            mine.step();
            reference.step();
        }

        a.Values().Should().BeEquivalentTo(b.Values(), o => o.WithStrictOrdering()
            .Using<float>(c => c.Subject.Should().BeApproximately(c.Expectation, 2e-5f)).WhenTypeIs<float>());
    }

    [TestCaseSource(nameof(Pairs))]
    public void The_adapter_hands_over_what_TorchSharp_would_add_and_leaves_the_weights(
        Func<IEnumerable<Parameter>, optim.Optimizer> ours, Func<IEnumerable<Parameter>, optim.Optimizer> theirs)
    {
        _ = ours;
        using var a = Parameters.Make(3);
        using var b = Parameters.Make(3);
        using var adapted = theirs(a.All);
        using var reference = theirs(b.All);
        using var rule = new TorchOptimizerRule(adapted);
        for (var step = 0; step < 10; step++)
        {
            a.SetGradients(step);
            b.SetGradients(step);
            var before = a.Values();
            reference.step();
            rule.BeginStep([true, true, true]);
            var updates = a.Values().Select(v => new float[v.Length]).ToArray();
            for (var p = 0; p < updates.Length; p++) rule.ComputeUpdate(p, 0, a.Gradient(p), before[p], updates[p]);

            a.Values().Should().BeEquivalentTo(before, "the weights are put back");
            var after = b.Values();
            for (var p = 0; p < updates.Length; p++)
            {
                updates[p].Should().Equal(after[p].Zip(before[p], (x, y) => x - y));
            }

            a.Write(after);
        }
    }

    [TestCaseSource(nameof(Pairs))]
    public void Updates_in_blocks_are_bit_identical_to_updates_at_once(
        Func<IEnumerable<Parameter>, optim.Optimizer> ours, Func<IEnumerable<Parameter>, optim.Optimizer> theirs)
    {
        _ = theirs;
        using var parameters = Parameters.Make(3);
        using var whole = ours(parameters.All);
        using var blocks = ours(parameters.All);
        for (var step = 0; step < 5; step++)
        {
            parameters.SetGradients(step);
            var expected = Update((IUpdateRule)whole, parameters, int.MaxValue);
            var actual = Update((IUpdateRule)blocks, parameters, 5 + step);
            actual.Should().BeEquivalentTo(expected, o => o.WithStrictOrdering());
        }
    }

    [TestCaseSource(nameof(Pairs))]
    public void Updates_of_all_elements_one_by_one_are_bit_identical_to_the_dense_update(
        Func<IEnumerable<Parameter>, optim.Optimizer> ours, Func<IEnumerable<Parameter>, optim.Optimizer> theirs)
    {
        _ = theirs;
        using var parameters = Parameters.Make(3);
        using var dense = ours(parameters.All);
        using var selected = ours(parameters.All);
        for (var step = 0; step < 5; step++)
        {
            parameters.SetGradients(step);
            var expected = Update((IUpdateRule)dense, parameters, int.MaxValue);
            var rule = (IUpdateRule)selected;
            rule.BeginStep([true, true, true]);
            var values = parameters.Values();
            for (var p = 0; p < values.Length; p++)
            {
                var update = new float[values[p].Length];
                rule.ComputeUpdateAt(p, Enumerable.Range(0, update.Length).ToArray(), parameters.Gradient(p), values[p], update);
                update.Should().Equal(expected[p]);
            }
        }
    }

    [Test]
    public void ComputeUpdateAt_leaves_the_moments_of_other_elements_alone()
    {
        using var parameters = Parameters.Make(3);
        using var optimizer = new FusedAdam(parameters.All, 0.01, amsGrad: true);
        using var twin = new FusedAdam(parameters.All, 0.01, amsGrad: true);
        parameters.SetGradients(0);
        var gradient = parameters.Gradient(0);
        var values = parameters.Values()[0];

        // One selects element 2 in the first step, the other nothing; in the second step both select element 5.
        var update = new float[1];
        optimizer.BeginStep([true, false, false]);
        optimizer.ComputeUpdateAt(0, [2], [gradient[2]], [values[2]], update);
        twin.BeginStep([true, false, false]);
        optimizer.BeginStep([true, false, false]);
        optimizer.ComputeUpdateAt(0, [5], [gradient[5]], [values[5]], update);
        var other = new float[1];
        twin.BeginStep([true, false, false]);
        twin.ComputeUpdateAt(0, [5], [gradient[5]], [values[5]], other);

        update.Should().Equal(other).And.NotEqual([0f]);
    }

    [Test]
    public void Groups_have_their_own_learning_rates_and_schedulers_move_them()
    {
        using var parameters = Parameters.Make(2);
        using var optimizer = new FusedSgd(
            [
                new ParamGroup<FusedSgdOptions>([parameters.All[0]], new FusedSgdOptions { LearningRate = 1 }),
                new ParamGroup<FusedSgdOptions>([parameters.All[1]]),
            ],
            learningRate: 0.1);
        var scheduler = optim.lr_scheduler.StepLR(optimizer, step_size: 1, gamma: 0.5);
        parameters.SetGradients(0);
        var before = parameters.Values();
        optimizer.step();
        scheduler.step();
        var between = parameters.Values();
        optimizer.step();
        var after = parameters.Values();

        Change(before[0], between[0], parameters.Gradient(0)).Should().BeApproximately(-1, 1e-4);
        Change(before[1], between[1], parameters.Gradient(1)).Should().BeApproximately(-0.1, 1e-4);
        Change(between[0], after[0], parameters.Gradient(0)).Should().BeApproximately(-0.5, 1e-4);
        Change(between[1], after[1], parameters.Gradient(1)).Should().BeApproximately(-0.05, 1e-4);

        static double Change(float[] from, float[] to, float[] gradient)
        {
            var i = Array.IndexOf(gradient, gradient.MaxBy(Math.Abs));
            return (to[i] - (double)from[i]) / gradient[i];
        }
    }

    [Test]
    public void Schedulers_that_move_momentum_or_betas_work()
    {
        using var parameters = Parameters.Make(1);
        using var sgd = new FusedSgd(parameters.All, 0.1, momentum: 0.9);
        using var adam = new FusedAdam(parameters.All, 0.1);
        using var reference = optim.SGD(parameters.All, 0.1, momentum: 0.9);
        optim.lr_scheduler.LRScheduler[] schedulers =
        [
            optim.lr_scheduler.OneCycleLR(sgd, max_lr: 1, total_steps: 20), optim.lr_scheduler.OneCycleLR(adam, max_lr: 1, total_steps: 20),
            optim.lr_scheduler.OneCycleLR(reference, max_lr: 1, total_steps: 20),
        ];
        for (var step = 0; step < 10; step++)
        {
            foreach (var scheduler in schedulers) scheduler.step();
            var group = sgd.ParamGroups.Single();
            group.LearningRate.Should().Be(reference.ParamGroups.Single().LearningRate).And.Be(adam.ParamGroups.Single().LearningRate);
            ((optim.IMomentum)group).Momentum.Should().Be(((optim.IMomentum)reference.ParamGroups.Single()).Momentum);
        }
    }

    [Test]
    public void A_parameter_without_a_gradient_is_left_alone()
    {
        using var parameters = Parameters.Make(2);
        using var optimizer = new FusedAdam(parameters.All, 0.01);
        parameters.SetGradients(0);
        optimizer.step();
        var before = parameters.Values()[1];
        parameters.All[1].grad = null;
        optimizer.step();
        parameters.Values()[1].Should().Equal(before);
    }

    [TestCase(ScalarType.Float64)]
    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    public void Parameters_of_other_dtypes_are_trained_with_float32_moments(ScalarType dtype)
    {
        using var values = randn(40, dtype: ScalarType.Float32);
        using var parameter = nn.Parameter(values.to(dtype));
        using var before = parameter.detach().to(ScalarType.Float32).clone();
        using var optimizer = new FusedSgd([parameter], 0.5);
        using var gradient = ones(40, dtype: dtype);
        parameter.grad = gradient;
        optimizer.step();
        using var after = parameter.detach().to(ScalarType.Float32);
        using Scalar half = 0.5;
        using var expected = before.sub(half).to(dtype).to(ScalarType.Float32);
        TestModels.Bytes(after).Should().Equal(TestModels.Bytes(expected));
    }

    [Test]
    public void State_saved_and_loaded_continues_bit_identically()
    {
        using var parameters = Parameters.Make(3);
        using var optimizer = new FusedAdam(parameters.All, 0.01, amsGrad: true);
        for (var step = 0; step < 3; step++)
        {
            parameters.SetGradients(step);
            Update(optimizer, parameters, 7);
        }

        using var stream = new MemoryStream();
        optimizer.SaveState(new BinaryWriter(stream));
        using var resumed = new FusedAdam(parameters.All, 0.01, amsGrad: true);
        stream.Position = 0;
        resumed.LoadState(new BinaryReader(stream));

        parameters.SetGradients(9);
        Update(resumed, parameters, 7).Should().BeEquivalentTo(Update(optimizer, parameters, 7), o => o.WithStrictOrdering());
    }

    [Test]
    public void LoadState_of_anything_else_is_refused_and_changes_nothing()
    {
        using var parameters = Parameters.Make(2);
        using var optimizer = new FusedAdam(parameters.All, 0.01);
        parameters.SetGradients(0);
        Update(optimizer, parameters, 7);
        using var stream = new MemoryStream();
        optimizer.SaveState(new BinaryWriter(stream));
        var saved = stream.ToArray();

        using var sgd = new FusedSgd(parameters.All, 0.01);
        var wrongKind = () => sgd.LoadState(new BinaryReader(new MemoryStream(saved)));
        wrongKind.Should().Throw<InvalidDataException>();
        for (var length = 0; length < saved.Length; length += 7)
        {
            var cut = () => optimizer.LoadState(new BinaryReader(new MemoryStream(saved, 0, length)));
            cut.Should().Throw<InvalidDataException>();
        }

        using var again = new MemoryStream();
        optimizer.SaveState(new BinaryWriter(again));
        again.ToArray().Should().Equal(saved);
    }

    [Test]
    public void Options_out_of_range_are_refused_by_name()
    {
        using var parameters = Parameters.Make(1);
        var all = parameters.All;
        ((Action)(() => _ = new FusedSgd(all, -1))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("learningRate");
        ((Action)(() => _ = new FusedSgd(all, double.NaN))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("learningRate");
        ((Action)(() => _ = new FusedSgd(all, 1, momentum: -0.1))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("momentum");
        ((Action)(() => _ = new FusedSgd(all, 1, nesterov: true))).Should().Throw<ArgumentException>().WithParameterName("nesterov");
        ((Action)(() => _ = new FusedAdam(all, 1, beta1: 1))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("beta1");
        ((Action)(() => _ = new FusedAdam(all, 1, beta2: -1))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("beta2");
        ((Action)(() => _ = new FusedAdam(all, 1, epsilon: 0))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("epsilon");
        ((Action)(() => _ = new FusedAdamW(all, 1, weightDecay: -1))).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("weightDecay");
    }

    private static float[][] Update(IUpdateRule rule, Parameters parameters, int blockSize)
    {
        rule.BeginStep(Enumerable.Repeat(true, parameters.All.Count).ToArray());
        var values = parameters.Values();
        var updates = values.Select(v => new float[v.Length]).ToArray();
        for (var p = 0; p < values.Length; p++)
        {
            var gradient = parameters.Gradient(p);
            for (var start = 0; start < gradient.Length; start += Math.Min(blockSize, gradient.Length))
            {
                var length = Math.Min(blockSize, gradient.Length - start);
                rule.ComputeUpdate(p, start, gradient.AsSpan(start, length), values[p].AsSpan(start, length), updates[p].AsSpan(start, length));
            }
        }

        return updates;
    }

    /// <summary>A few parameters with gradients that follow from a step's number.</summary>
    private sealed class Parameters : IDisposable
    {
        private static readonly int[] Lengths = [37, 1, 64];

        public List<Parameter> All { get; } = [];

        public static Parameters Make(int count)
        {
            var parameters = new Parameters();
            for (var p = 0; p < count; p++) parameters.All.Add(nn.Parameter(tensor(Numbers(Lengths[p], 100 + p))));
            return parameters;
        }

        public void SetGradients(int step)
        {
            for (var p = 0; p < All.Count; p++)
            {
                using var gradient = tensor(Numbers(Lengths[p], (step * 10) + p));
                All[p].grad = gradient;
            }
        }

        public float[] Gradient(int p)
        {
            using var gradient = All[p].grad!;
            return gradient.data<float>().ToArray();
        }

        public float[][] Values() => [.. All.Select(p => p.detach().data<float>().ToArray())];

        public void Write(float[][] values)
        {
            using var guard = no_grad();
            for (var p = 0; p < All.Count; p++) All[p].copy_(tensor(values[p]));
        }

        public void Dispose() => All.ForEach(p => p.Dispose());

        private static float[] Numbers(int count, int seed)
        {
            var random = new Random(seed);
            return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() * 2) - 1))];
        }
    }
}
