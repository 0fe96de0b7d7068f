using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Samples;
using ContinuousDL.Tests.Transport;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Snapshots;

/// <summary>
/// Tensors that take more bytes than an array or a span can have go the same ways as others. Small ones stand in for them, in
/// parts of 64 bytes; <see cref="A_model_of_537_million_coordinates_goes_all_the_way"/> takes a real one.
/// </summary>
/// <remarks>
/// The large one, with 14 GB of memory and 2.2 GB of disk:
/// <code>dotnet test tests/ContinuousDL.Tests -c Release --filter TestCategory=Large</code>
/// </remarks>
[NonParallelizable]
public class LargeTensorTests
{
    private static readonly UpdateCodec Codec = new();

    [Test]
    public void A_snapshot_in_parts_is_the_same_snapshot()
    {
        using var model = TestModels.WithBatchNorm();
        var whole = ModelSnapshot.Of(model);
        using var signing = UpdateSigning.HmacSha256("the key of the snapshots' tests"u8);
        var codec = new UpdateCodec(new UpdateCodecOptions { Signing = signing });
        var signed = codec.Sign(whole);
        var file = Saved(whole);
        using var parts = new SmallParts();
        var snapshot = ModelSnapshot.Of(model);
        snapshot.Tensor(0).PartCount.Should().Be(6);
        snapshot.StateDigest.Should().Be(whole.StateDigest);
        Saved(snapshot).Should().Equal(file);
        codec.Sign(snapshot).Signature.ToArray().Should().Equal(signed.Signature.ToArray());
        using var changed = ModelUpdate.Between(snapshot, whole, sequence: 1);
        changed.Count.Should().Be(0);

        foreach (var stream in new Stream[] { new MemoryStream(file), new OneWayStream(file) })
        {
            var loaded = ModelSnapshot.Load(stream);
            loaded.Tensor(0).PartCount.Should().Be(6);
            loaded.StateDigest.Should().Be(whole.StateDigest);
            using var copy = TestModels.WithBatchNorm();
            loaded.CopyTo(copy);
            TestModels.State(copy).Should().Equal(TestModels.State(model));
        }
    }

    [Test]
    public void Values_that_no_span_can_show_are_copied_in_pieces()
    {
        using var model = TestModels.Mlp();
        var expected = ModelSnapshot.Of(model).Values(0).ToArray();
        using var parts = new SmallParts();
        var snapshot = ModelSnapshot.Of(model);
        var values = () => snapshot.Values(0).Length;
        values.Should().Throw<NotSupportedException>().WithMessage("*hidden.weight*384 bytes*CopyValues*");
        var copy = new byte[200];
        snapshot.CopyValues(0, 100, copy);
        copy.Should().Equal(expected[100..300]);
        snapshot.Invoking(s => s.CopyValues(0, 185, copy)).Should().Throw<ArgumentOutOfRangeException>();
        snapshot.Invoking(s => s.CopyValues(0, -1, copy)).Should().Throw<ArgumentOutOfRangeException>();
    }

    [Test]
    public void Changes_between_states_in_parts_are_found()
    {
        using var model = TestModels.Mlp();
        using var parts = new SmallParts();
        var before = ModelSnapshot.Of(model);
        using (no_grad())
        {
            foreach (var (row, column) in new[] { (0, 0), (2, 3), (2, 4), (15, 5) })
            {
                using var element = model.get_parameter("hidden.weight")![row, column];
                _ = element.fill_(7f);
            }
        }

        using var update = ModelUpdate.Between(before, ModelSnapshot.Of(model), sequence: 1);
        update.Coordinates.ToArray().Should().Equal(0, 15, 16, 95);
    }

    [Test]
    public async Task A_trainer_its_log_and_its_replicas_agree_on_tensors_in_parts()
    {
        using var parts = new SmallParts();
        using var folder = new TemporaryFolder();
        using var model = TestModels.WithBatchNorm();
        using var loss = nn.CrossEntropyLoss();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 8, Density = 0.05 });
        using var log = UpdateLog.Open(folder.Path);
        log.WriteSnapshot(trainer.CreateSnapshot());
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        for (var step = 0; step < 10; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, step);
            using var result = trainer.Step(inputs, targets);
            log.Append(result.Update!);
            replica.Apply(Codec.Encode(result.Update!), Codec).Should().BeTrue();
        }

        replica.Verify().Should().BeTrue();
        replica.Digest.Should().Be(trainer.Deployed.Digest);
        log.StateAt(10).StateDigest.Should().Be(trainer.Deployed.Digest);

        using var batch = new MemoryStream();
        await UpdateBatchFormat.WriteAsync(batch, new UpdateBatch { Snapshot = trainer.CreateSnapshot(), NewestSequence = 10 });
        batch.Position = 0;
        (await UpdateBatchFormat.ReadAsync(batch, batch.Length)).Snapshot!.StateDigest.Should().Be(trainer.Deployed.Digest);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Pieces_of_a_tensor_of_any_strides_are_its_values(bool throughDevice)
    {
        using var source = arange(600, dtype: ScalarType.Int16);
        using var cube = source.view(10, 6, 10);
        using var tensor = cube.transpose(0, 2);
        var entry = new LayoutEntry("tensor", CoordinateKind.Buffer, DType.Int16, tensor.shape, 100, 600);
        TensorSlot slot = throughDevice ? new DeviceTensorSlot(entry, tensor) : new CpuTensorSlot(entry, tensor);
        var digest = slot.ComputeDigest();
        var expected = TestModels.Bytes(tensor);
        using var parts = new SmallParts();
        slot.ComputeDigest().Should().Be(digest);

        using var saved = new MemoryStream();
        using (var writer = new BinaryWriter(saved, System.Text.Encoding.UTF8, leaveOpen: true)) slot.Save(writer);
        saved.ToArray().Should().Equal(expected);
        using (no_grad()) _ = tensor.zero_();
        saved.Position = 0;
        using (var reader = new BinaryReader(saved)) slot.Load(reader);
        TestModels.Bytes(tensor).Should().Equal(expected);

        using var other = zeros(tensor.shape, dtype: ScalarType.Int16);
        var copy = new CpuTensorSlot(entry, other);
        copy.CopyFrom(slot);
        TestModels.Bytes(other).Should().Equal(expected);
    }

    [Test]
    public void A_whole_update_of_more_than_2_GiB_is_refused_before_anything_changes()
    {
        var layout = ModelLayout.Of([new("weight", CoordinateKind.Parameter, DType.Float32, new long[] { 1L << 29 })]);
        var check = () => UpdateBuilder.ThrowIfTooLarge(layout);
        check.Should().Throw<NotSupportedException>().WithMessage("*2,147,483,648 bytes*snapshot*");
        var begin = () => new UpdateBuilder().BeginWhole(layout);
        begin.Should().Throw<NotSupportedException>();
    }

    /// <summary>2,147,483,648 bytes in one tensor: trained, deployed, saved, loaded, and sent over HTTP.</summary>
    [Test]
    [Explicit("It takes 14 GB of memory, 2.2 GB of disk and minutes.")]
    [Category("Large")]
    public async Task A_model_of_537_million_coordinates_goes_all_the_way()
    {
        using var folder = new TemporaryFolder();
        var path = Path.Combine(folder.Path, "large.safetensors");
        ulong digest;
        using (var model = Large())
        using (var loss = nn.MSELoss())
        using (var optimizer = new FusedSgd(model.parameters(), 0.1))
        using (var trainer = new ProactiveTrainer(
            model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 2, TriggerSize = 1, EvaluateArrivals = false },
            new ProactiveTrainerComponents { Strategy = new UpdateCompression(TopKCompressor.OfCount(1000)) }))
        {
            trainer.CreateSnapshot().Save(path);
            using var replica = new ModelReplica<Linear>(Large, ModelSnapshot.Load(path));
            GC.Collect();
            using var scope = NewDisposeScope();
            using var result = trainer.Step(randn(2, 1 << 15), randn(2, 1 << 14));
            result.Update!.Count.Should().Be(1000);
            result.Update.Coordinates[^1].Should().BeGreaterThan(1 << 28);
            replica.Apply(Codec.Encode(result.Update), Codec).Should().BeTrue();
            replica.Verify().Should().BeTrue();
            digest = trainer.Deployed.Digest;
            replica.Digest.Should().Be(digest);
            replica.CreateSnapshot().Save(path);
        }

        GC.Collect();
        GC.WaitForPendingFinalizers();
        var snapshot = ModelSnapshot.Load(path);
        snapshot.StateDigest.Should().Be(digest);
        await using var server = await HttpServer.Start();
        await server.Transport.PublishAsync(snapshot);
        (await server.Source().ReceiveAsync(Guid.Empty, 0)).Snapshot!.StateDigest.Should().Be(digest);
    }

    private static Linear Large() => nn.Linear(1 << 15, 1 << 14, hasBias: false);

    private static byte[] Saved(ModelSnapshot snapshot)
    {
        using var stream = new MemoryStream();
        snapshot.Save(stream);
        return stream.ToArray();
    }
}
