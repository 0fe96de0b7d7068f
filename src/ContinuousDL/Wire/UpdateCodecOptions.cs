namespace ContinuousDL.Wire;

/// <summary>The options of an <see cref="UpdateCodec"/>.</summary>
public sealed class UpdateCodecOptions
{
    /// <summary>
    /// With what messages are signed, and signatures checked: a codec that has it refuses messages without a right signature.
    /// It stays the caller's, and must not be disposed before the codec's last use. <value>None: nothing is signed or checked.</value>
    /// </summary>
    public UpdateSigning? Signing { get; set; }
}
