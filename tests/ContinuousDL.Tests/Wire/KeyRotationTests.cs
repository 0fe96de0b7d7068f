using System.Security.Cryptography;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.UpdateLogs;

namespace ContinuousDL.Tests.Wire;

/// <summary>While one key takes another's place, what either signed is right, and it can be told which one it was.</summary>
public class KeyRotationTests
{
    private static readonly ModelLayout Layout = ModelLayout.Of([new("weight", CoordinateKind.Parameter, DType.Float32, [2000])]);

    [Test]
    public void What_any_trusted_key_signed_is_right_and_its_name_is_told()
    {
        using var old = new EcdsaPair();
        using var next = new EcdsaPair();
        using var shared = UpdateSigning.HmacSha256(RandomNumberGenerator.GetBytes(32));
        var replica = new UpdateCodec(new() { TrustedKeys = new Dictionary<string, UpdateSigning> { ["2025"] = old.Public, ["2026"] = next.Public, ["shared"] = shared } });
        var states = new PublishedStates(1, Layout);
        foreach (var (name, key) in new[] { ("2025", old.Private), ("2026", next.Private), ("shared", shared) })
        {
            var trainer = new UpdateCodec(new() { Signing = key });
            using var update = states.Next();
            var message = trainer.Encode(update);
            replica.Verify(message).Sequence.Should().Be(update.Sequence);
            replica.SignerOf(message).Should().Be(name);
            var snapshot = trainer.Sign(states.Newest);
            replica.Verify(snapshot);
            replica.SignerOf(snapshot).Should().Be(name);
            replica.ReadHeartbeat(trainer.Encode(HeartbeatTests.Example)).Should().Be(HeartbeatTests.Example);
        }
    }

    [Test]
    public void What_no_trusted_key_signed_is_refused_and_the_keys_are_named()
    {
        using var trusted = new EcdsaPair();
        using var second = new EcdsaPair();
        using var stranger = new EcdsaPair();
        var replica = new UpdateCodec(new() { TrustedKeys = new Dictionary<string, UpdateSigning> { ["2025"] = trusted.Public, ["2026"] = second.Public } });
        var forger = new UpdateCodec(new() { Signing = stranger.Private });
        var states = new PublishedStates(1, Layout);
        using var update = states.Next();
        var message = forger.Encode(update);
        replica.Invoking(c => c.Verify(message)).Should().Throw<UpdateSignatureException>().WithMessage("*any of the codec's keys ('2025', '2026')*");
        replica.SignerOf(message).Should().BeNull();
        replica.Invoking(c => c.Verify(new UpdateCodec().Encode(update))).Should().Throw<UpdateSignatureException>().WithMessage("*not signed;*");
        replica.Invoking(c => c.Verify(states.Newest)).Should().Throw<UpdateSignatureException>();
        replica.SignerOf(states.Newest).Should().BeNull();
        replica.Invoking(c => c.ReadHeartbeat(forger.Encode(HeartbeatTests.Example))).Should().Throw<UpdateSignatureException>();
    }

    [Test]
    public void Keys_that_are_trusted_only_sign_nothing()
    {
        using var shared = UpdateSigning.HmacSha256(new byte[32]);
        var codec = new UpdateCodec(new() { TrustedKeys = new Dictionary<string, UpdateSigning> { ["shared"] = shared } });
        codec.ChecksSignatures.Should().BeTrue();
        var states = new PublishedStates(1, Layout);
        using var update = states.Next();
        codec.Invoking(c => c.Encode(update)).Should().Throw<InvalidOperationException>();
        codec.Invoking(c => c.Sign(states.Newest)).Should().Throw<InvalidOperationException>();
        codec.Invoking(c => c.Encode(HeartbeatTests.Example)).Should().Throw<InvalidOperationException>();
    }

    [Test]
    public void A_trainer_with_a_new_key_reads_what_it_signed_with_the_old_one()
    {
        using var old = UpdateSigning.HmacSha256(RandomNumberGenerator.GetBytes(32));
        using var next = new EcdsaPair();
        var codec = new UpdateCodec(new() { Signing = next.Private, SigningName = "2026", TrustedKeys = new Dictionary<string, UpdateSigning> { ["2025"] = old } });
        var states = new PublishedStates(1, Layout);
        using var update = states.Next();
        codec.SignerOf(new UpdateCodec(new() { Signing = old }).Encode(update)).Should().Be("2025");
        codec.SignerOf(codec.Encode(update)).Should().Be("2026");
    }

    [Test]
    public void A_key_without_a_name_is_refused()
    {
        using var shared = UpdateSigning.HmacSha256(new byte[32]);
        var make = () => new UpdateCodec(new() { TrustedKeys = new Dictionary<string, UpdateSigning> { [""] = shared } });
        make.Should().Throw<ArgumentException>();
        make = () => new UpdateCodec(new() { TrustedKeys = new Dictionary<string, UpdateSigning> { ["2025"] = null! } });
        make.Should().Throw<ArgumentException>().WithMessage("*2025*");
    }

    /// <summary>A private key and its public one.</summary>
    private sealed class EcdsaPair : IDisposable
    {
        public EcdsaPair()
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            Private = UpdateSigning.EcdsaP256PrivateKey(key.ExportPkcs8PrivateKey());
            Public = UpdateSigning.EcdsaP256PublicKey(key.ExportSubjectPublicKeyInfo());
        }

        public UpdateSigning Private { get; }

        public UpdateSigning Public { get; }

        public void Dispose()
        {
            Private.Dispose();
            Public.Dispose();
        }
    }
}
