using ContinuousDL.Memory;
using ContinuousDL.Vectors;

namespace ContinuousDL.Residuals;

/// <summary>
/// A vector of a residual memory: native memory that comes with the layout, and the checks that all memories make.
/// </summary>
internal sealed class ResidualVector : IDisposable
{
    private readonly Type owner;
    private NativeBuffer<float>? buffer;
    private bool disposed;

    /// <param name="owner">The memory that it belongs to: what an <see cref="ObjectDisposedException"/> names.</param>
    public ResidualVector(Type owner) => this.owner = owner;

    /// <summary>The number of coordinates, n.</summary>
    public int Length => Buffer.Length;

    /// <summary>All n coordinates. The caller keeps this object alive as long as it uses them.</summary>
    /// <exception cref="InvalidOperationException">There is no layout yet.</exception>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public Span<float> Span => Buffer.Span;

    private NativeBuffer<float> Buffer
    {
        get
        {
            ObjectDisposedException.ThrowIf(disposed, owner);
            return buffer ?? throw new InvalidOperationException($"The {owner.Name} has no layout yet: Attach comes first.");
        }
    }

    /// <summary>Allocates the vector, all zero.</summary>
    /// <exception cref="InvalidOperationException">It has a layout already.</exception>
    public void Attach(VectorLayout layout)
    {
        ArgumentNullException.ThrowIfNull(layout);
        ObjectDisposedException.ThrowIf(disposed, owner);
        if (buffer is not null) throw new InvalidOperationException($"The {owner.Name} is in use already: it serves one model.");
        buffer = new NativeBuffer<float>(layout.Length);
    }

    /// <summary>The coordinates [offset, offset + length).</summary>
    /// <exception cref="ArgumentOutOfRangeException">They don't lie within the vector.</exception>
    public Span<float> Part(int offset, int length)
    {
        var all = Span;
        if ((uint)offset > (uint)all.Length || length > all.Length - offset)
        {
            throw new ArgumentOutOfRangeException(
                nameof(offset), offset, $"{length} coordinates from {offset} on don't lie within the {all.Length} of the layout.");
        }

        return all.Slice(offset, length);
    }

    /// <summary>Makes all coordinates zero.</summary>
    public void Clear()
    {
        Span.Clear();
        GC.KeepAlive(this);
    }

    /// <summary>Checks what a step sent.</summary>
    /// <exception cref="ArgumentException">It is of another length.</exception>
    public void CheckSent(CompressedGradient sent)
    {
        ArgumentNullException.ThrowIfNull(sent);
        if (sent.Length == Length) return;
        throw new ArgumentException($"What was sent has {sent.Length} coordinates, the memory {Length}.", nameof(sent));
    }

    public void Dispose()
    {
        disposed = true;
        buffer?.Dispose();
    }
}
