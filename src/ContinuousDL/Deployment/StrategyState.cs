using System.Text;

namespace ContinuousDL.Deployment;

/// <summary>Marks a strategy's state with what it is the state of.</summary>
public static class StrategyState
{
    /// <summary>Writes the mark.</summary>
    /// <param name="writer">Where to write it. Stays open.</param>
    /// <param name="kind">The name of the strategy, with the options that its state depends on.</param>
    public static void Save(BinaryWriter writer, string kind)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(kind);
    }

    /// <summary>Reads the mark, and checks it.</summary>
    /// <param name="reader">Where to read it from. Stays open.</param>
    /// <param name="kind">The mark that is expected.</param>
    /// <exception cref="InvalidDataException">It is the state of something else, or none.</exception>
    public static void Check(BinaryReader reader, string kind)
    {
        ArgumentNullException.ThrowIfNull(reader);
        string found;
        try
        {
            found = reader.ReadString();
        }
        catch (Exception e) when (e is EndOfStreamException or FormatException or DecoderFallbackException or ArgumentException)
        {
            throw new InvalidDataException("The state of the deployment strategy is damaged or cut short.", e);
        }

        if (found != kind) throw new InvalidDataException($"The state is that of {found}, not of {kind}.");
    }
}
