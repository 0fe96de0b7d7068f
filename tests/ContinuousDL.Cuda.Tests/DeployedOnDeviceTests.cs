using ContinuousDL.Compression;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Tests.TestDouble;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Steps whose selection is added to the deployed parameters by the kernels are those of the CPU path, and wait once.</summary>
public class DeployedOnDeviceTests
{
    [Test]
    public void Steps_are_bit_identical_to_those_of_the_CPU_path_for_every_precision([Values] DeployedValuePrecision precision)
    {
        using var queue = new AcceleratorQueue(8, 2);
        Compare(queue, TestModels.WithBatchNorm, ScalarType.Float32, precision);
        queue.Launched.Select(l => l.Kernel).Should().Contain(nameof(ModelKernels.AddSelected)).And.NotContain(nameof(UpdateKernels.Subtract));
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float64)]
    public void Steps_are_bit_identical_to_those_of_the_CPU_path_for_other_dtypes(ScalarType dtype)
    {
        using var queue = new AcceleratorQueue(8, 2);
        Compare(queue, () => TestModels.Mlp(dtype), dtype, DeployedValuePrecision.Float32);
        queue.Launched.Select(l => l.Kernel).Should().Contain(nameof(ModelKernels.AddSelected));
    }

    [Test]
    public void A_step_waits_for_the_device_once_and_brings_nothing_to_it_but_a_zero()
    {
        DriverDouble.Reset();
        using var device = new CudaDevice(CudaDriver.Load(DriverDouble.Path), 0);
        using var model = TestModels.WithBatchNorm();
        using (var trainer = CudaTrainers.Make(model, Strategy(device)))
        {
            for (var step = 0; step < 2; step++) CudaTrainers.Step(trainer, step);
            var before = DriverDouble.Calls.Length;
            CudaTrainers.Step(trainer, 2);
            var calls = DriverDouble.Calls[before..];
            calls.Count(c => c == "cuStreamSynchronize").Should().Be(1);
            calls.Count(c => c == "cuMemcpyHtoDAsync").Should().Be(1);
            calls.Count(c => c == "cuMemcpyDtoHAsync").Should().Be(3, "state, coordinates and what changed");
            calls.Should().NotContain("cuMemHostAlloc");
        }

        DriverDouble.Failure.Should().BeNull();
        DriverDouble.Locked.Should().Be(0, "all that was taken is given back");
    }

    [Test]
    public void A_trainer_and_its_replica_on_a_device_stay_in_step()
    {
        DriverDouble.Reset();
        using var device = new CudaDevice(CudaDriver.Load(DriverDouble.Path), 0);
        using var model = TestModels.WithBatchNorm();
        using var trainer = CudaTrainers.Make(model, Strategy(device));
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot(), new QueueAccess(device));
        for (var step = 0; step < 5; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step);
            using var result = trainer.Step(inputs, targets);
            replica.Apply(result.Update!).Should().BeTrue();
            replica.Verify().Should().BeTrue();
            replica.Digest.Should().Be(trainer.Deployed.Digest);
        }

        trainer.CreateSnapshot().StateDigest.Should().Be(trainer.Deployed.Digest);
        DriverDouble.Failure.Should().BeNull();
    }

    [Test]
    public void An_update_that_overflows_reaches_no_replica()
    {
        using var queue = new AcceleratorQueue(8, 2);
        using var model = TestModels.Mlp();
        using var trainer = new ProactiveTrainer(
            model,
            nn.CrossEntropyLoss(),
            optim.SGD(model.parameters(), 1e38),
            new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
            new ProactiveTrainerComponents { Strategy = Strategy(queue) });
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(16, 1);
        var before = TestModels.State(model);
        using Scalar much = 1e10;
        var large = inputs.mul(much);
        trainer.Invoking(t => t.Step(large, targets)).Should().Throw<NonFiniteException>().WithMessage("*learning rate*");
        TestModels.State(model).Should().Equal(before);
        trainer.Deployed.Sequence.Should().Be(0);
    }

    [Test]
    public void Deployed_parameters_that_kernels_cannot_address_are_added_to_in_main_memory()
    {
        using var queue = new AcceleratorQueue(8, 2);
        Compare(queue, () => new TransposedMlp(), ScalarType.Float32, DeployedValuePrecision.Float32);
        queue.Launched.Select(l => l.Kernel).Should().Contain(nameof(UpdateKernels.Subtract)).And.NotContain(nameof(ModelKernels.AddSelected));
    }

    private static CudaUpdateCompression Strategy(IKernelQueue queue) => new(new TopKCompressor(0.05), 0, null, (Device _, out string? problem) =>
    {
        problem = null;
        return queue;
    });

    private static void Compare(IKernelQueue queue, Func<nn.Module<Tensor, Tensor>> create, ScalarType dtype, DeployedValuePrecision precision)
    {
        manual_seed(5);
        using var a = create();
        using var b = create();
        ModelSnapshot.Of(a).CopyTo(b);
        using var onDevice = Make(a, Strategy(queue), precision);
        using var onCpu = Make(b, new UpdateCompression(new TopKCompressor(0.05)), precision);
        foreach (var module in a.modules().Concat(b.modules()).OfType<Dropout>()) module.eval();
        for (var step = 0; step < 6; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step, dtype);
            using var first = onDevice.Step(inputs, targets);
            using var second = onCpu.Step(inputs, targets);
            first.Update!.Coordinates.ToArray().Should().Equal(second.Update!.Coordinates.ToArray());
            first.Update.Values.ToArray().Should().Equal(second.Update.Values.ToArray());
            first.Update.StateDigest.Should().Be(second.Update.StateDigest);
        }

        TestModels.State(a).Should().Equal(TestModels.State(b));
    }

    private static ProactiveTrainer Make(nn.Module<Tensor, Tensor> model, IDeploymentStrategy strategy, DeployedValuePrecision precision) => new(
        model,
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), 0.05),
        new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, DeployedValuePrecision = precision },
        new ProactiveTrainerComponents { Strategy = strategy });

    /// <summary>A linear layer whose weights lie column by column.</summary>
    private sealed class TransposedMlp : nn.Module<Tensor, Tensor>
    {
        private readonly Parameter weight;

        public TransposedMlp()
            : base("transposed")
        {
            using var guard = no_grad();
            using var rows = randn(TestModels.Classes, TestModels.Features);
            using var columns = rows.t();
            weight = new Parameter(columns);
            register_parameter("weight", weight);
        }

        public override Tensor forward(Tensor input) => input.matmul(weight);
    }
}
