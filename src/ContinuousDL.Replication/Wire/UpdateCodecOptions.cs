namespace ContinuousDL.Replication.Wire;

/// <summary>The options of an <see cref="UpdateCodec"/>.</summary>
public sealed class UpdateCodecOptions
{
    /// <summary>
    /// With what messages are signed, and signatures checked: a codec that has it refuses messages without a right signature.
    /// It stays the caller's, and must not be disposed before the codec's last use. <value>Default: none; nothing is signed or checked.</value>
    /// </summary>
    public UpdateSigning? Signing { get; set; }

    /// <summary>The name of <see cref="Signing"/> where <see cref="UpdateCodec.SignerOf(ReadOnlySpan{byte})"/> and exceptions tell keys apart. <value>Default: "signing".</value></summary>
    public string SigningName { get; set; } = "signing";

    /// <summary>
    /// Further keys whose signatures are right, each by its name, for the time in which one key takes another's place: the
    /// replicas are given the new one first, then the trainer signs with it, and the old one is taken from the replicas when no
    /// message or snapshot signed by it is in use any more. They stay the caller's, and are read once. <value>Default: none.</value>
    /// </summary>
    public IReadOnlyDictionary<string, UpdateSigning> TrustedKeys { get; set; } = new Dictionary<string, UpdateSigning>();
}
