namespace ContinuousDL.Replication.Storage;

/// <summary>Writes to another stream, and stops between two pieces when it is told to. The other stream stays its owner's.</summary>
internal sealed class CancellableStream(Stream inner, CancellationToken cancellationToken) : Stream
{
    /// <summary>How much is written at a time: little enough to be over soon, also on a slow disk.</summary>
    private const int PieceBytes = 1 << 20;

    public override bool CanRead => false;

    public override bool CanSeek => inner.CanSeek;

    public override bool CanWrite => true;

    public override long Length => inner.Length;

    public override long Position
    {
        get => inner.Position;
        set => inner.Position = value;
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        do
        {
            cancellationToken.ThrowIfCancellationRequested();
            var piece = buffer[..Math.Min(buffer.Length, PieceBytes)];
            inner.Write(piece);
            buffer = buffer[piece.Length..];
        }
        while (!buffer.IsEmpty);
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush() => inner.Flush();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => inner.Seek(offset, origin);

    public override void SetLength(long value) => inner.SetLength(value);
}
