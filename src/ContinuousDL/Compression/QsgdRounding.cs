namespace ContinuousDL.Compression;

/// <summary>How <see cref="QsgdCompressor"/> makes a level of a value that lies between two.</summary>
public enum QsgdRounding
{
    /// <summary>
    /// Biased: rounds at random as <see cref="Unbiased"/> does, then scales the result down by
    /// τ = 1 + min(n/s², √n/s), n being the tensor's coordinates and s the levels (Koloskova et al. 2019, "Decentralized
    /// stochastic optimization and gossip algorithms with compressed communication"). What is left is then on average
    /// at most 1 − 1/τ of what there was, in squared norm, which error feedback needs.
    /// </summary>
    Contractive,

    /// <summary>
    /// To one of the two at random, the nearer the likelier, so that what is sent is right on average (Alistarh et al. 2017).
    /// Made for use without a memory: with one, what is owed grows where n is larger than about s².
    /// </summary>
    Unbiased,

    /// <summary>
    /// Biased: to the nearer level, halves to the lower one; no chance is involved. A value below half a level, norm/(2s), is
    /// not sent at all, which may be every value of a large tensor where s is small.
    /// </summary>
    Nearest,
}
