using System.Globalization;
using ContinuousDL.Storage;

namespace ContinuousDL.UpdateLogs;

/// <summary>
/// The folder of a run in a log's directory, <c>000001-(run id)</c>: its snapshots, <c>snapshot-(sequence).safetensors</c>, and
/// its updates, in segments <c>updates-(base sequence).log</c>.
/// </summary>
/// <remarks>
/// A log starts another folder, with the next number, when another run starts, or the same run goes on from a later state. The
/// one with the highest number that has a snapshot is the one that counts. Not thread-safe.
/// </remarks>
internal sealed class LogRun
{
    private const string SnapshotPrefix = "snapshot-";
    private const string SnapshotSuffix = ".safetensors";
    private const string SegmentPrefix = "updates-";
    private const string SegmentSuffix = ".log";

    private LogRun(string path, int number, Guid runId)
    {
        Path = path;
        Number = number;
        RunId = runId;
    }

    public string Path { get; }

    public int Number { get; }

    public Guid RunId { get; }

    /// <summary>The sequences of the snapshots and the bytes of their files.</summary>
    public SortedList<long, long> Snapshots { get; private set; } = [];

    /// <summary>The segments, in the order of their sequences.</summary>
    public List<LogSegment> Segments { get; private set; } = [];

    public long OldestSnapshot => Snapshots.GetKeyAtIndex(0);

    public long NewestSnapshot => Snapshots.GetKeyAtIndex(Snapshots.Count - 1);

    /// <summary>Where updates are missing or damaged; null where none are.</summary>
    public (string File, long Offset)? Hole { get; private set; }

    /// <summary>How many bytes there are after the last valid record of the last segment.</summary>
    public long UnfinishedBytes { get; private set; }

    /// <summary>The sequence of the newest state.</summary>
    public long Head => Segments.Count > 0 ? Math.Max(Segments[^1].End, NewestSnapshot) : NewestSnapshot;

    /// <summary>The sequence of the oldest state that updates lead on from.</summary>
    public long OldestBase => Segments.Count > 0 ? Segments[0].BaseSequence : Head;

    /// <summary>The folders of runs in a directory, the newest first.</summary>
    public static IEnumerable<LogRun> List(string directory)
    {
        var runs = new List<LogRun>();
        foreach (var path in Directory.GetDirectories(directory))
        {
            var name = System.IO.Path.GetFileName(path);
            var dash = name.IndexOf('-');
            if (dash > 0 && int.TryParse(name.AsSpan(0, dash), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
                && Guid.TryParseExact(name.AsSpan(dash + 1), "N", out var run))
            {
                runs.Add(new LogRun(path, number, run));
            }
        }

        return runs.OrderByDescending(r => r.Number);
    }

    /// <summary>Makes the folder of a run.</summary>
    public static LogRun Create(string directory, int number, Guid runId)
    {
        var path = System.IO.Path.Combine(directory, string.Create(CultureInfo.InvariantCulture, $"{number:D6}-{runId:N}"));
        Directory.CreateDirectory(path);
        DurableFile.FlushDirectory(directory);
        return new LogRun(path, number, runId);
    }

    public string SnapshotPath(long sequence) => FilePath(SnapshotPrefix, sequence, SnapshotSuffix);

    public string SegmentPath(long baseSequence) => FilePath(SegmentPrefix, baseSequence, SegmentSuffix);

    /// <summary>Whether the folder has a snapshot; one without is what a crash left of the start of a run.</summary>
    public bool HasSnapshot() => Directory.EnumerateFiles(Path, $"{SnapshotPrefix}*{SnapshotSuffix}").Any();

    /// <summary>
    /// Looks for new and removed files and new records. Afterwards the segments have no hole between them; what is before a
    /// hole, as compaction leaves it for a moment, is not among them.
    /// </summary>
    /// <returns>Whether there is a snapshot, and the updates from the newest one on are complete.</returns>
    /// <exception cref="UpdateLogDamagedException">A file is damaged.</exception>
    public bool Refresh()
    {
        var known = Segments.ToDictionary(s => s.BaseSequence);
        var segments = new List<LogSegment>();
        var snapshots = new SortedList<long, long>();
        foreach (var file in new DirectoryInfo(Path).EnumerateFiles())
        {
            if (TryParse(file.Name, SnapshotPrefix, SnapshotSuffix, out var sequence)) snapshots[sequence] = file.Length;
            else if (TryParse(file.Name, SegmentPrefix, SegmentSuffix, out var start)) segments.Add(known.GetValueOrDefault(start) ?? LogSegment.Open(file.FullName, RunId, start));
        }

        UnfinishedBytes = 0;
        segments.Sort((a, b) => a.BaseSequence.CompareTo(b.BaseSequence));
        for (var i = 0; i < segments.Count; i++)
        {
            if (i == segments.Count - 1 || segments[i].End != segments[i + 1].BaseSequence) UnfinishedBytes = segments[i].Scan();
        }

        var first = segments.Count - 1;
        while (first > 0 && segments[first - 1].End == segments[first].BaseSequence) first--;
        Hole = first > 0 ? (segments[first - 1].Path, segments[first - 1].Length) : null;
        Segments = first > 0 ? segments[first..] : segments;
        Snapshots = snapshots;
        return snapshots.Count > 0 && (segments.Count == 0 ? snapshots.Count == 1 : OldestBase <= NewestSnapshot && NewestSnapshot <= Segments[^1].End);
    }

    /// <summary>What brings a replica to the newest state, to be read.</summary>
    /// <param name="runId">The run that it follows.</param>
    /// <param name="sequence">The sequence of its state.</param>
    public LogPlan Plan(Guid runId, long sequence)
    {
        var follows = runId == RunId && sequence >= OldestBase && sequence <= Head;
        return new LogPlan(
            Head,
            follows ? Slice(sequence, Head) : null,
            NewestSnapshot,
            SnapshotPath(NewestSnapshot),
            Snapshots.GetValueAtIndex(Snapshots.Count - 1),
            Slice(NewestSnapshot, Head));
    }

    /// <summary>The updates that lead from one state to another, to be read.</summary>
    /// <param name="from">A sequence from <see cref="OldestBase"/> on.</param>
    /// <param name="to">A sequence up to <see cref="Head"/>.</param>
    public List<LogSlice> Slice(long from, long to)
    {
        var slices = new List<LogSlice>();
        foreach (var segment in Segments)
        {
            var (start, end) = (Math.Max(from, segment.BaseSequence), Math.Min(to, segment.End));
            if (start < end) slices.Add(segment.Slice(start, end));
        }

        return slices;
    }

    private static bool TryParse(string name, string prefix, string suffix, out long sequence)
    {
        sequence = 0;
        return name.StartsWith(prefix, StringComparison.Ordinal) && name.EndsWith(suffix, StringComparison.Ordinal)
            && long.TryParse(name.AsSpan()[prefix.Length..^suffix.Length], NumberStyles.None, CultureInfo.InvariantCulture, out sequence);
    }

    private string FilePath(string prefix, long sequence, string suffix) =>
        System.IO.Path.Combine(Path, string.Create(CultureInfo.InvariantCulture, $"{prefix}{sequence:D19}{suffix}"));
}
