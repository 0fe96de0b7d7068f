namespace ContinuousDL.History;

/// <summary>A history on disk is damaged, in use by another process, or can't be written to.</summary>
/// <remarks>Damaged values are never guessed: samples that can't be shown to be whole are not given out.</remarks>
public sealed class SampleHistoryException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">The message, which says what is wrong.</param>
    /// <param name="inner">The exception by which it was noticed, if there was one.</param>
    /// <param name="sampleIndex">The index of the sample that is damaged, where it is about a single one.</param>
    public SampleHistoryException(string message, Exception? inner = null, long? sampleIndex = null)
        : base(message, inner) => SampleIndex = sampleIndex;

    /// <summary>The index of the sample that is damaged; null where it is not about a single one.</summary>
    public long? SampleIndex { get; }
}
