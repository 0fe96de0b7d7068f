using ContinuousDL.Randomness;

namespace ContinuousDL.Compression;

/// <summary>How a compressor saves its random state: a tag that tells its kind, then the generator.</summary>
internal static class CompressorState
{
    public static void Save(BinaryWriter writer, uint tag, RandomSource random)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(tag);
        random.Save(writer);
    }

    /// <exception cref="InvalidDataException">It has another tag, is cut short or no generator's state; the generator is then unchanged.</exception>
    public static void Load(BinaryReader reader, uint tag, RandomSource random)
    {
        ArgumentNullException.ThrowIfNull(reader);
        uint found;
        try
        {
            found = reader.ReadUInt32();
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException("The state of a compressor is cut short.", e);
        }

        if (found != tag) throw new InvalidDataException($"This is not the state of a compressor of this kind: its tag is 0x{found:x8}, not 0x{tag:x8}.");
        random.Load(reader);
    }
}
