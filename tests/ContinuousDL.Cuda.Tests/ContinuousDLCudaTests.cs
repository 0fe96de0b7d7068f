using ContinuousDL.Cuda.Models;
using ContinuousDL.Deployment;
using ContinuousDL.Parameters;
using ContinuousDL.Tests;
using Microsoft.Extensions.DependencyInjection;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Enabling the kernels for a process's replicas, where there is no GPU.</summary>
public class ContinuousDLCudaTests
{
    private ModelAccess.Provider? before;

    [SetUp]
    public void Remember() => before = ModelAccess.Register(null);

    [TearDown]
    public void Restore() => ModelAccess.Register(before);

    [Test]
    public void Enabled_again_and_from_several_threads_replicas_in_main_memory_are_as_they_were()
    {
        Parallel.For(0, 8, _ => ContinuousDLCuda.Enable());
        using var model = TestModels.WithBatchNorm();
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, ModelSnapshot.Of(model));
        replica.Verify().Should().BeTrue();
        ModelAccess.Of(ModelTensors.Of(model), null).Should().BeOfType<HostModelAccess>();
    }

    [Test]
    public void The_strategy_and_the_builder_enable_them()
    {
        using (new CudaUpdateCompression(0.1)) ModelAccess.Register(null).Should().NotBeNull();
        new ServiceCollection().AddContinuousDL(_ => TestModels.Mlp()).AddContinuousDLCuda();
        ModelAccess.Register(null).Should().NotBeNull();
    }

    [Test]
    public void A_replica_of_which_one_side_cannot_be_addressed_follows_all_the_same()
    {
        using var queue = new AcceleratorQueue(8, 1);
        using var model = TestModels.Mlp();
        var made = 0;
        ModelAccess.Register((tensors, twin) => made++ == 0 ? DeviceModel.TryMake(queue, tensors, twin, out _) : null);
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), ModelSnapshot.Of(model));
        made.Should().Be(2);
        var random = new Random(1);
        for (var sequence = 1; sequence < 5; sequence++)
        {
            using var current = replica.Acquire();
            using var update = MixedModel.Update(ModelTensors.Of(current.Module), 20, random, sequence);
            current.Dispose();
            replica.Apply(update).Should().BeTrue();
            replica.Verify().Should().BeTrue();
        }
    }
}
