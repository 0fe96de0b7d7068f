namespace ContinuousDL.Tests.Snapshots;

/// <summary>A stream as of a network: it can only be read onwards, and gives a few bytes at a time.</summary>
internal sealed class OneWayStream(byte[] content) : MemoryStream(content)
{
    public override bool CanSeek => false;

    public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(buffer.Length, 1000)]);
}
