using ContinuousDL.Failures;

namespace ContinuousDL;

/// <summary>
/// The way in which a trainer acts where training changes a non-persistent buffer (<c>register_buffer(..., persistent: false)</c>). Such a
/// buffer is no part of the model's state: neither snapshots and updates nor checkpoints have it.
/// </summary>
public enum NonPersistentBufferHandling
{
    /// <summary>
    /// Throws a <see cref="NonPersistentStateException"/> that names it, and takes the step back: replicas and a restored trainer would
    /// lack what it has learned.
    /// </summary>
    Refuse,

    /// <summary>Leaves it alone, and out of updates and checkpoints: it is scratch memory, on which no prediction depends.</summary>
    Ignore,
}
