using ContinuousDL.Compression;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Cuda.Tests.TestDouble;
using ContinuousDL.Deployment;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Replicas whose updates go through the driver's test double: the state of one in main memory, with one wait for each update.</summary>
public class DeviceReplicaTests
{
    private CudaDevice device = null!;

    [SetUp]
    public void Open()
    {
        DriverDouble.Reset();
        device = new CudaDevice(CudaDriver.Load(DriverDouble.Path), 0);
    }

    [TearDown]
    public void Close()
    {
        DriverDouble.Failure.Should().BeNull();
        DriverDouble.Locked.Should().Be(0, "all that was taken is given back");
        device.Dispose();
        DriverDouble.Depth.Should().Be(0);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void A_replica_is_bit_identical_to_one_in_main_memory(bool messages)
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        for (var step = 0; step < 8; step++) run.Step(step, messages && step % 3 != 1);
        DriverDouble.Launches.Should().Contain(l => l.Contains(nameof(ModelKernels.WriteModel))).And.Contain(l => l.Contains(nameof(ModelKernels.CopyModel)));
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float64)]
    public void A_replica_of_another_dtype_is_bit_identical_to_one_in_main_memory(ScalarType dtype)
    {
        using var run = new Run(() => TestModels.Mlp(dtype), device, dtype);
        for (var step = 0; step < 4; step++) run.Step(step, messages: step % 2 == 1);
    }

    [Test]
    public void An_update_crosses_once_and_is_waited_for_once()
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        for (var step = 0; step < 3; step++) run.Step(step, messages: false);
        var before = DriverDouble.Calls.Length;
        run.Step(3, messages: false, verify: false);
        var calls = DriverDouble.Calls[before..];
        calls.Count(c => c == "cuStreamSynchronize").Should().Be(1);
        calls.Count(c => c == "cuMemcpyHtoDAsync").Should().Be(1, "the other copy of the model, and the one that follows, use what is there");
        calls.Count(c => c == "cuMemcpyDtoHAsync").Should().Be(1);
        calls.Where(c => c.StartsWith(' ')).Select(c => c.Trim().Split(' ')[0]).Should().Equal("Kernel_CopyModel", "Kernel_DigestChange", "Kernel_WriteModel");
        calls.Should().NotContain("cuMemHostAlloc");
    }

    [Test]
    public void A_message_with_changes_is_waited_for_once()
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        for (var step = 0; step < 3; step++) run.Step(step, messages: true);
        var before = DriverDouble.Calls.Length;
        run.Step(3, messages: true, verify: false);
        var calls = DriverDouble.Calls[before..];
        calls.Count(c => c == "cuStreamSynchronize").Should().Be(1);
        calls.Count(c => c == "cuMemcpyHtoDAsync").Should().Be(2, "first the coordinates, whose old values decode the new ones, then those");
        calls.Where(c => c.StartsWith(' ')).Select(c => c.Trim().Split(' ')[0]).Should().Equal("Kernel_CopyModel", "Kernel_ReadModel", "Kernel_WriteModel");
    }

    [TestCase(false)]
    [TestCase(true)]
    public void A_replica_that_has_drifted_refuses_and_stays_as_it_was(bool messages)
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        for (var step = 0; step < 3; step++) run.Step(step, messages);
        using var update = run.Train(3);

        // In a coordinate that the update changes: it shows at once.
        var first = update.Coordinates[0];
        var copies = run.CopiesOnDevice.Select(ModelTensors.Of).ToArray();
        Flip();
        run.OnDevice.Verify().Should().BeFalse();
        using var lease = run.OnDevice.Acquire();
        var state = TestModels.State(lease.Model);
        for (var attempt = 0; attempt < 2; attempt++)
        {
            FluentActions.Invoking(() => run.Apply(run.OnDevice, update, messages)).Should().Throw<ReplicaDivergedException>();
            run.OnDevice.Sequence.Should().Be(3);
            TestModels.State(lease.Model).Should().Equal(state);
            run.OnDevice.Verify().Should().BeFalse();
        }

        Flip();
        run.OnDevice.Verify().Should().BeTrue();
        lease.Dispose();
        run.Apply(run.OnDevice, update, messages: false);
        run.OnDevice.Verify().Should().BeTrue();
        run.OnDevice.Digest.Should().Be(update.StateDigest);

        void Flip()
        {
            foreach (var slot in copies.Select(c => c.Slots[c.Layout.EntryOf(first)]))
            {
                var bits = new ulong[1];
                slot.Read([first], bits);
                slot.Write([first], [bits[0] ^ 1]);
            }
        }
    }

    [Test]
    public void Whole_updates_and_snapshots_come_between_sparse_ones()
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        run.Step(0, messages: false);
        using var whole = run.Whole();
        run.Apply(run.OnDevice, whole, messages: false);
        run.OnDevice.Verify().Should().BeTrue();
        run.OnDevice.Restore(run.Trainer.CreateSnapshot());
        run.OnDevice.Verify().Should().BeTrue();
        for (var step = 1; step < 4; step++) run.Step(step, messages: step == 2);
    }

    [Test]
    public void Replicas_verify_while_updates_are_applied()
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        using var updates = new CancellationTokenSource();
        var verifying = Task.Run(() =>
        {
            do run.OnDevice.Verify().Should().BeTrue();
            while (!updates.IsCancellationRequested);
        });
        for (var step = 0; step < 30; step++) run.Step(step, messages: false);
        updates.Cancel();
        verifying.GetAwaiter().GetResult();
    }

    [Test]
    public void A_failure_of_the_driver_leaves_the_replica_as_it_was()
    {
        using var run = new Run(TestModels.WithBatchNorm, device);
        run.Step(0, messages: false);
        using var update = run.Train(1);
        DriverDouble.Fail("cuStreamSynchronize", 700);
        FluentActions.Invoking(() => run.Apply(run.OnDevice, update, messages: false)).Should().Throw<CudaDriverException>();
        run.OnDevice.Sequence.Should().Be(1);
        run.OnDevice.Verify().Should().BeTrue();
        run.Apply(run.OnDevice, update, messages: false);
        run.OnDevice.Verify().Should().BeTrue();
    }

    [Test]
    public void What_a_copy_may_still_read_is_not_overwritten()
    {
        using var expectedModel = new MixedModel(20, 1);
        using var model = new MixedModel(20, 1);
        var tensors = ModelTensors.Of(expectedModel);
        ITensorAccess expected = tensors;
        using var access = DeviceModel.TryMake(device, ModelTensors.Of(model), null, out _)!;
        var random = new Random(1);
        for (var round = 0; round < 5; round++)
        {
            // Nothing waits for a write, and the test double refuses to be waited for once a copy's source was overwritten.
            using var update = MixedModel.Update(tensors, 30 + round, random);
            expected.Write(update);
            access.Write(update);
        }

        access.ComputeDigest().Should().Be(expected.ComputeDigest());
        TestModels.State(model).Should().Equal(TestModels.State(expectedModel));
    }

    /// <summary>A trainer with a replica in main memory and one whose updates are applied by the kernels.</summary>
    private sealed class Run : IDisposable
    {
        private readonly UpdateCodec codec = new();
        private readonly Sequential model;
        private readonly ScalarType dtype;

        public Run(Func<Sequential> create, IKernelQueue queue, ScalarType dtype = ScalarType.Float32)
        {
            this.dtype = dtype;
            manual_seed(11);
            model = create();
            Trainer = CudaTrainers.Make(model, new UpdateCompression(new TopKCompressor(0.1)));
            InMainMemory = new ModelReplica<Sequential>(create, Trainer.CreateSnapshot());
            OnDevice = TestReplicas.Make(create, Trainer.CreateSnapshot(), out var copies, new QueueAccess(queue));
            CopiesOnDevice = copies;
        }

        public ProactiveTrainer Trainer { get; }

        public ModelReplica<Sequential> InMainMemory { get; }

        public ModelReplica<Sequential> OnDevice { get; }

        public IReadOnlyList<Sequential> CopiesOnDevice { get; }

        public ModelUpdate Train(int seed)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, seed, dtype);
            return Trainer.Step(inputs, targets).Update!;
        }

        public void Step(int seed, bool messages, bool verify = true)
        {
            using var update = Train(seed);
            Apply(InMainMemory, update, messages);
            Apply(OnDevice, update, messages);
            OnDevice.Digest.Should().Be(update.StateDigest);
            using var expected = InMainMemory.Acquire();
            using var actual = OnDevice.Acquire();
            TestModels.State(actual.Model).Should().Equal(TestModels.State(expected.Model));
            if (verify) OnDevice.Verify().Should().BeTrue();
        }

        public void Apply(ModelReplica<Sequential> replica, ModelUpdate update, bool messages)
        {
            var applied = messages ? replica.Apply(codec.Encode(update), codec) : replica.Apply(update);
            applied.Should().BeTrue();
        }

        /// <summary>An update to the replica's own state that lists no coordinates.</summary>
        public ModelUpdate Whole()
        {
            using var lease = OnDevice.Acquire();
            var tensors = ModelTensors.Of(lease.Model);
            var builder = new UpdateBuilder();
            builder.BeginWhole(tensors.Layout);
            foreach (var slot in tensors.Slots) slot.ReadAll(builder.NextValues(slot.Entry.Length * slot.Entry.ElementSize));
            return builder.Build(new UpdateIdentity(OnDevice.RunId, OnDevice.Sequence, OnDevice.Sequence + 1, tensors.Layout, OnDevice.Digest));
        }

        public void Dispose()
        {
            OnDevice.Dispose();
            InMainMemory.Dispose();
            Trainer.Dispose();
            model.Dispose();
        }
    }
}
