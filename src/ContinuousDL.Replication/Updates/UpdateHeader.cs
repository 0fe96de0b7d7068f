using System.IO.Hashing;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>Everything that a message says of its update beside coordinates and values: readable without a model.</summary>
public readonly record struct UpdateHeader
{
    /// <summary>The low 32 bits of a hash of the training run: tells runs apart, all but surely.</summary>
    public uint RunTag { get; init; }

    /// <summary>The training run, which only updates that start from sequence 0 carry whole; null in the others.</summary>
    public Guid? RunId { get; init; }

    /// <summary>The low 32 bits of the model's <see cref="ModelLayout.Fingerprint"/>.</summary>
    public uint FingerprintTag { get; init; }

    /// <summary>The sequence of the state that the update starts from.</summary>
    public long BaseSequence { get; init; }

    /// <summary>The sequence of the state after it.</summary>
    public long Sequence { get; init; }

    /// <summary>How many coordinates it carries.</summary>
    public int Count { get; init; }

    /// <summary>Whether it carries every coordinate.</summary>
    public bool IsWhole { get; init; }

    /// <summary>Whether its values are written as changes of those at <see cref="BaseSequence"/>: it can be read by a replica at that sequence only.</summary>
    public bool IsRelative { get; init; }

    /// <summary>The precision in which values of float32 parameters are written. They are exact in any case: the trainer has rounded them.</summary>
    public DeployedValuePrecision ValuePrecision { get; init; }

    /// <summary>The digest of the whole state after it.</summary>
    public ulong StateDigest { get; init; }

    /// <summary>Whether the message is signed. Reading the header checks no signature.</summary>
    public bool IsSigned { get; init; }

    /// <summary>The length of the message in bytes.</summary>
    public int Length { get; init; }

    /// <summary>The tag of a training run: the low 32 bits of XXH3 over the 16 bytes of its id, in the order in which it is written.</summary>
    public static uint TagOf(Guid runId)
    {
        Span<byte> bytes = stackalloc byte[16];
        runId.TryWriteBytes(bytes, bigEndian: true, out _);
        return (uint)XxHash3.HashToUInt64(bytes);
    }

    /// <summary>The tag of a model.</summary>
    public static uint TagOf(ModelLayout layout) => (uint)layout.Fingerprint;
}
