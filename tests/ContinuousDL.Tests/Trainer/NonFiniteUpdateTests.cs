using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Residuals;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>A value that is infinite or not a number is never deployed, and never owed without a word, although the gradient is finite.</summary>
public class NonFiniteUpdateTests
{
    private static readonly Dictionary<string, Func<IGradientCompressor>> Compressors = new()
    {
        ["top-k"] = () => TopKCompressor.OfCount(2),
        ["top-k of each tensor"] = () => TopKCompressor.OfCount(1, CompressionScope.PerTensor),
        ["random-k"] = () => RandomKCompressor.OfCount(2000),
        ["threshold"] = () => new ThresholdCompressor(1e-3f),
        ["sign"] = () => new SignCompressor(),
        ["sign of the whole model"] = () => new SignCompressor(CompressionScope.WholeModel),
        ["qsgd"] = () => new QsgdCompressor(2),
        ["qsgd, nearest"] = () => new QsgdCompressor(4, QsgdRounding.Nearest),
        ["nothing"] = () => new NoCompressor(),
    };

    private static readonly Dictionary<string, Func<IGradientCompressor, IDeploymentStrategy>> Strategies = new()
    {
        ["update"] = c => new UpdateCompression(c),
        ["update ahead"] = c => new UpdateCompression(c, lookahead: 0.5),
        ["gradient"] = c => new GradientCompression(c, new NoResidualMemory()),
        ["gradient owed"] = c => new GradientCompression(c),
        ["difference"] = c => new ReplicaDifference(c),
        ["dense"] = _ => new DenseDeployment(),
    };

    public static IEnumerable<TestCaseData> Pairs() =>
        from strategy in Strategies.Keys
        from compressor in Compressors.Keys
        where HasInfiniteUpdate(strategy, compressor)
        select new TestCaseData(strategy, compressor);

    [TestCaseSource(nameof(Pairs))]
    public void A_gradient_that_the_learning_rate_makes_infinite_stops_the_trainer_and_reaches_no_replica(string strategy, string compressor)
    {
        using var calm = nn.Parameter(ones(3000));
        using var steep = nn.Parameter(ones(5));
        using var model = new Holder(calm, steep);
        using var optimizer = new FusedSgd(model.parameters(), 100);
        var factor = 1e-3f;
        using var trainer = Make(model, (_, _) => Scaled(calm, 1e-3f) + Scaled(steep, factor), optimizer, Strategies[strategy](Compressors[compressor]()));
        using var replica = new ModelReplica<Holder>(() => new Holder(nn.Parameter(zeros(3000)), nn.Parameter(zeros(5))), trainer.CreateSnapshot());
        for (var step = 0; step < 3; step++) StepOnce(trainer, replica);
        var before = trainer.CreateSnapshot();

        factor = 1e37f;
        NonFiniteException? thrown = null;
        for (var step = 0; step < 12 && thrown is null; step++)
        {
            // One that picks coordinates of the gradient may take some steps until the optimizer sees the steep one; nothing of it is in them.
            if (Catch(() => StepOnce(trainer, replica)) is { } e) thrown = e;
            else before = trainer.CreateSnapshot();
        }

        thrown.Should().NotBeNull();
        thrown!.ParameterName.Should().Be("weight1");
        thrown.Message.Should().Contain("weight1").And.Contain("learning rate");
        replica.Verify().Should().BeTrue();
        replica.CreateSnapshot().StateDigest.Should().Be(before.StateDigest);
        trainer.Deployed.Digest.Should().Be(before.StateDigest, "nothing is half written");
        trainer.Deployed.Sequence.Should().Be(before.Sequence);
        trainer.Invoking(t => t.Step()).Should().Throw<InvalidOperationException>().WithInnerException<NonFiniteException>();
    }

    [Test]
    public void A_sum_out_of_the_dtypes_range_is_not_deployed(
        [Values("update", "update ahead", "gradient", "difference", "dense")] string strategy,
        [Values(ScalarType.Float16, ScalarType.BFloat16, ScalarType.Float32)] ScalarType dtype,
        [Values("top-k", "nothing")] string compressor)
    {
        var (weight, step) = dtype switch
        {
            ScalarType.Float16 => (65_000f, 1_000f),
            ScalarType.BFloat16 => (3.38e38f, 3e36f),
            _ => (3.4e38f, 1e36f),
        };
        using var small = nn.Parameter(ones(4, dtype: dtype));
        using Scalar large = weight;
        using var values = full([4], large, dtype: dtype);
        using var near = nn.Parameter(values);
        using var model = new Holder(small, near);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        using var trainer = Make(
            model, (_, _) => Scaled(small, 1e-3f) + Scaled(near, -step), optimizer, Strategies[strategy](compressor == "nothing" ? new NoCompressor() : TopKCompressor.OfCount(8)));
        var before = trainer.CreateSnapshot();
        using var replica = new ModelReplica<Holder>(() => new Holder(nn.Parameter(zeros(4, dtype: dtype)), nn.Parameter(zeros(4, dtype: dtype))), before);
        var thrown = Catch(() => StepOnce(trainer, replica));
        thrown.Should().NotBeNull();
        thrown!.ParameterName.Should().Be("weight1");
        trainer.Deployed.Digest.Should().Be(before.StateDigest);
        trainer.Deployed.Sequence.Should().Be(0);
        replica.CreateSnapshot().StateDigest.Should().Be(before.StateDigest);

        // Where the deployed parameters are the trained ones, what was written before the culprit was found is taken back, bit for bit.
        if (strategy is "update" or "gradient") ModelSnapshot.Of(model).StateDigest.Should().Be(before.StateDigest);
    }

    [Test]
    public void A_sum_that_is_rounded_to_a_smaller_format_stays_finite([Values(DeployedValuePrecision.BFloat16, DeployedValuePrecision.Float16)] DeployedValuePrecision precision)
    {
        using Scalar high = 65_000f;
        using var values = full([4], high);
        using var parameter = nn.Parameter(values);
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        using var trainer = Make(model, (_, _) => Scaled(parameter, -1000), optimizer, new UpdateCompression(new NoCompressor()), precision);
        StepOnce(trainer);
        using var current = parameter.detach();
        current.data<float>().ToArray().Should().OnlyContain(x => x == (precision == DeployedValuePrecision.Float16 ? 65_504 : 66_048));
    }

    [Test]
    public void Values_that_were_infinite_to_begin_with_stay_and_are_no_fault([Values("difference", "dense")] string strategy)
    {
        using var values = tensor(new[] { 1, float.NegativeInfinity, 2, float.NegativeInfinity });
        using var bias = nn.Parameter(values);
        using var model = new Holder(bias);
        using var optimizer = optim.SGD(model.parameters(), 0.1);
        using var trainer = Make(model, (_, _) => bias.softmax(0).narrow(0, 0, 1).log().neg().sum(), optimizer, Strategies[strategy](TopKCompressor.OfCount(3)));
        for (var step = 0; step < 5; step++) StepOnce(trainer);
        using var current = bias.detach();
        var numbers = current.data<float>().ToArray();
        numbers[1].Should().Be(float.NegativeInfinity);
        numbers[0].Should().BeGreaterThan(1);
    }

    [Test]
    public void Nothing_added_changes_no_bit()
    {
        using var values = tensor(new[] { -0f, 1, -0f });
        using var parameter = nn.Parameter(values);
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 0);
        var before = TestModels.State(model);
        using var trainer = Make(model, (_, _) => Scaled(parameter, 1), optimizer, new UpdateCompression(new NoCompressor()));
        StepOnce(trainer);
        TestModels.State(model).Should().Equal(before);
    }

    /// <summary>One scale for all coordinates of a gradient is so much smaller than its steep part that the update is finite.</summary>
    private static bool HasInfiniteUpdate(string strategy, string compressor) => strategy switch
    {
        "dense" => compressor == "nothing",
        "gradient" or "gradient owed" => compressor != "sign of the whole model",
        _ => true,
    };

    /// <summary>Zero, with a gradient that is the same for every element.</summary>
    private static Tensor Scaled(Tensor tensor, float gradient)
    {
        using Scalar scalar = gradient;
        using var wide = tensor.to(ScalarType.Float32);
        using var same = wide.detach();
        using var zero = wide.sub(same);
        using var scaled = zero.mul(scalar);
        return scaled.sum();
    }

    private static NonFiniteException? Catch(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (NonFiniteException e)
        {
            return e;
        }
    }

    private static ProactiveTrainer Make(
        nn.Module model, Func<Tensor, Tensor, Tensor> loss, optim.Optimizer optimizer, IDeploymentStrategy strategy, DeployedValuePrecision precision = DeployedValuePrecision.Float32) => new(
        model,
        loss,
        optimizer,
        new ProactiveTrainerOptions { BatchSize = 1, TriggerSize = 1, EvaluateArrivals = false, DeployedValuePrecision = precision },
        new ProactiveTrainerComponents { Strategy = strategy });

    private static void StepOnce(ProactiveTrainer trainer, ModelReplica<Holder>? replica = null)
    {
        using var inputs = zeros(1, 1);
        using var targets = zeros(1);
        using var result = trainer.Step(inputs, targets);
        replica?.Apply(result.Update!);
    }

    /// <summary>A module that is nothing but parameters.</summary>
    private sealed class Holder : nn.Module
    {
        public Holder(params Parameter[] parameters)
            : base("holder")
        {
            for (var i = 0; i < parameters.Length; i++) register_parameter($"weight{i}", parameters[i]);
        }
    }
}
