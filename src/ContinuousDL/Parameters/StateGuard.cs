using System.Numerics;
using System.Runtime.InteropServices;
using ContinuousDL.Memory;
using ContinuousDL.Replication.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>
/// Watches a module's tensors while something that may write to them runs, such as a forward pass: tells which ones were
/// written to, and puts back what they were.
/// </summary>
/// <remarks>
/// Buffers are copied and compared each time; they are small, and libtorch writes to some of them without counting it. A
/// parameter is watched by libtorch's count of writes, which costs nothing, and is copied only once it has been written to, so
/// that large frozen parameters take neither time nor memory; where nothing is counted, it is treated as a buffer is. Not
/// thread-safe, but for <see cref="IsChanged"/>.
/// </remarks>
internal sealed class StateGuard : IDisposable
{
    private readonly Watch[] watches;

    /// <summary>Starts to watch.</summary>
    /// <param name="slots">The tensors. They stay their owner's, who may dispose them.</param>
    public StateGuard(IEnumerable<TensorSlot> slots) => watches = [.. slots.Select(s => new Watch(s))];

    /// <summary>How many tensors are watched.</summary>
    public int Count => watches.Length;

    /// <summary>Copies the tensors that are known to change, and notes which ones have been written to since the last <see cref="Settle()"/>.</summary>
    /// <param name="more">Which tensors to copy besides, by their index, for a first time that shows which ones change. Default: none.</param>
    public void Save(Predicate<int>? more = null)
    {
        for (var i = 0; i < watches.Length; i++) watches[i].Save(more?.Invoke(i) == true);
    }

    /// <summary>Notes which tensors have been written to since the last <see cref="Settle()"/>, and copies nothing.</summary>
    public void Note()
    {
        foreach (var watch in watches) watch.Note();
    }

    /// <summary>Whether <see cref="Note"/> or <see cref="Save"/> found a tensor written to already.</summary>
    /// <param name="tensor">Its index.</param>
    public bool WasTouched(int tensor) => watches[tensor].WasTouched;

    /// <summary>The name of a tensor.</summary>
    /// <param name="tensor">Its index.</param>
    public string NameOf(int tensor) => watches[tensor].Slot.Entry.Name;

    /// <summary>Finds out which tensors have been written to since <see cref="Save"/>, or before it since the last <see cref="Settle()"/>.</summary>
    public void Look()
    {
        foreach (var watch in watches) watch.Look();
    }

    /// <summary>Whether <see cref="Look"/> found a tensor written to.</summary>
    /// <param name="tensor">Its index.</param>
    public bool IsTouched(int tensor) => watches[tensor].IsTouched;

    /// <summary>Whether a tensor has been counted as written to since the last <see cref="Settle()"/>.</summary>
    /// <param name="tensor">Its index.</param>
    public bool IsCountedChange(int tensor) => watches[tensor].IsCountedChange;

    /// <summary>What a tensor was at <see cref="Save"/>; null where it was not copied, or had been written to before.</summary>
    /// <param name="tensor">Its index.</param>
    public TensorSlot? Before(int tensor) => watches[tensor].Before;

    /// <summary>Whether something differs from what was saved. May be asked by several threads at once.</summary>
    public bool IsChanged() => Array.Exists(watches, static w => w.Differs());

    /// <summary>The first tensor that has a value which is not finite, and which was finite at <see cref="Save"/>. Integers and booleans always are.</summary>
    /// <param name="count">How many of the tensors to look at.</param>
    /// <returns>Its name, or null.</returns>
    public string? FirstNonFinite(int count)
    {
        for (var i = 0; i < count; i++)
        {
            if (watches[i].IsTouched && watches[i].HasNewNonFinite()) return watches[i].Slot.Entry.Name;
        }

        return null;
    }

    /// <summary>
    /// Puts back what was saved. A tensor that was written to without having been copied stays as it is, and counts as written
    /// to until <see cref="Settle()"/>; from now on it is copied.
    /// </summary>
    public void Restore()
    {
        foreach (var watch in watches) watch.Restore();
    }

    /// <summary>Takes all tensors as they are; those that <see cref="Look"/> found written to are copied from now on.</summary>
    public void Settle()
    {
        foreach (var watch in watches) watch.Settle();
    }

    /// <summary>Takes one tensor as it is.</summary>
    /// <param name="tensor">Its index.</param>
    public void Settle(int tensor) => watches[tensor].TakeVersion();

    /// <summary>Copies from now on what the guard of another copy of the same module does.</summary>
    public void Learn(StateGuard other)
    {
        for (var i = 0; i < Math.Min(watches.Length, other.watches.Length); i++) watches[i].Learn(other.watches[i]);
    }

    /// <summary>Lets go of copies that were made for a first time only.</summary>
    public void Trim()
    {
        foreach (var watch in watches) watch.Trim();
    }

    /// <summary>The first tensor that was written to and that <see cref="Restore"/> could not put back; null where there is none.</summary>
    public string? FirstNotRestored() => Array.Find(watches, static w => w.IsTouched && w.Before is null)?.Slot.Entry.Name;

    /// <summary>Disposes the copies.</summary>
    public void Dispose()
    {
        foreach (var watch in watches) watch.Forget();
    }

    private sealed class Watch
    {
        private readonly bool isCounted;
        private readonly bool comparesValues;
        private long version;
        private bool isKept;
        private TensorSlot? copy;

        public Watch(TensorSlot slot)
        {
            Slot = slot;
            isCounted = TensorVersion.IsCounted(slot.Tensor);
            comparesValues = !isCounted || slot.Entry.Kind == CoordinateKind.Buffer;
            isKept = comparesValues;
            TakeVersion();
        }

        public TensorSlot Slot { get; }

        public bool IsTouched { get; private set; }

        public bool WasTouched { get; private set; }

        public bool IsCountedChange => isCounted && !Slot.Tensor.IsInvalid && TensorVersion.Of(Slot.Tensor) != version;

        public TensorSlot? Before => WasTouched && !comparesValues ? null : copy;

        public void Save(bool more)
        {
            IsTouched = false;
            if (Slot.Tensor.IsInvalid) return;
            Note();
            if (!isKept && !more) return;
            if (copy is null) copy = TensorSlot.Of(Slot.Entry, Slot.Clone());
            else copy.CopyFrom(Slot);
        }

        public void Note() => WasTouched = IsCountedChange;

        public void Look() => IsTouched = Differs();

        public bool Differs()
        {
            if (Slot.Tensor.IsInvalid) return false;
            return comparesValues ? copy is not null && !Slot.HasSameValues(copy) : IsCountedChange;
        }

        public void Restore()
        {
            if (Differs())
            {
                IsTouched = true;
                if (copy is not null) Slot.CopyFrom(copy);
                if (copy is not null && !WasTouched) TakeVersion();
            }

            Keep();
        }

        public void Settle()
        {
            TakeVersion();
            Keep();
        }

        public void TakeVersion()
        {
            if (isCounted && !Slot.Tensor.IsInvalid) version = TensorVersion.Of(Slot.Tensor);
        }

        public void Forget()
        {
            copy?.Tensor.Dispose();
            copy = null;
        }

        public bool HasNewNonFinite()
        {
            if (!Slot.Tensor.is_floating_point()) return false;
            if (Slot.TryView(0, 0, out _) && Slot.Entry.DType == DType.Float32)
            {
                using var now = new TensorPieces(Slot);
                while (now.MoveNext())
                {
                    var before = Before is { } saved && saved.TryView(now.First, now.Values.Length / sizeof(float), out var view) ? MemoryMarshal.Cast<byte, float>(view) : [];
                    if (HasNewNonFinite(MemoryMarshal.Cast<byte, float>(now.Values), before)) return true;
                }

                return false;
            }

            using var scope = NewDisposeScope();
            using var guard = no_grad();
            var finite = Slot.Tensor.isfinite();
            return !(Before is { } old ? finite.logical_or(old.Tensor.isfinite().logical_not()) : finite).all().item<bool>();
        }

        private static bool HasNewNonFinite(ReadOnlySpan<float> now, ReadOnlySpan<float> before)
        {
            // The difference of a number with itself is 0, of an infinity or NaN it is NaN.
            var i = 0;
            for (; i <= now.Length - Vector<float>.Count; i += Vector<float>.Count)
            {
                var values = new Vector<float>(now[i..]);
                if (!Vector.EqualsAll(values - values, Vector<float>.Zero)) break;
            }

            for (; i < now.Length; i++)
            {
                if (!float.IsFinite(now[i]) && (before.IsEmpty || float.IsFinite(before[i]))) return true;
            }

            return false;
        }

        public void Learn(Watch other) => isKept |= other.isKept;

        public void Trim()
        {
            if (!isKept) Forget();
        }

        /// <summary>Goes on copying what is known to change by now, and lets go of the copy of what is not.</summary>
        private void Keep()
        {
            isKept |= IsTouched;
            Trim();
        }
    }
}
