using ContinuousDL.DependencyInjection;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests;
using Microsoft.Extensions.DependencyInjection;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The kernels as a replica's access to its tensors, where there is no GPU.</summary>
public class CudaTensorAccessTests
{
    [Test]
    public void Models_in_main_memory_are_left_to_main_memory()
    {
        using var model = TestModels.WithBatchNorm();
        var access = new CudaTensorAccess();
        access.TryCreate(ModelTensors.Of(model), null).Should().BeNull();
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, ModelSnapshot.Of(model), access);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void The_builder_gives_it_to_the_containers_replicas()
    {
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => TestModels.Mlp()).AddContinuousDLCuda();
        using var provider = services.BuildServiceProvider();
        provider.GetRequiredService<ITensorAccessProvider>().Should().BeOfType<CudaTensorAccess>();
    }

    [Test]
    public void A_replica_of_which_one_side_cannot_be_addressed_follows_all_the_same()
    {
        using var queue = new AcceleratorQueue(8, 1);
        using var model = TestModels.Mlp();
        var access = new QueueAccess(queue, sides: 1);
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), ModelSnapshot.Of(model), access);
        access.Asked.Should().Be(2);
        var random = new Random(1);
        for (var sequence = 1; sequence < 5; sequence++)
        {
            using var current = replica.Acquire();
            using var update = MixedModel.Update(ModelTensors.Of(current.Model), 20, random, sequence);
            current.Dispose();
            replica.Apply(update).Should().BeTrue();
            replica.Verify().Should().BeTrue();
        }
    }
}
