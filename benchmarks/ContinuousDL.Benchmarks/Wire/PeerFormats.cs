using System.Buffers.Binary;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ZstdSharp;

namespace ContinuousDL.Benchmarks.Wire;

/// <summary>The ways in which other systems write sparse updates of parameters. None of them carries a sequence, a digest or a checksum.</summary>
internal sealed class PeerFormats : IDisposable
{
    private const int Level = 19;

    private readonly Compressor zstd = new(Level);

    /// <summary>What the formats are called.</summary>
    public static IReadOnlyList<string> Names { get; } =
        ["int32 + value", "the same, zstd", "gaps + value, zstd", "gaps + XOR, zstd", "gaps + XOR planes, zstd"];

    /// <summary>The sizes of an update of float32 parameters in all of the formats, in bytes.</summary>
    /// <param name="update">The update.</param>
    /// <param name="precision">What its values are rounded to: 2 bytes are enough for bfloat16.</param>
    public long[] Sizes(ModelUpdate update, DeployedValuePrecision precision)
    {
        var coordinates = update.Coordinates;
        var values = Significant(update.Values, precision);
        var previous = Significant(update.PreviousValues, precision);
        var size = values.Length / Math.Max(1, coordinates.Length);

        var positions = new byte[4 * coordinates.Length];
        for (var j = 0; j < coordinates.Length; j++) BinaryPrimitives.WriteInt32LittleEndian(positions.AsSpan(4 * j), coordinates[j]);
        var changes = new byte[values.Length];
        for (var i = 0; i < changes.Length; i++) changes[i] = (byte)(values[i] ^ previous[i]);
        var planes = new byte[values.Length];
        for (var i = 0; i < planes.Length; i++) planes[(i % size * coordinates.Length) + (i / size)] = changes[i];
        var gaps = Gaps(coordinates);
        return
        [
            positions.Length + values.Length,
            Compressed(positions, values),
            Compressed(gaps, values),
            Compressed(gaps, changes),
            Compressed(gaps, planes),
        ];
    }

    /// <inheritdoc />
    public void Dispose() => zstd.Dispose();

    /// <summary>Together or each by itself, whichever is smaller.</summary>
    private long Compressed(byte[] positions, byte[] values) =>
        Math.Min(zstd.Wrap([.. positions, .. values]).Length, zstd.Wrap(positions).Length + zstd.Wrap(values).Length);

    /// <summary>Distances of coordinates, 2 bytes each where all fit, otherwise 4.</summary>
    private static byte[] Gaps(ReadOnlySpan<int> coordinates)
    {
        var gaps = new int[coordinates.Length];
        for (var j = 0; j < gaps.Length; j++) gaps[j] = coordinates[j] - (j == 0 ? 0 : coordinates[j - 1]);
        var size = gaps.All(g => g <= ushort.MaxValue) ? 2 : 4;
        var bytes = new byte[size * gaps.Length];
        for (var j = 0; j < gaps.Length; j++) Scalars.Store(bytes, j, size, (uint)gaps[j]);
        return bytes;
    }

    private static byte[] Significant(ReadOnlySpan<byte> values, DeployedValuePrecision precision)
    {
        if (precision == DeployedValuePrecision.Float32) return values.ToArray();
        var significant = new byte[values.Length / 2];
        for (var j = 0; j < significant.Length / 2; j++) values.Slice((4 * j) + 2, 2).CopyTo(significant.AsSpan(2 * j));
        return significant;
    }
}
