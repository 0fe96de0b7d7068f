namespace ContinuousDL.Replication.Wire;

/// <summary>The keys whose signatures a codec takes, each with its name. A signature doesn't say whose it is: the keys of its method are tried in turn.</summary>
internal sealed class TrustedKeys
{
    private readonly (string Name, UpdateSigning Key)[] keys;

    /// <summary>Takes the keys of a codec's options, the one that it signs with first.</summary>
    public TrustedKeys(UpdateCodecOptions? options)
    {
        var all = new List<(string, UpdateSigning)>();
        if (options?.Signing is { } signing) all.Add((options.SigningName, signing));
        foreach (var (name, key) in options?.TrustedKeys ?? new Dictionary<string, UpdateSigning>())
        {
            ArgumentException.ThrowIfNullOrEmpty(name, nameof(UpdateCodecOptions.TrustedKeys));
            all.Add((name, key ?? throw new ArgumentException($"The trusted key '{name}' is null.", nameof(options))));
        }

        keys = [.. all];
    }

    /// <summary>Whether there is none, so that nothing is checked.</summary>
    public bool IsEmpty => keys.Length == 0;

    /// <summary>How a message to a reader calls them.</summary>
    public string Description => keys.Length == 1 ? "the codec's key" : $"any of the codec's keys ({string.Join(", ", keys.Select(k => $"'{k.Name}'"))})";

    /// <summary>The name of the key that made a signature; null where it was none of these.</summary>
    public string? SignerOf(SignatureKind kind, ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature)
    {
        foreach (var (name, key) in keys)
        {
            if (key.Kind == kind && key.IsRight(data, signature)) return name;
        }

        return null;
    }
}
