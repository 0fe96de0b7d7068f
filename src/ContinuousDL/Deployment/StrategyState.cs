using System.Text;

namespace ContinuousDL.Deployment;

/// <summary>Marks a strategy's state with what it is the state of.</summary>
internal static class StrategyState
{
    public static void Save(BinaryWriter writer, string kind)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(kind);
    }

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
