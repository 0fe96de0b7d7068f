namespace ContinuousDL.Deployment;

/// <summary>
/// Works on many coordinates of a model at once where its tensors are: in main memory, or on a device with operations that a
/// package gives (<see cref="ModelAccess"/>).
/// </summary>
/// <remarks>
/// Coordinates are ascending and distinct, in the numbering of the model's layout. The tensors stay their owner's. The digest may be
/// computed while something else is done; nothing else may.
/// </remarks>
internal interface IModelAccess : IDisposable
{
    /// <summary>The digest of the state, computed from every value.</summary>
    ulong ComputeDigest();

    /// <summary>Reads single coordinates.</summary>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="values">Receives their values, packed, each as the raw bytes of its tensor's dtype.</param>
    void Read(ReadOnlySpan<int> coordinates, Span<byte> values);

    /// <summary>What the digest would change by if an update were written. Nothing is.</summary>
    /// <param name="update">An update that lists its coordinates.</param>
    ulong DigestChange(ModelUpdate update);

    /// <summary>Writes an update's values.</summary>
    /// <param name="update">Any update for this model.</param>
    void Write(ModelUpdate update);

    /// <summary>Takes over the values of an update that another copy of the model has already: from the one or the other, whichever is nearer.</summary>
    /// <param name="update">An update that lists its coordinates.</param>
    /// <param name="source">The access to the other copy, which has the update's values and has not changed since.</param>
    void CatchUp(ModelUpdate update, IModelAccess source);
}
