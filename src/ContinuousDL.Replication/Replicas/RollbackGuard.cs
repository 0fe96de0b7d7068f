using System.Globalization;
using ContinuousDL.Replication.Storage;

namespace ContinuousDL.Replication.Replicas;

/// <summary>
/// Remembers how far a follower has got, in its run and in those that it has left for others, on disk if it is given a file, so
/// that a state which was signed long ago can't take a replica back.
/// </summary>
/// <remarks>
/// Within a run the sequence never falls: a trainer that goes on from a checkpoint, or rolls back, does so under new sequences. A
/// new run begins at any sequence; one that was left never comes back. Not thread-safe.
/// </remarks>
internal sealed class RollbackGuard
{
    private const string Title = "continuousdl sequences 1";

    /// <summary>Between two writes of the file: what a crash loses of it is how far the replica got in this time.</summary>
    private static readonly TimeSpan WriteInterval = TimeSpan.FromSeconds(1);

    private readonly string? path;
    private readonly TimeProvider timeProvider;

    /// <summary>The runs in the order in which they were followed; the last one is followed now.</summary>
    private readonly List<(Guid RunId, long Sequence)> runs = [];
    private bool isDirty;
    private long written;

    /// <summary>Makes a guard that knows what the file says.</summary>
    /// <param name="path">The file, which need not exist; null to remember nothing beyond the process.</param>
    /// <param name="timeProvider">The clock.</param>
    /// <exception cref="InvalidDataException">The file is damaged, or another.</exception>
    /// <exception cref="IOException">It can't be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It must not be read.</exception>
    public RollbackGuard(string? path, TimeProvider timeProvider)
    {
        this.path = path;
        this.timeProvider = timeProvider;
        written = timeProvider.GetTimestamp() - (long)(WriteInterval.TotalSeconds * timeProvider.TimestampFrequency);
        if (path is not null && File.Exists(path)) Read(path);
    }

    /// <summary>The run that is followed now; <see cref="Guid.Empty"/> where none ever was.</summary>
    public Guid RunId => runs.Count == 0 ? Guid.Empty : runs[^1].RunId;

    /// <summary>The highest sequence seen of a run; 0 for one that is not known.</summary>
    public long HighestOf(Guid runId)
    {
        foreach (var run in runs)
        {
            if (run.RunId == runId) return run.Sequence;
        }

        return 0;
    }

    /// <summary>Whether a run was left for another.</summary>
    public bool HasLeft(Guid runId)
    {
        for (var i = 0; i < runs.Count - 1; i++)
        {
            if (runs[i].RunId == runId) return true;
        }

        return false;
    }

    /// <summary>Why a state must not be taken over; null where it may.</summary>
    /// <param name="runId">Its run.</param>
    /// <param name="sequence">Its sequence, or the highest that what comes with it leads to.</param>
    public string? Objection(Guid runId, long sequence)
    {
        if (HasLeft(runId)) return $"The source offers a state of the training run {runId}, which was left for {runs[^1].RunId}: a replica with a key does not go back unless it is allowed to.";
        var highest = HighestOf(runId);
        return sequence >= highest ? null
            : $"The source offers a state that leads to sequence {sequence}; the highest seen was {highest}: a replica with a key does not go back unless it is allowed to.";
    }

    /// <summary>The replica has a state now.</summary>
    public void Note(Guid runId, long sequence)
    {
        if (runId == Guid.Empty || (runs.Count > 0 && runs[^1] == (runId, sequence))) return;
        runs.RemoveAll(run => run.RunId == runId);
        runs.Add((runId, sequence));
        isDirty = true;
    }

    /// <summary>Writes the file, where it lags behind and was not written just before.</summary>
    /// <param name="now">Whether to write it even so.</param>
    /// <exception cref="IOException">It can't be written. It is tried again at the next call that is due.</exception>
    /// <exception cref="UnauthorizedAccessException">It must not be written.</exception>
    public void Save(bool now)
    {
        if (path is null || !isDirty || (!now && timeProvider.GetElapsedTime(written) < WriteInterval)) return;
        written = timeProvider.GetTimestamp();
        DurableFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine(Title);
            foreach (var (runId, sequence) in runs) writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{runId:D} {sequence}"));
        });
        isDirty = false;
    }

    private void Read(string file)
    {
        var lines = File.ReadAllLines(file);
        if (lines.Length == 0 || lines[0] != Title) throw Damaged(file);
        foreach (var line in lines.Skip(1))
        {
            if (line.Split(' ') is not [var id, var number] || !Guid.TryParseExact(id, "D", out var runId)
                || !long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var sequence))
            {
                throw Damaged(file);
            }

            runs.Add((runId, sequence));
        }
    }

    private static InvalidDataException Damaged(string file) =>
        new($"'{file}' is not, or not whole, what a follower remembers its sequences in. Delete it only if the replica may go back to any state.");
}
