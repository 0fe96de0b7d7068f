namespace ContinuousDL.State;

/// <summary>
/// A part whose state can be saved, so that another one made in the same way goes on from it. <see cref="SavedState"/> saves and
/// loads it, and checks what is the same for all parts: that the state is of such a part, in a version that it can read, and whole.
/// </summary>
/// <remarks>
/// Reading a state and taking it over are two things, so that nothing has changed where any of it turns out not to fit: the rest of
/// this part's state, or that of another part that is saved with it. A part that is made of others saves them within its own state
/// by <see cref="SavedState.SaveState"/>, and reads them by <see cref="SavedState.ReadState"/>.
/// </remarks>
/// <example>
/// A part that is made of a count:
/// <code>
/// public string StateKind => nameof(Counter);
///
/// public void WriteState(BinaryWriter writer) => writer.Write(count);
///
/// public Action ReadState(BinaryReader reader, int version)
/// {
///     var read = reader.ReadInt64();
///     if (read &lt; 0) throw new InvalidDataException($"The count is {read}; none is negative.");
///     return () => count = read;
/// }
/// </code>
/// </example>
public interface IStateful
{
    /// <summary>
    /// The part that the state is of, in words that an error message can quote: its type, and those of its options that decide
    /// whether a state fits, such as "WindowSampler, window of 1000 samples". A state is loaded only into a part of the same kind.
    /// </summary>
    /// <value>Neither empty nor longer than <see cref="SavedState.MaxKindBytes"/> bytes of UTF-8, without control characters.</value>
    string StateKind { get; }

    /// <summary>The version of the form in which the state is written: a later one has a higher number.</summary>
    /// <value>The default is 1. At least 1.</value>
    int StateVersion => 1;

    /// <summary>Writes everything that decides what the part does next. Changes nothing, so that writing again writes the same.</summary>
    /// <param name="writer">The writer. Stays open.</param>
    /// <remarks>To be called by <see cref="SavedState"/>. A checksum is not needed: what keeps a state, such as a checkpoint, has one.</remarks>
    void WriteState(BinaryWriter writer);

    /// <summary>Reads and checks a state that <see cref="WriteState"/> wrote. Changes nothing yet.</summary>
    /// <param name="reader">The reader. It ends where the state does, and all of it has to be read. Stays open.</param>
    /// <param name="version">The version that the state was written in, from 1 to <see cref="StateVersion"/>.</param>
    /// <returns>
    /// An action that makes the part go on from what was read. It can't fail, and is called once, at once, or never.
    /// </returns>
    /// <remarks>
    /// To be called by <see cref="SavedState"/>, to which an <see cref="EndOfStreamException"/> says that the state is cut short. Memory
    /// is to be taken as the data comes, or as the part expects it, but not for a length that is only claimed.
    /// </remarks>
    /// <exception cref="InvalidDataException">The state is damaged or does not fit.</exception>
    Action ReadState(BinaryReader reader, int version);
}
