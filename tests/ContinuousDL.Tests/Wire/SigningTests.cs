using System.Security.Cryptography;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>A replica with a key follows the holder of the key, and nobody else.</summary>
public class SigningTests
{
    private static readonly byte[] Key = [.. Enumerable.Range(0, 32).Select(i => (byte)(7 * i))];
    private static readonly ECDsa Pair = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private static readonly ECDsa OtherPair = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    /// <summary>How messages are signed.</summary>
    public enum Method
    {
        Hmac,
        Ecdsa,
    }

    [OneTimeTearDown]
    public void DisposeKeys()
    {
        Pair.Dispose();
        OtherPair.Dispose();
    }

    [Test]
    public void Signed_messages_are_applied([Values] Method method)
    {
        using var stream = new Stream();
        using var signer = Signer(method);
        using var checker = Checker(method);
        var (trainer, server) = (Codec(signer), Codec(checker));
        for (var i = 0; i < 3; i++)
        {
            var message = trainer.Encode(stream.Next());
            UpdateCodec.ReadHeader(message).IsSigned.Should().BeTrue();
            stream.Replica.Apply(message, server).Should().BeTrue();
        }

        stream.Replica.Verify().Should().BeTrue();
    }

    [Test]
    public void Unsigned_forged_and_changed_messages_are_refused([Values] Method method)
    {
        using var stream = new Stream();
        using var signer = Signer(method);
        using var checker = Checker(method);
        using var forger = method == Method.Hmac ? UpdateSigning.HmacSha256(Key.AsSpan(0, 31)) : UpdateSigning.EcdsaP256PrivateKey(OtherPair.ExportPkcs8PrivateKey());
        using var otherMethod = Signer(method == Method.Hmac ? Method.Ecdsa : Method.Hmac);
        var server = Codec(checker);
        var update = stream.Next();
        var message = Codec(signer).Encode(update);
        var changed = message.ToArray();
        changed[^1] ^= 1;
        foreach (var bad in new[] { new UpdateCodec().Encode(update), Codec(forger).Encode(update), Codec(otherMethod).Encode(update), changed })
        {
            stream.Replica.Invoking(r => r.Apply(bad, server)).Should().Throw<UpdateSignatureException>().Which.Message.Should().NotContain(Convert.ToHexString(Key)[..8]);
            stream.Replica.Sequence.Should().Be(0);
        }

        // Nor can anything before the signature be changed, whether or not the checksum is made right again.
        for (var i = 0; i < message.Length; i++)
        {
            changed = message.ToArray();
            changed[i] ^= 4;
            stream.Replica.Invoking(r => r.Apply(changed, server)).Should().Throw<DeploymentException>();
        }

        stream.Replica.Verify().Should().BeTrue();
        stream.Replica.Apply(message, server).Should().BeTrue();
    }

    [Test]
    public void Replayed_and_reordered_messages_change_nothing([Values] Method method)
    {
        using var stream = new Stream();
        using var signer = Signer(method);
        var codec = Codec(signer);
        byte[][] messages = [.. Enumerable.Range(0, 4).Select(_ => codec.Encode(stream.Next()))];
        stream.Replica.Invoking(r => r.Apply(messages[1], codec)).Should().Throw<UpdateGapException>();
        stream.Replica.Apply(messages[0], codec).Should().BeTrue();
        stream.Replica.Apply(messages[1], codec).Should().BeTrue();
        stream.Replica.Apply(messages[0], codec).Should().BeFalse();
        stream.Replica.Apply(messages[1], codec).Should().BeFalse();
        stream.Replica.Invoking(r => r.Apply(messages[3], codec)).Should().Throw<UpdateGapException>();
        stream.Replica.Sequence.Should().Be(2);

        using var other = new Stream();
        var foreign = codec.Encode(other.Next());
        stream.Replica.Invoking(r => r.Apply(foreign, codec)).Should().Throw<RunMismatchException>();
        stream.Replica.Verify().Should().BeTrue();
    }

    [Test]
    public void A_public_key_can_not_sign()
    {
        using var stream = new Stream();
        using var checker = Checker(Method.Ecdsa);
        checker.CanSign.Should().BeFalse();
        Codec(checker).Invoking(c => c.Encode(stream.Next())).Should().Throw<InvalidOperationException>();
    }

    [Test]
    public void Keys_that_are_none_are_refused()
    {
        ((Action)(() => UpdateSigning.HmacSha256(new byte[15]))).Should().Throw<ArgumentException>().WithMessage("*16*15*");
        ((Action)(() => UpdateSigning.EcdsaP256PrivateKey(Key))).Should().Throw<ArgumentException>();
        ((Action)(() => UpdateSigning.EcdsaP256PrivateKey(Pair.ExportSubjectPublicKeyInfo()))).Should().Throw<ArgumentException>();
        ((Action)(() => UpdateSigning.EcdsaP256PublicKey(Pair.ExportPkcs8PrivateKey()))).Should().Throw<ArgumentException>();
        using var otherCurve = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        ((Action)(() => UpdateSigning.EcdsaP256PublicKey(otherCurve.ExportSubjectPublicKeyInfo()))).Should().Throw<ArgumentException>();
    }

    [Test]
    public void A_key_shows_nowhere()
    {
        using var signer = Signer(Method.Hmac);
        signer.ToString().Should().NotContainAny(Convert.ToHexString(Key), Convert.ToBase64String(Key));
        new UpdateCodecOptions { Signing = signer }.ToString().Should().NotContain(Convert.ToHexString(Key));
        signer.GetType().GetProperties().Should().OnlyContain(p => p.PropertyType == typeof(bool));
    }

    [Test]
    public void After_disposal_a_key_is_gone()
    {
        using var stream = new Stream();
        var signer = Signer(Method.Hmac);
        signer.Dispose();
        signer.Dispose();
        Codec(signer).Invoking(c => c.Encode(stream.Next())).Should().Throw<ObjectDisposedException>();
    }

    private static UpdateCodec Codec(UpdateSigning signing) => new(new UpdateCodecOptions { Signing = signing });

    private static UpdateSigning Signer(Method method) =>
        method == Method.Hmac ? UpdateSigning.HmacSha256(Key) : UpdateSigning.EcdsaP256PrivateKey(Pair.ExportPkcs8PrivateKey());

    private static UpdateSigning Checker(Method method) =>
        method == Method.Hmac ? UpdateSigning.HmacSha256(Key) : UpdateSigning.EcdsaP256PublicKey(Pair.ExportSubjectPublicKeyInfo());

    /// <summary>A trainer's updates, and a replica that starts where they do.</summary>
    private sealed class Stream : IDisposable
    {
        private readonly Sequential model = TestModels.WithBatchNorm();
        private readonly ProactiveTrainer trainer;
        private readonly List<ModelUpdate> updates = [];

        public Stream()
        {
            trainer = new ProactiveTrainer(
                model, nn.CrossEntropyLoss(), new FusedAdam(model.parameters(), 0.01), new ProactiveTrainerOptions { BatchSize = 16, Density = 0.1 });
            Replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        }

        public ModelReplica<Sequential> Replica { get; }

        public ModelUpdate Next()
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, updates.Count);
            updates.Add(trainer.Step(inputs, targets).Update!);
            return updates[^1];
        }

        public void Dispose()
        {
            foreach (var update in updates) update.Dispose();
            Replica.Dispose();
            trainer.Dispose();
            model.Dispose();
        }
    }
}
