using System.Buffers;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// Makes messages of updates and updates of messages: exact, a few bytes for each coordinate, checked against damage and, with a
/// key, against forgery. docs/wire-format.md describes the format.
/// </summary>
/// <remarks>
/// <code>
/// var codec = new UpdateCodec();
/// byte[] message = codec.Encode(result.Update!);
/// replica.Apply(message, codec); // in another process
/// </code>
/// Thread-safe.
/// </remarks>
public sealed class UpdateCodec
{
    /// <summary>The bytes of a message beside coordinates and values, and a few more; the size from which a message grows.</summary>
    private const int UsualOverhead = 128;

    /// <summary>The usual size of a coordinate with its value, in bytes.</summary>
    private const int UsualCode = 4;

    private readonly UpdateSigning? signing;
    private readonly TrustedKeys trusted;

    /// <summary>Makes a codec.</summary>
    /// <param name="options">The key that it signs with, and those whose signatures it takes. Default: none; nothing is signed or checked.</param>
    /// <exception cref="ArgumentException">A trusted key is null, or has no name.</exception>
    public UpdateCodec(UpdateCodecOptions? options = null)
    {
        signing = options?.Signing;
        trusted = new TrustedKeys(options);
    }

    /// <summary>Whether it has a key, and so takes nothing that is not signed.</summary>
    public bool ChecksSignatures => !trusted.IsEmpty;

    /// <summary>Makes a message of an update.</summary>
    /// <param name="update">The update. It stays the caller's.</param>
    /// <returns>The message.</returns>
    /// <exception cref="InvalidOperationException">The codec has only the public key, and so can't sign.</exception>
    /// <exception cref="NotSupportedException">The message would be longer than an array can be.</exception>
    /// <exception cref="ObjectDisposedException">The update is disposed.</exception>
    public byte[] Encode(ModelUpdate update)
    {
        var writer = Write(update);
        try
        {
            var message = GC.AllocateUninitializedArray<byte>(writer.Written.Length + SignatureSize);
            Finish(writer.Written, message);
            return message;
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Makes a message of an update.</summary>
    /// <param name="update">The update. It stays the caller's.</param>
    /// <param name="output">Receives the message.</param>
    /// <exception cref="InvalidOperationException">The codec has only the public key, and so can't sign.</exception>
    /// <exception cref="NotSupportedException">The message would be longer than an array can be.</exception>
    /// <exception cref="ObjectDisposedException">The update is disposed.</exception>
    public void Encode(ModelUpdate update, IBufferWriter<byte> output)
    {
        ArgumentNullException.ThrowIfNull(output);
        var writer = Write(update);
        try
        {
            var length = writer.Written.Length + SignatureSize;
            Finish(writer.Written, output.GetSpan(length)[..length]);
            output.Advance(length);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Reads what a message says of its update. Checks its structure and checksum; needs no model, and checks no signature.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <exception cref="WireFormatException">It is not a message of the format.</exception>
    public static UpdateHeader ReadHeader(ReadOnlySpan<byte> message) => new MessageFrame(message).Header;

    /// <summary>Checks that a message is whole, and signed by the codec's key if it has one.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <returns>The header: everything that it says of its update beside coordinates and values.</returns>
    /// <exception cref="WireFormatException">It is not a message of the format.</exception>
    /// <exception cref="UpdateSignatureException">It is not signed, or not by the codec's key.</exception>
    public UpdateHeader Verify(ReadOnlySpan<byte> message) => Open(message).Header;

    /// <summary>Signs a snapshot, so that replicas with a key can start from it: with what messages are signed with.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <returns>The same state with a signature, in the same memory; the snapshot itself where nothing is signed, or where it is signed already and the codec can only check.</returns>
    /// <exception cref="InvalidOperationException">The codec has only the public key, and so can't sign.</exception>
    public ModelSnapshot Sign(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        if (trusted.IsEmpty || (snapshot.IsSigned && signing is not { CanSign: true })) return snapshot;
        if (signing is not { CanSign: true }) throw CannotSign();
        var signature = new byte[SignatureSize];
        signing.Sign(SnapshotSigning.SignedBytes(snapshot), signature);
        return snapshot.WithSignature(signature);
    }

    /// <summary>Checks that a snapshot is signed by the codec's key, if it has one.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <exception cref="UpdateSignatureException">It is not signed, or not by the codec's key.</exception>
    public void Verify(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        if (trusted.IsEmpty) return;
        if (!snapshot.IsSigned) throw new UpdateSignatureException("The snapshot is not signed; the codec has a key, and so takes signed ones only.");
        if (SignerOf(snapshot) is null)
        {
            throw new UpdateSignatureException($"The snapshot is not signed by {trusted.Description}: it was forged or changed, or is of a trainer with another key.");
        }
    }

    /// <summary>Says which of the codec's keys signed a message. Where nothing is signed by an old key any more, it can be given up.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <returns>The name of the key, see <see cref="UpdateCodecOptions.TrustedKeys"/>; null where it is not signed by any of them.</returns>
    /// <exception cref="WireFormatException">It is not a message of the format.</exception>
    public string? SignerOf(ReadOnlySpan<byte> message)
    {
        var frame = new MessageFrame(message);
        return trusted.SignerOf(frame.Signing, frame.Signed, frame.Signature);
    }

    /// <summary>Says which of the codec's keys signed a snapshot.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <returns>The name of the key, see <see cref="UpdateCodecOptions.TrustedKeys"/>; null where it is not signed by any of them.</returns>
    public string? SignerOf(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        var kind = UpdateSigning.KindOf(snapshot.Signature.Length);
        return kind == SignatureKind.None ? null : trusted.SignerOf(kind, SnapshotSigning.SignedBytes(snapshot), snapshot.Signature.Span);
    }

    /// <summary>Makes a signed message of a heartbeat.</summary>
    /// <param name="heartbeat">The heartbeat.</param>
    /// <returns>The message, of 88 bytes with HMAC-SHA256 and 120 with ECDSA.</returns>
    /// <exception cref="InvalidOperationException">The codec has no key to sign with; without a signature a heartbeat proves nothing.</exception>
    public byte[] Encode(UpdateHeartbeat heartbeat)
    {
        ArgumentNullException.ThrowIfNull(heartbeat);
        if (signing is not { CanSign: true }) throw CannotSign();
        var bytes = new byte[HeartbeatFrame.SignedSize + SignatureSize];
        HeartbeatFrame.Write(heartbeat, signing.Kind, bytes);
        signing.Sign(bytes.AsSpan(0, HeartbeatFrame.SignedSize), bytes.AsSpan(HeartbeatFrame.SignedSize));
        return bytes;
    }

    /// <summary>Reads a heartbeat, and checks its signature if the codec has a key. Whether it has expired is for the caller to say.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <exception cref="WireFormatException">It is no heartbeat.</exception>
    /// <exception cref="UpdateSignatureException">It is not signed, or not by the codec's key.</exception>
    public UpdateHeartbeat ReadHeartbeat(ReadOnlySpan<byte> message)
    {
        var heartbeat = HeartbeatFrame.Read(message, out var kind);
        Check(kind, message[..HeartbeatFrame.SignedSize], message[HeartbeatFrame.SignedSize..], "heartbeat");
        return heartbeat;
    }

    /// <summary>Makes an update of a message.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <param name="state">A state that the update leads on from.</param>
    /// <returns>The update. The caller owns it.</returns>
    /// <exception cref="WireFormatException">It is not a message of the format, or not one for this model.</exception>
    /// <exception cref="UpdateSignatureException">It is not signed, or not by the codec's key.</exception>
    /// <exception cref="DeploymentException">As <see cref="ModelState.Needs(in UpdateHeader)"/>.</exception>
    /// <exception cref="ReplicaDivergedException">It says how values change, and the state's are not those of its digest.</exception>
    /// <exception cref="ArgumentException">The state is the update's, or a later one, already.</exception>
    internal ModelUpdate Decode(ReadOnlySpan<byte> message, ModelState state) =>
        DecodeIfNeeded(message, state) ?? throw new ArgumentException($"The state, of the sequence {state.Sequence}, is the update's already, or a later one.", nameof(state));

    /// <summary>As <see cref="Decode(ReadOnlySpan{byte}, ModelState)"/>, but null when the state is the update's, or a later one, already.</summary>
    internal ModelUpdate? DecodeIfNeeded(ReadOnlySpan<byte> message, ModelState state)
    {
        var frame = Open(message);
        return state.Needs(frame.Header) ? Decode(frame, state) : null;
    }

    /// <summary>Reads the structure of a message, and checks it as <see cref="Verify(ReadOnlySpan{byte})"/> does.</summary>
    internal MessageFrame Open(ReadOnlySpan<byte> message)
    {
        var frame = new MessageFrame(message);
        Check(frame.Signing, frame.Signed, frame.Signature, "message");
        return frame;
    }

    /// <summary>Makes an update of a message that was checked.</summary>
    /// <param name="frame">The message.</param>
    /// <param name="state">A state that needs the update.</param>
    /// <returns>The update. The caller owns it.</returns>
    /// <exception cref="WireFormatException">It is not a message for this model.</exception>
    /// <exception cref="ReplicaDivergedException">It says how values change, and the state's are not those of its digest.</exception>
    internal static ModelUpdate Decode(in MessageFrame frame, ModelState state)
    {
        var (header, layout) = (frame.Header, state.Layout);
        CheckCount(frame, layout.Count);
        var coordinates = header.IsWhole ? [] : ArrayPool<int>.Shared.Rent(header.Count);
        byte[] values = [];
        byte[] previous = [];
        try
        {
            var reader = new BitReader(frame.Payload);
            if (!header.IsWhole)
            {
                CoordinateCode.Decode(ref reader, layout.Count, coordinates.AsSpan(0, header.Count));
                reader.EndSection();
            }

            var used = coordinates.AsSpan(0, header.IsWhole ? 0 : header.Count);
            var bytes = header.IsWhole ? layout.SizeInBytes : CoordinateSections.SizeOf(used, layout);
            if (bytes > Array.MaxLength) throw new WireFormatException($"The message's values take {bytes:N0} bytes; an update can hold {Array.MaxLength:N0}.");
            values = ArrayPool<byte>.Shared.Rent((int)bytes);
            if (header.IsRelative)
            {
                previous = ArrayPool<byte>.Shared.Rent((int)bytes);
                state.Read(used, previous.AsSpan(0, (int)bytes));
            }

            DecodeValues(header, layout, used, values.AsSpan(0, (int)bytes), previous, ref reader);
            if (reader.EndSection() != frame.Payload.Length) throw new WireFormatException("The message has bytes that belong to nothing.");
            var identity = new UpdateIdentity(header.RunId ?? state.RunId, header.BaseSequence, header.Sequence, layout, header.StateDigest);
            return new ModelUpdate(identity, header.Count, header.IsWhole, coordinates, values, previous, (int)bytes);
        }
        catch (Exception e)
        {
            if (coordinates.Length > 0) ArrayPool<int>.Shared.Return(coordinates);
            if (values.Length > 0) ArrayPool<byte>.Shared.Return(values);
            if (previous.Length > 0) ArrayPool<byte>.Shared.Return(previous);
            if (e is WireFormatException && header.IsRelative) state.CheckDrift(header.Sequence);
            throw;
        }
    }

    /// <summary>Reads the coordinates of a message, which needs no state.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <param name="total">The model's number of coordinates.</param>
    /// <param name="coordinates">Receives the coordinates, as many as the header says: all where the update is whole.</param>
    /// <exception cref="WireFormatException">It is not a message of the format, or not one for this model.</exception>
    /// <exception cref="ArgumentException">There is no room for as many.</exception>
    internal static void ReadCoordinates(ReadOnlySpan<byte> message, int total, Span<int> coordinates)
    {
        var frame = new MessageFrame(message);
        CheckCount(frame, total);
        if (coordinates.Length < frame.Header.Count) throw new ArgumentException($"The message has {frame.Header.Count} coordinates, there is room for {coordinates.Length}.", nameof(coordinates));
        coordinates = coordinates[..frame.Header.Count];
        if (frame.Header.IsWhole)
        {
            for (var i = 0; i < coordinates.Length; i++) coordinates[i] = i;
            return;
        }

        var reader = new BitReader(frame.Payload);
        CoordinateCode.Decode(ref reader, total, coordinates);
        reader.EndSection();
    }

    private int SignatureSize => UpdateSigning.SizeOf(signing?.Kind ?? SignatureKind.None);

    private static InvalidOperationException CannotSign() => new("The codec has only the public key, or none: it can check signatures, but not sign.");

    /// <summary>Checks a signature, if the codec has a key.</summary>
    private void Check(SignatureKind kind, ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature, string what)
    {
        if (trusted.IsEmpty) return;
        if (kind == SignatureKind.None) throw new UpdateSignatureException($"The {what} is not signed; the codec has a key, and so takes signed ones only.");
        if (trusted.SignerOf(kind, data, signature) is not null) return;
        throw new UpdateSignatureException($"The {what} is not signed by {trusted.Description}: it was forged or changed, or is of a trainer with another key.");
    }

    /// <summary>Writes everything that is signed.</summary>
    private BitWriter Write(ModelUpdate update)
    {
        ArgumentNullException.ThrowIfNull(update);
        if (!trusted.IsEmpty && signing is not { CanSign: true }) throw CannotSign();
        var isRelative = !update.IsWhole && update.Sequence - update.BaseSequence == 1 && !update.PreviousValues.IsEmpty;
        var precision = ValueCode.PrecisionOf(update);
        var writer = new BitWriter((int)Math.Min(Array.MaxLength / 2, UsualOverhead + ((long)UsualCode * update.Count)));
        try
        {
            MessageFrame.WriteHeader(update, isRelative, precision, signing?.Kind ?? SignatureKind.None, ref writer);
            if (!update.IsWhole)
            {
                CoordinateCode.Encode(update.Coordinates, update.Layout.Count, ref writer);
                writer.PadToByte();
            }

            ValueCode.Encode(update, isRelative, precision, ref writer);
            MessageFrame.WriteChecksum(ref writer);
            return writer;
        }
        catch
        {
            writer.Dispose();
            throw;
        }
    }

    /// <summary>Makes the message of what is signed, and signs it.</summary>
    private void Finish(ReadOnlySpan<byte> signed, Span<byte> message)
    {
        signed.CopyTo(message);
        signing?.Sign(message[..signed.Length], message[signed.Length..]);
    }

    /// <summary>Checks that a model can have so many coordinates, and the payload hold them: each takes a bit of it, and its value one more.</summary>
    private static void CheckCount(in MessageFrame frame, int total)
    {
        var header = frame.Header;
        if (header.Count > total || (header.IsWhole && header.Count != total))
        {
            throw new WireFormatException($"The message has {header.Count:N0} coordinates{(header.IsWhole ? ", all there are" : "")}; the model has {total:N0}.");
        }

        var least = header.Count + (header.IsWhole ? 0L : CoordinateCode.CountListed(header.Count, total));
        if (least > 8L * frame.Payload.Length) throw new WireFormatException($"The message has {header.Count:N0} coordinates, but only {frame.Payload.Length:N0} bytes for them.");
    }

    private static void DecodeValues(in UpdateHeader header, ModelLayout layout, ReadOnlySpan<int> coordinates, Span<byte> values, ReadOnlySpan<byte> previous, ref BitReader reader)
    {
        var seen = 0ul;
        if (header.IsWhole)
        {
            foreach (var run in layout.Runs)
            {
                var bytes = run.Length * run.ElementSize;
                ValueCode.Decode(run, header.ValuePrecision, [], values[..bytes], ref seen, ref reader);
                values = values[bytes..];
            }

            return;
        }

        var sections = new CoordinateSections(coordinates, layout.Runs);
        while (sections.MoveNext())
        {
            var (start, bytes) = ((int)sections.ByteStart, sections.ByteCount);
            ValueCode.Decode(
                sections.Entry, header.ValuePrecision, header.IsRelative ? previous.Slice(start, bytes) : [], values.Slice(start, bytes), ref seen, ref reader);
        }
    }
}
