using System.Security.Cryptography;

namespace ContinuousDL.Replication.Wire;

/// <summary>How a message is signed, as its flags say.</summary>
internal enum SignatureKind
{
    None,
    HmacSha256,
    EcdsaP256,
}

/// <summary>
/// Signs messages and checks signatures: with a key that trainer and replicas share (HMAC-SHA256), or with a pair of keys, of
/// which the replicas have the public one (ECDSA over P-256 with SHA-256).
/// </summary>
/// <remarks>Keeps a copy of the key until it is disposed, and shows it nowhere. Thread-safe.</remarks>
public abstract class UpdateSigning : IDisposable
{
    private const int HmacSize = 32;
    private const int EcdsaSize = 64;

    /// <summary>Shorter keys can be guessed.</summary>
    private const int ShortestSharedKey = 16;

    private protected UpdateSigning()
    {
    }

    /// <summary>Whether it can sign, and not only check: not so with a public key.</summary>
    public abstract bool CanSign { get; }

    internal abstract SignatureKind Kind { get; }

    /// <summary>Signs with HMAC-SHA256: who can check can sign too. Adds 32 bytes to a message.</summary>
    /// <param name="key">The shared key, at least 16 bytes; 32 random ones are best. Copied.</param>
    /// <exception cref="ArgumentException">The key is too short.</exception>
    public static UpdateSigning HmacSha256(ReadOnlySpan<byte> key)
    {
        if (key.Length < ShortestSharedKey) throw new ArgumentException($"A shared key has at least {ShortestSharedKey} bytes; this one has {key.Length}.", nameof(key));
        return new Hmac(key);
    }

    /// <summary>Signs with ECDSA over P-256, for the trainer. Adds 64 bytes to a message.</summary>
    /// <param name="key">The private key in the PKCS#8 format, as <see cref="AsymmetricAlgorithm.ExportPkcs8PrivateKey"/> gives it. Copied.</param>
    /// <exception cref="ArgumentException">It is no private key on P-256.</exception>
    public static UpdateSigning EcdsaP256PrivateKey(ReadOnlySpan<byte> key) => Ecdsa.Import(key, isPrivate: true);

    /// <summary>Checks signatures of ECDSA over P-256, for the replicas.</summary>
    /// <param name="key">The public key as SubjectPublicKeyInfo, as <see cref="AsymmetricAlgorithm.ExportSubjectPublicKeyInfo"/> gives it. Copied.</param>
    /// <exception cref="ArgumentException">It is no public key on P-256.</exception>
    public static UpdateSigning EcdsaP256PublicKey(ReadOnlySpan<byte> key) => Ecdsa.Import(key, isPrivate: false);

    /// <summary>The length of a signature in bytes.</summary>
    internal static int SizeOf(SignatureKind kind) => kind switch
    {
        SignatureKind.HmacSha256 => HmacSize,
        SignatureKind.EcdsaP256 => EcdsaSize,
        _ => 0,
    };

    /// <summary>How a signature of a length was made, where nothing else says so; <see cref="SignatureKind.None"/> where none is that long.</summary>
    internal static SignatureKind KindOf(int length) => length switch
    {
        HmacSize => SignatureKind.HmacSha256,
        EcdsaSize => SignatureKind.EcdsaP256,
        _ => SignatureKind.None,
    };

    /// <summary>Signs.</summary>
    /// <param name="data">The signed bytes.</param>
    /// <param name="signature">Receives the signature.</param>
    /// <exception cref="InvalidOperationException">There is only a public key.</exception>
    internal abstract void Sign(ReadOnlySpan<byte> data, Span<byte> signature);

    /// <summary>Whether a signature is of the data, by the key.</summary>
    internal abstract bool IsRight(ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature);

    /// <summary>Wipes the key. It can't be used any more.</summary>
    public abstract void Dispose();

    private sealed class Hmac(ReadOnlySpan<byte> key) : UpdateSigning
    {
        private byte[]? key = key.ToArray();

        public override bool CanSign => true;

        internal override SignatureKind Kind => SignatureKind.HmacSha256;

        private byte[] Key => key ?? throw new ObjectDisposedException(nameof(UpdateSigning));

        internal override void Sign(ReadOnlySpan<byte> data, Span<byte> signature) => HMACSHA256.HashData(Key, data, signature);

        internal override bool IsRight(ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature)
        {
            Span<byte> expected = stackalloc byte[HmacSize];
            HMACSHA256.HashData(Key, data, expected);
            return CryptographicOperations.FixedTimeEquals(expected, signature);
        }

        public override void Dispose()
        {
            CryptographicOperations.ZeroMemory(key);
            key = null;
        }
    }

    private sealed class Ecdsa(ECDsa algorithm, bool canSign) : UpdateSigning
    {
        /// <summary>The framework's object is not for several threads.</summary>
        private readonly Lock use = new();

        public override bool CanSign => canSign;

        internal override SignatureKind Kind => SignatureKind.EcdsaP256;

        public static Ecdsa Import(ReadOnlySpan<byte> key, bool isPrivate)
        {
            var algorithm = ECDsa.Create();
            try
            {
                int read;
                if (isPrivate) algorithm.ImportPkcs8PrivateKey(key, out read);
                else algorithm.ImportSubjectPublicKeyInfo(key, out read);
                if (read == key.Length && IsP256(algorithm.ExportParameters(includePrivateParameters: false).Curve.Oid)) return new Ecdsa(algorithm, isPrivate);
            }
            catch (CryptographicException)
            {
                // Its message is of no help to who has mixed up formats.
            }

            algorithm.Dispose();
            throw new ArgumentException(
                isPrivate ? "The key is not a private key on P-256 in the PKCS#8 format." : "The key is not a public key on P-256 as SubjectPublicKeyInfo.", nameof(key));
        }

        internal override void Sign(ReadOnlySpan<byte> data, Span<byte> signature)
        {
            if (!canSign) throw new InvalidOperationException("The codec has only the public key: it can check signatures, but not sign.");
            lock (use) algorithm.SignData(data, signature, HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        }

        internal override bool IsRight(ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature)
        {
            lock (use) return algorithm.VerifyData(data, signature, HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        }

        public override void Dispose() => algorithm.Dispose();

        /// <summary>Not every platform says both the number and the name of a curve.</summary>
        private static bool IsP256(Oid curve)
        {
            var expected = ECCurve.NamedCurves.nistP256.Oid;
            return curve.Value is { } value ? value == expected.Value : curve.FriendlyName == expected.FriendlyName;
        }
    }
}
