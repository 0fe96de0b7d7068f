using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Cuda.Ptx;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>A model worked on by the kernels, on ILGPU's CPU accelerator and as interpreted PTX, is bit for bit one worked on in main memory.</summary>
public class DeviceModelTests
{
    private static IEnumerable<(int Major, int Minor)> Targets => PtxCompiler.Targets;

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(31)]
    [TestCase(33)]
    [TestCase(255)]
    [TestCase(int.MaxValue)]
    public void Every_operation_gives_what_main_memory_gives_for_any_number_of_coordinates(int count)
    {
        using var queue = new AcceleratorQueue(groupSize: 16, fullGrid: 3);
        Compare(queue, 61, count);
    }

    [Test]
    public void Every_operation_gives_what_main_memory_gives_in_a_million_coordinates()
    {
        using var queue = new AcceleratorQueue(groupSize: 8, fullGrid: 2);
        Compare(queue, 80_000, 20_000, rounds: 1);
    }

    [TestCase(1, 1)]
    [TestCase(3, 7)]
    [TestCase(64, 5)]
    [TestCase(256, 2)]
    public void Groups_of_any_size_and_number_give_the_same(int groupSize, int groups)
    {
        using var queue = new AcceleratorQueue(groupSize, groups);
        Compare(queue, 20, 100, rounds: 1);
    }

    [TestCaseSource(nameof(Targets))]
    public void The_PTX_of_every_target_gives_the_same((int Major, int Minor) target)
    {
        Compare(new PtxQueue(target, 32, 3), 61, 255);
        Compare(new PtxQueue(target, 32, 2), 3, 1);
    }

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(1000)]
    public void The_PTX_gives_the_same_for_any_number_of_coordinates(int count) => Compare(new PtxQueue((9, 0), 64, 2), 61, count);

    [Test]
    public void A_tensor_that_got_other_memory_is_found_there()
    {
        using var queue = new AcceleratorQueue(16, 1);
        using var model = TestModels.Mlp();
        var tensors = ModelTensors.Of(model);
        using var device = DeviceModel.TryMake(queue, tensors, null, out _)!;
        device.ComputeDigest().Should().Be(tensors.ComputeDigest());
        using var other = rand(16, TestModels.Features);
        using (no_grad()) tensors.Slots[0].Tensor.set_(other);
        device.ComputeDigest().Should().Be(tensors.ComputeDigest());
    }

    [Test]
    public void A_tensor_that_is_disposed_is_named()
    {
        using var queue = new AcceleratorQueue(16, 1);
        var model = TestModels.Mlp();
        using var device = DeviceModel.TryMake(queue, ModelTensors.Of(model), null, out _)!;
        model.Dispose();
        device.Invoking(d => d.ComputeDigest()).Should().Throw<ObjectDisposedException>().WithMessage("*hidden.weight*");
    }

    [Test]
    public void Tensors_that_kernels_cannot_address_are_left_to_main_memory()
    {
        using var queue = new AcceleratorQueue(16, 1);
        using var storage = zeros(4, 6);
        using var turned = nn.Parameter(storage.t());
        using var model = new Holder(turned);
        DeviceModel.TryMake(queue, ModelTensors.Of(model), null, out var problem).Should().BeNull();
        problem.Should().Be("the tensor 'weight' is not contiguous");
    }

    /// <summary>Takes the same updates to a model in main memory and to twins by the kernels, and compares everything.</summary>
    private static void Compare(IKernelQueue queue, int n, int count, int rounds = 3)
    {
        using var expectedModel = new MixedModel(n, 1);
        using var model = new MixedModel(n, 1);
        using var twinModel = new MixedModel(n, 1);
        var (expectedTensors, tensors) = (ModelTensors.Of(expectedModel), ModelTensors.Of(model));
        ITensorAccess expected = expectedTensors;
        using var device = DeviceModel.TryMake(queue, tensors, null, out _)!;
        using var twin = DeviceModel.TryMake(queue, ModelTensors.Of(twinModel), device, out _)!;
        device.ComputeDigest().Should().Be(expected.ComputeDigest());
        var random = new Random(count);
        for (var round = 0; round < rounds; round++)
        {
            using var update = MixedModel.Update(expectedTensors, Math.Min(count, expectedTensors.Layout.Count), random);
            var before = TestModels.State(model);
            var change = device.DigestChange(update);
            change.Should().Be(expected.DigestChange(update));
            device.DigestChange(update).Should().Be(change, "a second question is answered like the first");
            var values = new byte[update.Values.Length];
            device.Read(update.Coordinates, values);
            values.AsSpan().SequenceEqual(update.PreviousValues).Should().BeTrue("what is read is what is there");
            TestModels.State(model).SequenceEqual(before).Should().BeTrue("nothing was written yet");

            expected.Write(update);
            device.Write(update);
            TestModels.State(model).SequenceEqual(TestModels.State(expectedModel)).Should().BeTrue("what was to be written was, and nothing else");
            device.Read(update.Coordinates, values);
            values.AsSpan().SequenceEqual(update.Values).Should().BeTrue("what is read is what was written");

            twin.CatchUp(update, device);
            TestModels.State(twinModel).SequenceEqual(TestModels.State(expectedModel)).Should().BeTrue("what was to be copied was, and nothing else");
            twin.ComputeDigest().Should().Be(update.StateDigest);
        }
    }

    private sealed class Holder : nn.Module
    {
        public Holder(TorchSharp.Modules.Parameter parameter)
            : base("holder")
        {
            register_parameter("weight", parameter);
        }
    }
}
