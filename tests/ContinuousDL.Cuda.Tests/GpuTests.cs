using System.Runtime.InteropServices;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>
/// What only a GPU can show. All of them, where there is one:
/// <code>dotnet test tests/ContinuousDL.Cuda.Tests -c Release -p:TorchBackend=cuda-linux --filter TestCategory=Cuda</code>
/// </summary>
[Category("Cuda")]
public class GpuTests
{
    [OneTimeSetUp]
    public void SkipWithoutGpu()
    {
        if (!cuda_is_available())
        {
            Assert.Ignore("torch sees no CUDA device. On a machine with one: dotnet test tests/ContinuousDL.Cuda.Tests -c Release -p:TorchBackend=cuda-linux --filter TestCategory=Cuda");
        }

        InitializeDeviceType(DeviceType.CUDA);
    }

    [Test]
    public void Selection_is_the_compressors_for_every_kind_of_values(
        [ValueSource(typeof(Vectors), nameof(Vectors.Kinds))] KeyValuePair<string, Func<int, int, float[]>> kind, [Values(1, 37, 9000, 900_001)] int k)
    {
        // The bits of a NaN that an addition makes are the device's own.
        if (kind.Key is "NaN" or "infinities" or "every bit pattern but NaN") Assert.Ignore("Sums that are NaN have other bits on a GPU than on a CPU.");
        using var comparison = new Comparison(Queue(0), new VectorLayout(900_001), 0, device(DeviceType.CUDA, 0));
        for (var step = 0; step < 3; step++) comparison.Step(kind.Value(900_001, step), k, release: step == 1);
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(4097)]
    [TestCase(20_000_003)]
    public void Selection_is_the_compressors_for_any_size_and_alignment(int n)
    {
        for (var shift = 0; shift < 4; shift++)
        {
            using var comparison = new Comparison(Queue(0), new VectorLayout(n), shift, device(DeviceType.CUDA, 0));
            for (var step = 0; step < 3; step++) comparison.Step(Vectors.HeavyTailed(n, step), Math.Max(1, n / 1000), release: false);
        }
    }

    [Test]
    public void Gradients_and_updates_of_each_dtype_are_added_as_on_the_CPU(
        [Values(ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16)] ScalarType dtype, [Values(0, 1)] int shift)
    {
        const int N = 3_000_001;
        var layout = new VectorLayout(N / 3, N - (N / 3));
        using var gradients = new Comparison(Queue(0), layout, shift, device(DeviceType.CUDA, 0), dtype);
        foreach (var lookahead in new[] { 0, 0.5 })
        {
            using var weights = new WeightComparison(Queue(0), layout, dtype, lookahead, Vectors.HeavyTailed(N, 9), shift, device(DeviceType.CUDA, 0));
            for (var step = 0; step < 3; step++)
            {
                gradients.Step(Vectors.HeavyTailed(N, step), N / 1000, release: false);
                weights.Step(Vectors.HeavyTailed(N, step), N / 1000, absent: step == 1 ? 0 : -1);
            }
        }
    }

    [Test]
    public void Numbers_of_16_bits_of_every_kind_are_taken_back(
        [Values(ScalarType.BFloat16, ScalarType.Float16)] ScalarType dtype,
        [ValueSource(typeof(Vectors), nameof(Vectors.Kinds))] KeyValuePair<string, Func<int, int, float[]>> kind)
    {
        using var comparison = new WeightComparison(Queue(0), new VectorLayout(100_003), dtype, 0.7, kind.Value(100_003, 1), 0, device(DeviceType.CUDA, 0));
        for (var step = 0; step < 2; step++) comparison.Step(kind.Value(100_003, step + 2), 500);
    }

    [Test]
    public void The_kernels_give_what_plain_operations_give_on_the_device([ValueSource(typeof(CudaTrainers), nameof(CudaTrainers.Cases))] StrategyCase setup)
    {
        using var a = TestModels.Mlp(setup.DType);
        using var b = TestModels.Mlp(setup.DType);
        ModelSnapshot.Of(a).CopyTo(b);
        _ = a.to(DeviceType.CUDA, 0);
        _ = b.to(DeviceType.CUDA, 0);
        var plain = new CudaUpdateCompression(setup.Compressor(), setup.Lookahead, null, (Device _, out string? problem) =>
        {
            problem = null;
            return null;
        });
        var kernels = new CudaUpdateCompression(setup.Compressor(), setup.Lookahead);
        using var first = CudaTrainers.Make(a, kernels);
        using var second = CudaTrainers.Make(b, plain);
        (kernels.UsesKernels, plain.UsesKernels).Should().Be((true, false));
        for (var step = 0; step < 20; step++)
        {
            CudaTrainers.Step(first, step, setup.DType);
            CudaTrainers.Step(second, step, setup.DType);
            first.Deployed.Digest.Should().Be(second.Deployed.Digest);
        }
    }

    [Test]
    public void Groups_that_race_one_another_change_nothing_in_a_thousand_repetitions()
    {
        var gradient = Vectors.Kinds["many ties"](500_000, 4);
        for (var repetition = 0; repetition < 1000; repetition++)
        {
            using var comparison = new Comparison(Queue(0), new VectorLayout(500_000), 0, device(DeviceType.CUDA, 0));
            comparison.Step(gradient, 70_000, release: true);
            comparison.Step(gradient, 70_000, release: true);
        }
    }

    [Test]
    public void Two_devices_work_side_by_side()
    {
        if (cuda.device_count() < 2) Assert.Ignore($"Needs two CUDA devices; torch sees {cuda.device_count()}.");
        using var first = new Comparison(Queue(0), new VectorLayout(100_000), 0, device(DeviceType.CUDA, 0));
        using var second = new Comparison(Queue(1), new VectorLayout(100_000), 0, device(DeviceType.CUDA, 1));
        for (var step = 0; step < 10; step++)
        {
            first.Step(Vectors.HeavyTailed(100_000, step), 500, release: false);
            second.Step(Vectors.HeavyTailed(100_000, 100 + step), 300, release: true);
        }
    }

    [Test]
    public void Ten_thousand_steps_of_a_trainer_leave_the_devices_memory_flat_and_its_replica_in_step()
    {
        using var model = TestModels.Mlp();
        _ = model.to(DeviceType.CUDA, 0);
        var strategy = new CudaUpdateCompression(0.05, lookahead: 0.5);
        using var trainer = new ProactiveTrainer(
            model,
            nn.CrossEntropyLoss(),
            optim.Adam(model.parameters(), 0.01, amsgrad: true),
            new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
            new ProactiveTrainerComponents { Strategy = strategy });
        strategy.UsesKernels.Should().BeTrue();
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), trainer.CreateSnapshot());
        var before = 0L;
        for (var step = 0; step < 10_000; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step);
            using var result = trainer.Step(inputs, targets);
            replica.Apply(result.Update!);
            if (step == 200) before = FreeMemory();
        }

        replica.Digest.Should().Be(trainer.Deployed.Digest);
        (before - FreeMemory()).Should().BeLessThan(4 << 20, "a leak of a float in each step and parameter would be more");
    }

    [TestCase(61, 255)]
    [TestCase(61, int.MaxValue)]
    [TestCase(2_000_000, 200_000)]
    public void A_model_worked_on_by_the_kernels_is_one_worked_on_in_main_memory(int n, int count)
    {
        using var expectedModel = new MixedModel(n, 1);
        using var model = new MixedModel(n, 1, device(DeviceType.CUDA, 0));
        using var twinModel = new MixedModel(n, 1, device(DeviceType.CUDA, 0));
        var (expectedTensors, tensors) = (ModelTensors.Of(expectedModel), ModelTensors.Of(model));
        ITensorAccess expected = expectedTensors;
        using var access = DeviceModel.TryMake(Queue(0), tensors, null, out _)!;
        using var twin = DeviceModel.TryMake(Queue(0), ModelTensors.Of(twinModel), access, out _)!;
        access.ComputeDigest().Should().Be(expected.ComputeDigest());
        for (var round = 0; round < 3; round++)
        {
            using var update = MixedModel.Update(expectedTensors, Math.Min(count, expectedTensors.Layout.Count), new Random(round));
            access.DigestChange(update).Should().Be(expected.DigestChange(update));
            var values = new byte[update.Values.Length];
            access.Read(update.Coordinates, values);
            values.AsSpan().SequenceEqual(update.PreviousValues).Should().BeTrue();
            expected.Write(update);
            access.Write(update);
            twin.CatchUp(update, access);
            tensors.ComputeDigest().Should().Be(update.StateDigest, "that is what torch reads");
            twin.ComputeDigest().Should().Be(update.StateDigest);
        }
    }

    [Test]
    public void A_replica_on_the_device_follows_a_thousand_updates_while_it_answers([Values] DeployedValuePrecision precision)
    {
        using var model = TestModels.WithBatchNorm();
        _ = model.to(DeviceType.CUDA, 0);
        using var trainer = new ProactiveTrainer(
            model,
            nn.CrossEntropyLoss(),
            optim.SGD(model.parameters(), 0.05),
            new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, DeployedValuePrecision = precision },
            new ProactiveTrainerComponents { Strategy = new CudaUpdateCompression(0.05) });
        using var onDevice = new ModelReplica<Sequential>(
            () =>
            {
                var module = TestModels.WithBatchNorm();
                _ = module.to(DeviceType.CUDA, 0);
                return module;
            },
            trainer.CreateSnapshot(),
            new CudaTensorAccess());
        using var inMainMemory = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        for (var step = 0; step < 1000; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step);
            using var result = trainer.Step(inputs, targets);
            using var predicted = onDevice.Predict(inputs.to(DeviceType.CUDA, 0));
            onDevice.Apply(result.Update!).Should().BeTrue();
            inMainMemory.Apply(result.Update!).Should().BeTrue();
            if (step % 100 == 0) onDevice.Verify().Should().BeTrue();
        }

        onDevice.Verify().Should().BeTrue();
        inMainMemory.Verify().Should().BeTrue();
        onDevice.Digest.Should().Be(trainer.Deployed.Digest);
        onDevice.CreateSnapshot().StateDigest.Should().Be(trainer.CreateSnapshot().StateDigest);
    }

    [TestCase(ScalarType.Float32)]
    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    [TestCase(ScalarType.Float64)]
    public void What_is_added_on_the_device_is_what_the_deployed_model_adds(ScalarType dtype)
    {
        foreach (var precision in Enum.GetValues<DeployedValuePrecision>())
        {
            SelectionDeployerTests.Compare(Queue(0), [dtype], precision, separate: true, n: 300_000, k: 30_000, seed: 1, device(DeviceType.CUDA, 0));
        }
    }

    private static CudaDevice Queue(int ordinal) =>
        CudaDevices.Default.Find(ordinal, out var problem) ?? throw new InvalidOperationException(problem);

    private static unsafe long FreeMemory()
    {
        var driver = CudaDriver.Load(CudaDriver.LibraryName);
        var memory = (delegate* unmanaged<nuint*, nuint*, int>)NativeLibrary.GetExport(NativeLibrary.Load(CudaDriver.LibraryName), "cuMemGetInfo_v2");
        var context = driver.RetainPrimaryContext(driver.Device(0));
        nuint free, total;
        using (driver.Enter(context)) memory(&free, &total).Should().Be(0);
        driver.ReleasePrimaryContext(driver.Device(0));
        return (long)free;
    }
}
