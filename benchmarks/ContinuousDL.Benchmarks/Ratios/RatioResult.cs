using System.Text.Json;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>A measured ratio beside its bar.</summary>
/// <param name="Bar">The bar.</param>
/// <param name="Spread">The ratio: median, and how far its rounds lie apart.</param>
internal sealed record RatioResult(Bar Bar, Spread Spread)
{
    private static readonly JsonWriterOptions Indented = new() { Indented = true };

    /// <summary>Whether the median is what the bar asks for.</summary>
    public bool Holds => Bar.IsHeldBy(Spread.Median);

    /// <summary>Writes results as JSON: an array of objects with <c>name</c>, <c>ratio</c>, <c>bar</c> and <c>holds</c>.</summary>
    /// <param name="results">The results.</param>
    /// <param name="stream">Where to write them. Stays open.</param>
    public static void WriteJson(IEnumerable<RatioResult> results, Stream stream)
    {
        using var writer = new Utf8JsonWriter(stream, Indented);
        writer.WriteStartArray();
        foreach (var result in results)
        {
            writer.WriteStartObject();
            writer.WriteString("name", result.Bar.Name);
            writer.WriteNumber("ratio", result.Spread.Median);
            writer.WriteNumber("bar", result.Bar.Limit);
            writer.WriteBoolean("holds", result.Holds);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }
}
