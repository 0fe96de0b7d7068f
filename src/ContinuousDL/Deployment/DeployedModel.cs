using System.Buffers;
using ContinuousDL.Failures;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Vectors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Deployment;

/// <summary>
/// The trainer's copy of what the replicas hold: it changes only by what is sent, and knows the digest of its whole state.
/// </summary>
/// <remarks>
/// Its parameters are the trained model's own, unless a strategy asks for separate ones; its buffers are always kept apart,
/// since training moves them at every step, and so are parameters that the optimizer does not train, once something has moved
/// them. A strategy changes it at most once a step, through <see cref="Add(CompressedGradient)"/> or
/// <see cref="TakeAll"/>.
/// </remarks>
public sealed class DeployedModel : IDeployedState, IDisposable
{
    private readonly ModelTensors trained;
    private readonly TensorSlot[] slots;
    private readonly List<Tensor> own = [];
    private readonly UpdateBuilder changes = new();
    private readonly BufferDeployer buffers;
    private readonly int[] entries;
    private readonly bool[] isTrainable;
    private readonly DeployedValuePrecision precision;
    private ulong digestBefore;

    /// <summary>The coordinates of the trainable parameters that were not finite to begin with, as those of a mask are not; nearly always none.</summary>
    private HashSet<int> given = [];
    private bool changed;

    internal DeployedModel(ModelTensors trained, TrainableVector vector, BufferDeploymentOptions bufferOptions, DeployedValuePrecision precision)
    {
        this.precision = precision;
        this.trained = trained;
        Vector = vector;
        slots = [.. trained.Slots];
        for (var i = 0; i < slots.Length; i++)
        {
            if (slots[i].Entry.Kind == CoordinateKind.Buffer) Separate(i, slots[i]);
        }

        entries = [.. vector.Slots.Select(s => trained.IndexOf(s))];
        isTrainable = [.. trained.Slots.Select(s => vector.Slots.Contains(s))];
        buffers = new BufferDeployer(bufferOptions);
        buffers.Add(Enumerable.Range(0, slots.Length).Where(IsApart).Select(i => (trained.Slots[i], slots[i])));
        Digest = trained.ComputeDigest();
        given = FindNonFinite();
    }

    /// <summary>The model's tensors and their coordinates.</summary>
    public ModelLayout Layout => trained.Layout;

    /// <summary>The training run: a new one for each trainer, unless it goes on from a checkpoint.</summary>
    public Guid RunId { get; private set; } = Guid.NewGuid();

    /// <summary>The number of updates so far.</summary>
    public long Sequence { get; private set; }

    /// <summary>The digest of the state, changes of the step that is under way included.</summary>
    public ulong Digest { get; private set; }

    /// <summary>Whether the trainable parameters are kept apart from the trained model's.</summary>
    public bool HasOwnParameters { get; private set; }

    /// <summary>The trainable vector, whose coordinates <see cref="Add(CompressedGradient)"/> uses.</summary>
    public TrainableVector Vector { get; }

    /// <summary>What deployed float32 parameters are rounded to.</summary>
    public DeployedValuePrecision Precision => precision;

    /// <summary>The deployed tensors, in the order of the layout.</summary>
    internal IReadOnlyList<TensorSlot> Slots => slots;

    /// <summary>
    /// Keeps the deployed values of the trainable parameters apart from the trained ones from now on, which takes as much memory as
    /// these parameters. For a strategy to call when it is attached.
    /// </summary>
    public void SeparateParameters()
    {
        if (HasOwnParameters) return;
        foreach (var i in entries) Separate(i, slots[i]);
        HasOwnParameters = true;
    }

    /// <summary>The deployed values of a trainable parameter.</summary>
    /// <param name="tensor">Its index in the trainable vector.</param>
    /// <returns>The tensor. It stays the deployed model's (or the trained module's); not to be written to.</returns>
    public Tensor Parameter(int tensor) => ParameterSlot(tensor).Tensor;

    /// <summary>As <see cref="Parameter"/>, with its coordinates in the model.</summary>
    /// <param name="tensor">Its index in the trainable vector.</param>
    public TensorSlot ParameterSlot(int tensor) => slots[entries[tensor]];

    /// <summary>
    /// Adds to the deployed parameters. Each sum is rounded to the parameter's dtype, and further where the trainer's options say
    /// so; what was really added replaces the value in <paramref name="delta"/>, so that "accumulated minus sent" counts the
    /// rounding too.
    /// </summary>
    /// <param name="delta">What to add, over the trainable vector.</param>
    /// <exception cref="InvalidOperationException">The model has been changed in this step already.</exception>
    /// <exception cref="NotSupportedException"><paramref name="delta"/> is of every coordinate, and the model's values take 2 GiB or more, which no update can carry. Nothing was added.</exception>
    /// <exception cref="NonFiniteException">A value would become infinite or not a number. The deployed model is as it was.</exception>
    public void Add(CompressedGradient delta)
    {
        ArgumentNullException.ThrowIfNull(delta);
        if (delta.Form != CompressedForm.Sparse) UpdateBuilder.ThrowIfTooLarge(Layout, Vector.Layout.Length);
        BeginChange();
        delta.Dequantize();
        var digest = Digest;
        try
        {
            for (var t = 0; t < entries.Length; t++)
            {
                var isFinite = true;
                if (delta.Form == CompressedForm.Sparse)
                {
                    var part = Vector.SparseRange(delta, t);
                    isFinite = TryAdd(slots[entries[t]], delta.Indices[part], Vector.Layout.Offsets[t], delta.Values[part]);
                }
                else
                {
                    isFinite = TryAdd(slots[entries[t]], [], 0, delta.Values[Vector.Layout[t]]);
                }

                if (!isFinite) throw NotFinite(t);
            }
        }
        catch
        {
            TakeBack(digest);
            throw;
        }
    }

    /// <summary>Says that a strategy has added to the deployed parameters itself, on their device, just as <see cref="Add(CompressedGradient)"/> would have.</summary>
    /// <param name="indices">The coordinates of the trainable vector, ascending.</param>
    /// <param name="before">The bits of each parameter before, in elements of <paramref name="width"/> bytes.</param>
    /// <param name="after">The bits after, likewise.</param>
    /// <param name="width">4, or 8 where a parameter's elements take 8 bytes.</param>
    /// <param name="digestChange">What the digest has changed by.</param>
    /// <exception cref="ArgumentException">The lengths of the bits do not fit the coordinates, a coordinate is not below the vector's length, or <paramref name="width"/> is neither 4 nor 8.</exception>
    /// <exception cref="InvalidOperationException">The model has been changed in this step already.</exception>
    /// <exception cref="NonFiniteException">A value became infinite or not a number. The deployed model is as it was before.</exception>
    public void Record(ReadOnlySpan<int> indices, ReadOnlySpan<byte> before, ReadOnlySpan<byte> after, int width, ulong digestChange)
    {
        if (width is not (sizeof(uint) or sizeof(ulong))) throw new ArgumentOutOfRangeException(nameof(width), width, "width must be 4 or 8 bytes.");
        if (before.Length != (long)indices.Length * width || after.Length != before.Length)
        {
            throw new ArgumentException($"There are {indices.Length} coordinates of {width} bytes, but {before.Length} bytes before and {after.Length} after.", nameof(before));
        }

        if (!indices.IsEmpty && (indices[0] < 0 || indices[^1] >= Vector.Layout.Length))
        {
            throw new ArgumentException($"The coordinates {indices[0]} to {indices[^1]} are not those of a vector of {Vector.Layout.Length}.", nameof(indices));
        }

        BeginChange();
        var digest = Digest;
        Digest += digestChange;
        var (j, culprit) = (0, -1);
        for (var t = 0; t < entries.Length; t++)
        {
            var entry = slots[entries[t]].Entry;
            var end = j + CoordinateSearch.CountBelow(indices[j..], Vector.Layout.Offsets[t + 1]);
            changes.Reserve(end - j, entry.ElementSize);
            for (; j < end; j++)
            {
                var (old, bits) = (Scalars.Load(before, j, width), Scalars.Load(after, j, width));
                if (bits == old) continue;
                changes.Record(entry.Offset + (indices[j] - Vector.Layout.Offsets[t]), old, bits, entry.ElementSize);
                if (culprit < 0 && !Finiteness.IsFinite(entry.DType, bits)) culprit = t;
            }
        }

        if (culprit < 0) return;
        TakeBack(digest);
        throw NotFinite(culprit);
    }

    /// <summary>What is thrown where a step would make a value infinite or not a number, or what is owed to it, although the gradient is finite.</summary>
    /// <param name="tensor">The index of its parameter in the trainable vector.</param>
    /// <returns>The exception, for the caller to throw.</returns>
    public NonFiniteException NotFinite(int tensor)
    {
        var name = ParameterSlot(tensor).Entry.Name;
        return new NonFiniteException(
            $"The update of '{name}' leads out of the numbers that it can hold, although the gradient is finite: the learning rate is too high for it. "
            + "The deployed model is as it was.",
            double.NaN,
            name);
    }

    /// <summary>Makes every deployed value the trained model's current one: nothing is compressed. Buffers are included, whatever the options say.</summary>
    /// <exception cref="InvalidOperationException">The model has been changed in this step already, or the trainer's options say to round what is deployed.</exception>
    /// <exception cref="NonFiniteException">A trainable parameter has become infinite or not a number. Nothing is deployed; the trained model stays as it is.</exception>
    public void TakeAll()
    {
        if (precision != DeployedValuePrecision.Float32) throw new InvalidOperationException($"The trained values are not of the precision that is deployed, {precision}: they can't be taken as they are.");
        BeginChange();
        changes.BeginWhole(Layout);
        var digest = 0ul;
        for (var i = 0; i < slots.Length; i++)
        {
            var entry = slots[i].Entry;
            var values = changes.NextValues((int)entry.SizeInBytes);
            trained.Slots[i].ReadAll(values);
            digest += SumOf(i, values);
        }

        var all = changes.WholeValues;
        for (var i = 0; i < slots.Length; i++)
        {
            var bytes = slots[i].Entry.Length * slots[i].Entry.ElementSize;
            if (!ReferenceEquals(slots[i], trained.Slots[i])) slots[i].WriteAll(all[..bytes]);
            all = all[bytes..];
        }

        Digest = digest;
    }

    /// <summary>Whether the deployed values of a tensor are kept apart from the trained ones.</summary>
    /// <param name="tensor">Its index in the layout.</param>
    internal bool IsApart(int tensor) => !ReferenceEquals(slots[tensor], trained.Slots[tensor]);

    /// <summary>
    /// Takes in what something else than the optimizer has done to the parameters, such as a forward pass that moves an average or
    /// clips weights, before a strategy takes its step: none of it may be missing from what the replicas are sent.
    /// </summary>
    /// <remarks>
    /// A parameter that is not trained is deployed as buffers are from now on. A trainable one becomes part of the deployed
    /// model here where it is deployed as it is trained, or gets no gradient; where it is kept apart, the strategy sees to it
    /// (<see cref="TrainableVector.HasMoved"/>).
    /// </remarks>
    /// <param name="guard">Knows which tensors were written to, and what most of them were before.</param>
    internal void TakeMoves(StateGuard guard)
    {
        digestBefore = Digest;
        List<int>? unforeseen = null;
        for (var i = 0; i < slots.Length; i++)
        {
            if (!guard.IsTouched(i)) continue;
            if (IsApart(i))
            {
                if (IsFrozen(i)) RecordMove(i, slots[i], trained.Slots[i]);
                continue;
            }

            if (guard.Before(i) is not { } before) (unforeseen ??= []).Add(i);
            else if (isTrainable[i]) RecordMove(i, before, slots[i]);
            else DeployAsBuffer(i, before);
        }

        if (unforeseen is not null) RecordAll(unforeseen);
        changes.EndRun();
        for (var t = 0; t < entries.Length; t++) Vector.NoteMove(t, guard.IsTouched(entries[t]) && !(IsApart(entries[t]) && IsFrozen(entries[t])));
    }

    /// <summary>Forgets what was recorded of a step that failed. Its moves are taken back by whoever guards the model.</summary>
    internal void Abandon()
    {
        changes.Clear();
        Digest = digestBefore;
    }

    /// <summary>Ends a step: deploys buffers as the options say, and makes an update of all that changed. The caller owns it.</summary>
    internal ModelUpdate Commit()
    {
        Sequence++;
        changes.EndRun();
        if (!changes.IsWhole) Digest += buffers.Deploy(Sequence, changes);
        changed = false;
        return changes.Build(new UpdateIdentity(RunId, Sequence - 1, Sequence, Layout, Digest));
    }

    /// <summary>Copies the state.</summary>
    /// <exception cref="InvalidOperationException">Its values are not those that were deployed.</exception>
    internal ModelSnapshot CreateSnapshot()
    {
        var snapshot = ModelSnapshot.Of(new ModelTensors(Layout, slots), RunId, Sequence);
        return snapshot.StateDigest == Digest ? snapshot : throw new InvalidOperationException(
            "The model was changed by something else than the trainer (loading weights, an optimizer of its own), so replicas can't follow it. Make a new trainer of it.");
    }

    /// <summary>Writes the values that are kept apart from the trained model's.</summary>
    internal void SaveOwn(BinaryWriter writer)
    {
        for (var i = 0; i < slots.Length; i++)
        {
            writer.Write(IsApart(i));
            if (IsApart(i)) slots[i].Save(writer);
        }
    }

    /// <summary>Reads what <see cref="SaveOwn"/> wrote.</summary>
    internal void LoadOwn(BinaryReader reader)
    {
        for (var i = 0; i < slots.Length; i++)
        {
            var isApart = reader.ReadBoolean();
            if (isApart && !IsApart(i))
            {
                if (isTrainable[i]) throw new InvalidDataException($"'{slots[i].Entry.Name}' was not trained by the optimizer, and now is");
                DeployAsBuffer(i, slots[i]);
            }

            if (isApart) slots[i].Load(reader);
            else if (IsApart(i)) throw new InvalidDataException($"'{slots[i].Entry.Name}' was trained by the optimizer, and now is not");
        }
    }

    /// <summary>Says which state the values are, after they were loaded.</summary>
    /// <exception cref="InvalidDataException">They are another one.</exception>
    internal void Identify(Guid runId, long sequence, ulong digest)
    {
        var computed = 0ul;
        foreach (var slot in slots) computed += slot.ComputeDigest();
        if (computed != digest) throw new InvalidDataException($"the deployed model's digest is {computed:x16} and should be {digest:x16}");
        (RunId, Sequence, Digest) = (runId, sequence, digest);
        given = FindNonFinite();
    }

    /// <summary>Lets the same state have another sequence, of another run.</summary>
    internal void Renumber(Guid runId, long sequence) => (RunId, Sequence) = (runId, sequence);

    /// <summary>Makes trained and deployed model hold a snapshot's values, as the next state.</summary>
    internal void Take(ModelSnapshot state)
    {
        state.CopyTo(trained);
        state.CopyTo(new ModelTensors(Layout, slots));
        Sequence++;
        Digest = state.StateDigest;
        given = FindNonFinite();
    }

    /// <summary>
    /// Makes the module hold the deployed values until the result is disposed, which puts the trained ones back. Costs nothing
    /// where they are the same, otherwise two copies of what differs.
    /// </summary>
    /// <param name="state">Knows what was written to since the last step.</param>
    internal Swap Enter(StateGuard state)
    {
        var swapped = new List<(Tensor Live, Tensor Trained)>();
        using var guard = no_grad();
        for (var i = 0; i < slots.Length; i++)
        {
            if (!IsApart(i) || (!isTrainable[i] && buffers.InStep && !state.IsCountedChange(i))) continue;
            using var live = trained.Slots[i].Tensor.detach();
            swapped.Add((trained.Slots[i].Tensor, trained.Slots[i].Clone()));
            _ = live.copy_(slots[i].Tensor);
        }

        return new Swap(swapped);
    }

    /// <inheritdoc />
    public void Dispose()
    {
        foreach (var tensor in own) tensor.Dispose();
        own.Clear();
    }

    /// <summary>Keeps the deployed values of a tensor apart from now on: those that <paramref name="values"/> has.</summary>
    private void Separate(int i, TensorSlot values)
    {
        var copy = values.Clone();
        own.Add(copy);
        slots[i] = TensorSlot.Of(slots[i].Entry, copy);
    }

    /// <summary>Refuses to go on where something else than the trainer has written to a parameter since the last step, so that it is no longer what is deployed, or owed.</summary>
    /// <exception cref="InvalidOperationException">It has.</exception>
    internal void ThrowIfMoved(StateGuard guard)
    {
        for (var i = 0; i < slots.Length; i++)
        {
            if (!guard.IsCountedChange(i) || (IsApart(i) && !isTrainable[i])) continue;
            throw new InvalidOperationException(
                $"The parameter '{slots[i].Entry.Name}' was written to since the last step, by something else than the trainer, and replicas do not have that yet. Take a step first.");
        }
    }

    /// <summary>Whether the optimizer has a tensor, and yet gets no gradient of it.</summary>
    private bool IsFrozen(int tensor) => isTrainable[tensor] && !trained.Slots[tensor].Tensor.requires_grad;

    /// <summary>Makes a deployed tensor what something else than the optimizer has made of it, and records the changes.</summary>
    private void RecordMove(int i, TensorSlot before, TensorSlot after)
    {
        var entry = slots[i].Entry;
        var (old, now) = (before.ToValues(), after.ToValues());
        changes.EndRun();
        changes.Reserve(entry.Length, entry.ElementSize);
        for (var j = 0; j < entry.Length; j++)
        {
            var oldBits = old.Load(j, entry.ElementSize);
            var bits = Rounded(entry, now.Load(j, entry.ElementSize), oldBits);
            now.Store(j, entry.ElementSize, bits);
            if (bits == oldBits) continue;
            Digest += StateDigest.Change(entry.Offset + j, oldBits, bits);
            changes.Record(entry.Offset + j, oldBits, bits, entry.ElementSize);
        }

        if (precision != DeployedValuePrecision.Float32 || !ReferenceEquals(after, slots[i])) slots[i].WriteAll(now);
    }

    /// <summary>A value that was moved, in the precision that is deployed; what did not move stays as it is.</summary>
    private ulong Rounded(LayoutEntry entry, ulong bits, ulong old) =>
        bits == old || precision == DeployedValuePrecision.Float32 || entry.DType != DType.Float32
            ? bits : BitConverter.SingleToUInt32Bits(precision.Round(BitConverter.UInt32BitsToSingle((uint)bits)));

    /// <summary>
    /// Records all of tensors of which nobody knows what they were before they were moved. Takes a look at every value of the model,
    /// once: the next move of these tensors is seen coming.
    /// </summary>
    private void RecordAll(List<int> tensors)
    {
        changes.EndRun();
        changes.ForgetPrevious();
        foreach (var i in tensors)
        {
            var entry = slots[i].Entry;
            var values = slots[i].ToValues();
            changes.Reserve(entry.Length, entry.ElementSize);
            for (var j = 0; j < entry.Length; j++) changes.Record(entry.Offset + j, 0, values.Load(j, entry.ElementSize), entry.ElementSize);
            if (!isTrainable[i]) DeployAsBuffer(i, slots[i]);
        }

        Digest = 0;
        foreach (var slot in slots) Digest += slot.ComputeDigest();
    }

    /// <summary>Deploys a parameter that is not trained as buffers are, from now on.</summary>
    /// <param name="i">Its index in the layout.</param>
    /// <param name="values">The deployed values.</param>
    private void DeployAsBuffer(int i, TensorSlot values)
    {
        Separate(i, values);
        buffers.Add([(trained.Slots[i], slots[i])]);
    }

    private void BeginChange()
    {
        if (changed) throw new InvalidOperationException("A strategy changes the deployed model at most once in a step.");
        changed = true;
    }

    /// <summary>Undoes what was written and recorded since a step began to change the deployed parameters.</summary>
    /// <param name="digest">The digest before that.</param>
    private void TakeBack(ulong digest)
    {
        var sections = new CoordinateSections(changes.LastCoordinates, Layout.Tensors);
        while (sections.MoveNext()) slots[sections.Index].Write(sections.Coordinates, changes.LastPrevious.Slice((int)sections.ByteStart, sections.ByteCount));
        changes.DropLastRun();
        (Digest, changed) = (digest, false);
    }

    /// <summary>The part of the digest that comes from a tensor's values, of which those that were trained are checked while they are in the cache.</summary>
    private ulong SumOf(int slot, ReadOnlySpan<byte> values)
    {
        var entry = slots[slot].Entry;
        var tensor = Array.IndexOf(entries, slot);
        if (tensor < 0) return StateDigest.Sum(entry, values);
        var digest = 0ul;
        for (var start = 0; start < entry.Length; start += FusedOptimizer.BlockSize)
        {
            var count = Math.Min(FusedOptimizer.BlockSize, entry.Length - start);
            var block = values.Slice(start * entry.ElementSize, count * entry.ElementSize);
            digest += StateDigest.Sum(entry, start, block);
            if (Finiteness.AllFinite(entry.DType, block) || AllGiven(entry, block, start)) continue;
            changes.Clear();
            changed = false;
            throw NotFinite(tensor);
        }

        return digest;
    }

    /// <summary>Whether those of some values that are not finite were so to begin with.</summary>
    private bool AllGiven(LayoutEntry entry, ReadOnlySpan<byte> values, int start)
    {
        for (var i = 0; i < values.Length / entry.ElementSize; i++)
        {
            if (!Finiteness.IsFinite(entry.DType, Scalars.Load(values, i, entry.ElementSize)) && !given.Contains(entry.Offset + start + i)) return false;
        }

        return true;
    }

    /// <summary>The coordinates of the trainable parameters, as they are deployed, that are not finite.</summary>
    private HashSet<int> FindNonFinite()
    {
        var found = new HashSet<int>();
        foreach (var slot in entries.Select(e => slots[e]))
        {
            using var pieces = new TensorPieces(slot);
            while (pieces.MoveNext())
            {
                if (Finiteness.AllFinite(slot.Entry.DType, pieces.Values)) continue;
                for (var i = 0; i < pieces.Values.Length / slot.Entry.ElementSize; i++)
                {
                    if (!Finiteness.IsFinite(slot.Entry.DType, Scalars.Load(pieces.Values, i, slot.Entry.ElementSize))) found.Add(slot.Entry.Offset + pieces.First + i);
                }
            }
        }

        return found;
    }

    /// <summary>
    /// Adds to some elements of a tensor (<paramref name="indices"/> less <paramref name="offset"/>), or to all of them when no indices are
    /// given. An element that nothing is added to keeps every bit.
    /// </summary>
    /// <returns>Whether all that changed is finite. If not, it is for the caller to take back what was recorded.</returns>
    private unsafe bool TryAdd(TensorSlot slot, ReadOnlySpan<int> indices, int offset, Span<float> values)
    {
        if (values.IsEmpty) return true;
        var entry = slot.Entry;
        changes.Reserve(values.Length, entry.ElementSize);
        if (slot is CpuTensorSlot { ContiguousFloats: var weights } && weights != null) return TryAdd(entry, weights, indices, offset, values);

        var coordinates = ArrayPool<int>.Shared.Rent(values.Length);
        var bits = ArrayPool<ulong>.Shared.Rent(values.Length);
        for (var j = 0; j < values.Length; j++) coordinates[j] = entry.Offset + (indices.IsEmpty ? j : indices[j] - offset);
        var (used, usedBits) = (coordinates.AsMemory(0, values.Length), bits.AsMemory(0, values.Length));
        slot.Read(used.Span, usedBits.Span);
        var isFinite = true;
        for (var j = 0; j < values.Length; j++)
        {
            isFinite &= float.IsFinite(values[j]);
            var old = bits[j];
            bits[j] = AddTo(entry, old, ref values[j]);
            if (bits[j] == old) continue;
            isFinite &= Finiteness.IsFinite(entry.DType, bits[j]);
            Digest += StateDigest.Change(coordinates[j], old, bits[j]);
            changes.Record(coordinates[j], old, bits[j], entry.ElementSize);
        }

        if (isFinite) slot.Write(used.Span, usedBits.Span);
        ArrayPool<int>.Shared.Return(coordinates);
        ArrayPool<ulong>.Shared.Return(bits);
        return isFinite;
    }

    /// <summary>The same for elements that lie in main memory as float32 in order.</summary>
    private unsafe bool TryAdd(LayoutEntry entry, float* weights, ReadOnlySpan<int> indices, int offset, Span<float> values)
    {
        const uint magnitude = int.MaxValue, infinity = 0x7f800000;
        var largest = 0u;
        for (var j = 0; j < values.Length; j++)
        {
            var i = indices.IsEmpty ? j : indices[j] - offset;
            var old = weights[i];
            var sum = Sum(old, values[j]);
            largest = Math.Max(largest, BitConverter.SingleToUInt32Bits(values[j]) & magnitude);
            var (oldBits, newBits) = (BitConverter.SingleToUInt32Bits(old), BitConverter.SingleToUInt32Bits(sum));
            values[j] = oldBits == newBits ? 0 : sum - old;
            if (oldBits == newBits) continue;
            largest = Math.Max(largest, newBits & magnitude);
            weights[i] = sum;
            Digest += StateDigest.Change(entry.Offset + i, oldBits, newBits);
            changes.Record(entry.Offset + i, oldBits, newBits, sizeof(float));
        }

        return largest < infinity;
    }

    /// <summary>The sum in the precision that is deployed. What nothing is added to stays as it is, rounded or not.</summary>
    private float Sum(float old, float addend) => addend == 0 ? old : precision.Round(old + addend);

    /// <summary>Adds to an element and makes the addend what was really added.</summary>
    private ulong AddTo(LayoutEntry entry, ulong old, ref float addend)
    {
        if (addend == 0) return old;
        if (entry.DType != DType.Float32) return Scalars.Add(entry.DType, old, addend, out addend);
        var value = BitConverter.UInt32BitsToSingle((uint)old);
        var sum = Sum(value, addend);
        addend = sum - value;
        return BitConverter.SingleToUInt32Bits(sum);
    }

    /// <summary>Holds the trained values while the module has the deployed ones.</summary>
    internal readonly struct Swap(List<(Tensor Live, Tensor Trained)> swapped) : IDisposable
    {
        public void Dispose()
        {
            using var guard = no_grad();
            foreach (var (live, trainedValues) in swapped)
            {
                using var target = live.detach();
                _ = target.copy_(trainedValues);
                trainedValues.Dispose();
            }
        }
    }
}
