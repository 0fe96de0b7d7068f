using System.Runtime.InteropServices;

namespace ContinuousDL.Checkpoints;

/// <summary>
/// A copy of a trainer's state in native memory, section by section: taken while the trainer stands still, written to disk while
/// it goes on.
/// </summary>
/// <remarks>In blocks, so that it grows without copying what is there, beyond what an array can hold.</remarks>
internal sealed unsafe partial class StateCopy : Stream
{
    private const int BlockBytes = 4 << 20;
    private const int BlockAlignment = 2 << 20;
    private const int LargePages = 14;

    private readonly List<nint> blocks = [];
    private readonly List<(string Name, long Length)> sections = [];
    private long length;
    private long position;

    ~StateCopy() => Free();

    /// <summary>The sections, in the order in which their bytes come.</summary>
    public IReadOnlyList<(string Name, long Length)> Sections => sections;

    public override bool CanRead => false;

    public override bool CanSeek => true;

    public override bool CanWrite => true;

    public override long Length => length;

    public override long Position
    {
        get => position;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, length);
            position = value;
        }
    }

    /// <summary>Adds a section.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="save">Writes it.</param>
    public void Add(string name, Action<BinaryWriter> save)
    {
        var start = length;
        using var writer = new BinaryWriter(this, System.Text.Encoding.UTF8, leaveOpen: true);
        save(writer);
        writer.Flush();
        sections.Add((name, length - start));
    }

    /// <summary>The bytes of all sections, block by block.</summary>
    /// <param name="block">The index of the block; those behind the last one are empty.</param>
    public ReadOnlySpan<byte> Block(int block)
    {
        var rest = length - ((long)block * BlockBytes);
        return rest <= 0 ? [] : new((void*)blocks[block], (int)Math.Min(rest, BlockBytes));
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            var (block, offset) = ((int)(position / BlockBytes), (int)(position % BlockBytes));
            if (block == blocks.Count) blocks.Add(NewBlock());
            var count = Math.Min(buffer.Length, BlockBytes - offset);
            buffer[..count].CopyTo(new Span<byte>((byte*)blocks[block] + offset, count));
            buffer = buffer[count..];
            position += count;
            length = Math.Max(length, position);
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        Free();
        GC.SuppressFinalize(this);
        base.Dispose(disposing);
    }

    private static nint NewBlock()
    {
        // Getting memory page by page would take longer than copying into it.
        var block = NativeMemory.AlignedAlloc(BlockBytes, BlockAlignment);
        if (OperatingSystem.IsLinux()) _ = Advise(block, BlockBytes, LargePages);
        return (nint)block;
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint length, int advice);

    private void Free()
    {
        foreach (var block in blocks) NativeMemory.AlignedFree((void*)block);
        blocks.Clear();
        (length, position) = (0, 0);
    }
}
