using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>The text that is signed of a snapshot: a text that says what it is, its run and sequence, and a SHA-256 of all tensors.</summary>
/// <remarks>
/// The hash is of the layout's text (see docs/wire-format.md) and, after a zero byte, all values in the order of the
/// coordinates. The fingerprint and the state digest would find accidents only.
/// </remarks>
internal static class SnapshotSigning
{
    private const int GuidSize = 16;

    private static ReadOnlySpan<byte> Purpose => "ContinuousDL snapshot 1\n"u8;

    /// <summary>The bytes that are signed.</summary>
    public static byte[] SignedBytes(ModelSnapshot snapshot)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(snapshot.Layout.Description));
        hash.AppendData([0]);
        for (var i = 0; i < snapshot.Layout.Entries.Count; i++)
        {
            var values = snapshot.Tensor(i);
            for (var part = 0; part < values.PartCount; part++) hash.AppendData(values.Part(part).Span);
        }

        var bytes = new byte[Purpose.Length + GuidSize + sizeof(long) + SHA256.HashSizeInBytes];
        Purpose.CopyTo(bytes);
        var rest = bytes.AsSpan(Purpose.Length);
        snapshot.RunId.TryWriteBytes(rest, bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(rest[GuidSize..], snapshot.Sequence);
        hash.GetHashAndReset(rest[(GuidSize + sizeof(long))..]);
        return bytes;
    }
}
