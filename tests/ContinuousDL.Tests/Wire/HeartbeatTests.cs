using System.Buffers.Binary;
using System.IO.Hashing;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Wire;
using Microsoft.Extensions.Time.Testing;

namespace ContinuousDL.Tests.Wire;

/// <summary>A heartbeat says what it says byte for byte, and nothing damaged or forged is one.</summary>
public class HeartbeatTests
{
    private const string Golden = "4348012000112233445566778899AABBCCDDEEFF2C01000000000000F0DEBC9A78563412FA0A45A99C0100005AF545A99C010000217F9277A312E8D63BF03A2F49643D18BD2C4160FC0877463A928A2E58D5B301B4058460";

    /// <summary>A heartbeat.</summary>
    internal static UpdateHeartbeat Example { get; } = new(
        new Guid("00112233-4455-6677-8899-aabbccddeeff"),
        300,
        0x123456789ABCDEF0,
        new DateTimeOffset(2026, 3, 1, 12, 0, 0, 250, TimeSpan.Zero),
        new DateTimeOffset(2026, 3, 1, 12, 1, 0, 250, TimeSpan.Zero));

    [Test]
    public void Heartbeats_are_what_they_have_always_been()
    {
        using var signing = UpdateSigning.HmacSha256("golden key of the format's tests"u8);
        var codec = new UpdateCodec(new() { Signing = signing });
        Convert.ToHexString(codec.Encode(Example)).Should().Be(Golden);
        codec.ReadHeartbeat(Convert.FromHexString(Golden)).Should().Be(Example);
        new UpdateCodec().ReadHeartbeat(Convert.FromHexString(Golden)).Should().Be(Example, "without a key nothing is checked");
    }

    [Test]
    public void Every_changed_bit_and_every_other_length_is_refused()
    {
        using var signing = UpdateSigning.HmacSha256("golden key of the format's tests"u8);
        var codec = new UpdateCodec(new() { Signing = signing });
        var right = codec.Encode(Example);
        for (var bit = 0; bit < 8 * right.Length; bit++)
        {
            var changed = right.ToArray();
            changed[bit / 8] ^= (byte)(1 << (bit % 8));
            codec.Invoking(c => c.ReadHeartbeat(changed)).Should().Throw<Exception>().Which.Should().Match(e => e is WireFormatException || e is UpdateSignatureException);
        }

        for (var length = 0; length < right.Length; length++) codec.Invoking(c => c.ReadHeartbeat(right.AsSpan(0, length))).Should().Throw<WireFormatException>();
        codec.Invoking(c => c.ReadHeartbeat([.. right, 0])).Should().Throw<WireFormatException>();
    }

    [Test]
    public void Times_and_sequences_that_there_are_not_are_refused()
    {
        var bytes = new byte[HeartbeatFrame.SignedSize];
        HeartbeatFrame.Write(Example with { Sequence = -1 }, SignatureKind.None, bytes);
        new UpdateCodec().Invoking(c => c.ReadHeartbeat(bytes)).Should().Throw<WireFormatException>().WithMessage("*sequence -1*");
        HeartbeatFrame.Write(Example, SignatureKind.None, bytes);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(44), long.MaxValue);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(52), (uint)XxHash3.HashToUInt64(bytes.AsSpan(0, 52)));
        new UpdateCodec().Invoking(c => c.ReadHeartbeat(bytes)).Should().Throw<WireFormatException>().WithMessage("*time*");
    }

    [Test]
    public void The_signer_tells_the_head_alone_signs_anew_when_it_changes_and_before_the_last_one_expires()
    {
        var clock = new FakeTimeProvider();
        using var signing = UpdateSigning.HmacSha256(new byte[32]);
        var codec = new UpdateCodec(new() { Signing = signing });
        NewestState? head = null;
        var signer = new HeartbeatSigner(codec, () => head, TimeSpan.FromSeconds(60), clock);
        signer.Sign().Should().BeNull();
        head = new NewestState(Example.RunId, 1, 2);
        var first = codec.ReadHeartbeat(signer.Sign());
        first.Should().Be(new UpdateHeartbeat(Example.RunId, 1, 2, clock.GetUtcNow(), clock.GetUtcNow().AddSeconds(60)));
        codec.ReadHeartbeat(signer.Sign()).Should().Be(first);
        clock.Advance(TimeSpan.FromSeconds(7));
        codec.ReadHeartbeat(signer.Sign()).ExpiresAt.Should().Be(clock.GetUtcNow().AddSeconds(60));
        head = new NewestState(Example.RunId, 2, 3);
        codec.ReadHeartbeat(signer.Sign()).Sequence.Should().Be(2);
    }

    [TestCase(0.5)]
    [TestCase(86401)]
    public void A_validity_out_of_range_is_refused(double seconds)
    {
        var make = () => new HeartbeatSigner(new UpdateCodec(), () => null, TimeSpan.FromSeconds(seconds));
        make.Should().Throw<ArgumentOutOfRangeException>().WithParameterName("validity");
    }
}
