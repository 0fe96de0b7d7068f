using ScottPlot;
using SkiaSharp;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>
/// Gives ScottPlot the font that is embedded in the assembly, whatever font it asks for: pictures look the same everywhere,
/// and come out on a machine that has no fonts at all.
/// </summary>
internal sealed class EmbeddedFont : IFontResolver
{
    private const string Name = "Open Sans";
    private const string ResourceName = "OpenSans-Regular.ttf";
    private static readonly Lazy<EmbeddedFont> Instance = new(() => new EmbeddedFont());

    private readonly SKTypeface typeface;

    private EmbeddedFont()
    {
        using var resource = typeof(EmbeddedFont).Assembly.GetManifestResourceStream(ResourceName)
            ?? throw new InvalidOperationException($"The assembly has no resource '{ResourceName}'.");
        using var data = SKData.Create(resource);
        typeface = SKTypeface.FromData(data) ?? throw new InvalidOperationException($"The resource '{ResourceName}' is not a font.");
    }

    /// <summary>Makes it the font of every plot from now on. Doing so again changes nothing.</summary>
    public static void Use()
    {
        if (Fonts.FontResolvers.Contains(Instance.Value)) return;
        Fonts.FontResolvers.Insert(0, Instance.Value);
        Fonts.Default = Fonts.Sans = Name;
    }

    /// <inheritdoc />
    public SKTypeface CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) => typeface;

    /// <inheritdoc />
    public SKTypeface CreateTypeface(string fontName, bool bold, bool italic) => typeface;
}
