using System.Security.Cryptography;
using System.Text;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>A replica with a key starts from snapshots that the trainer signed, and from no others.</summary>
public class SnapshotSigningTests
{
    private static readonly byte[] Key = Encoding.ASCII.GetBytes("0123456789abcdef");

    [Test]
    public void A_signed_snapshot_is_right_before_and_after_it_was_a_file([Values] bool ecdsa)
    {
        using var keys = new Keys(ecdsa);
        using var model = TestModels.WithBatchNorm();
        var signed = keys.Trainer.Sign(ModelSnapshot.Of(model));
        signed.IsSigned.Should().BeTrue();
        keys.Replica.Verify(signed);
        var read = Read(Write(signed));
        read.IsSigned.Should().BeTrue();
        keys.Replica.Verify(read);
    }

    [Test]
    public void A_snapshot_without_a_right_signature_is_refused([Values] bool ecdsa)
    {
        using var keys = new Keys(ecdsa);
        using var others = new Keys(ecdsa, other: true);
        using var model = TestModels.Mlp();
        var snapshot = ModelSnapshot.Of(model);
        ShouldBeRefused(keys, snapshot, "*not signed;*");
        ShouldBeRefused(keys, others.Trainer.Sign(snapshot), "*not signed by the codec's key*");

        // Every part of what it says is signed: here another value, another name, another sequence.
        var signature = keys.Trainer.Sign(snapshot).Signature.ToArray();
        using Scalar one = 1;
        using (no_grad()) _ = model.parameters().First().add_(one, one);
        ShouldBeRefused(keys, ModelSnapshot.Of(model).WithSignature(signature), "*not signed by the codec's key*");
        var values = Enumerable.Range(0, snapshot.Layout.Entries.Count).Select(i => snapshot.Values(i).ToArray()).ToArray();
        ShouldBeRefused(keys, new ModelSnapshot(snapshot.Layout, values, Guid.Empty, 1).WithSignature(signature), "*not signed by the codec's key*");
        ShouldBeRefused(keys, new ModelSnapshot(snapshot.Layout, values, Guid.NewGuid(), 0).WithSignature(signature), "*not signed by the codec's key*");
        ShouldBeRefused(keys, snapshot.WithSignature([.. signature, 0]), "*not signed by the codec's key*");
    }

    [Test]
    public void A_codec_without_a_key_takes_every_snapshot_and_one_with_a_public_key_signs_none()
    {
        using var keys = new Keys(ecdsa: true);
        using var model = TestModels.Mlp();
        var snapshot = ModelSnapshot.Of(model);
        new UpdateCodec().Verify(snapshot);
        new UpdateCodec().Sign(snapshot).Should().BeSameAs(snapshot);
        keys.Replica.Invoking(c => c.Sign(snapshot)).Should().Throw<InvalidOperationException>();
    }

    [Test]
    public async Task A_follower_with_a_key_starts_from_a_signed_snapshot_and_from_no_other([Values] bool signed)
    {
        using var keys = new Keys(ecdsa: false);
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 8, Density = 0.05 });
        using var transport = new InMemoryUpdateTransport(codec: signed ? keys.Trainer : new UpdateCodec());
        await transport.PublishAsync(trainer.CreateSnapshot());

        using var untrained = TestModels.Mlp();
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), ModelSnapshot.Of(untrained));
        var before = replica.Digest;
        using var follower = new ReplicaFollower(replica, transport, new() { RetryDelay = TimeSpan.FromMilliseconds(1) }, keys.Replica);
        var settled = new TaskCompletionSource<ReplicaStatus>(TaskCreationOptions.RunContinuationsAsynchronously);
        follower.StatusChanged += (_, status) =>
        {
            if (status.State is ReplicaState.Current or ReplicaState.Failed) settled.TrySetResult(status);
        };
        using var stop = new CancellationTokenSource();
        var following = follower.RunAsync(stop.Token);
        var status = await settled.Task.WaitAsync(Patience.Limit);
        stop.Cancel();
        await following.Invoking(f => f).Should().ThrowAsync<OperationCanceledException>();
        status.State.Should().Be(signed ? ReplicaState.Current : ReplicaState.Failed);
        if (!signed) status.Reason.Should().Contain("not signed");
        replica.Digest.Should().Be(signed ? trainer.Deployed.Digest : before);
    }

    private static void ShouldBeRefused(Keys keys, ModelSnapshot snapshot, string because) =>
        keys.Replica.Invoking(c => c.Verify(snapshot)).Should().Throw<UpdateSignatureException>().WithMessage(because);

    private static byte[] Write(ModelSnapshot snapshot)
    {
        using var stream = new MemoryStream();
        snapshot.Save(stream);
        return stream.ToArray();
    }

    private static ModelSnapshot Read(byte[] bytes) => ModelSnapshot.Load(new MemoryStream(bytes));

    /// <summary>Codecs of both sides.</summary>
    private sealed class Keys : IDisposable
    {
        private readonly UpdateSigning trainer, replica;

        public Keys(bool ecdsa, bool other = false)
        {
            if (ecdsa)
            {
                using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
                trainer = UpdateSigning.EcdsaP256PrivateKey(key.ExportPkcs8PrivateKey());
                replica = UpdateSigning.EcdsaP256PublicKey(key.ExportSubjectPublicKeyInfo());
            }
            else
            {
                byte[] shared = [.. Key, other ? (byte)1 : (byte)0];
                trainer = UpdateSigning.HmacSha256(shared);
                replica = UpdateSigning.HmacSha256(shared);
            }

            (Trainer, Replica) = (new UpdateCodec(new() { Signing = trainer }), new UpdateCodec(new() { Signing = replica }));
        }

        public UpdateCodec Trainer { get; }

        public UpdateCodec Replica { get; }

        public void Dispose()
        {
            trainer.Dispose();
            replica.Dispose();
        }
    }
}
