using System.Globalization;
using ContinuousDL.Replication.Storage;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>
/// The folder of a run in a log's directory, <c>000001-(run id)</c>: its snapshots, <c>snapshot-(sequence).safetensors</c>, and
/// its updates, in segments <c>updates-(base sequence).log</c>.
/// </summary>
/// <remarks>
/// A log starts another folder, with the next number, when another run starts, or the same run goes on from a later state. The
/// one with the highest number that has a snapshot is the one that counts. Not thread-safe.
/// </remarks>
internal sealed class RunHistory
{
    private const string SnapshotPrefix = "snapshot-";
    private const string SnapshotSuffix = ".safetensors";
    private const string SegmentPrefix = "updates-";
    private const string SegmentSuffix = ".log";
    private const int SequenceDigits = 19;

    private RunHistory(string path, int number, Guid runId)
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
    public static IEnumerable<RunHistory> List(string directory)
    {
        var runs = new List<RunHistory>();
        foreach (var path in Directory.GetDirectories(directory))
        {
            var name = System.IO.Path.GetFileName(path);
            var dash = name.IndexOf('-');
            if (dash > 0 && int.TryParse(name.AsSpan(0, dash), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
                && Guid.TryParseExact(name.AsSpan(dash + 1), "N", out var run) && name == NameOf(number, run))
            {
                runs.Add(new RunHistory(path, number, run));
            }
        }

        return runs.OrderByDescending(r => r.Number);
    }

    /// <summary>Makes the folder of a run.</summary>
    public static RunHistory Create(string directory, int number, Guid runId)
    {
        var path = System.IO.Path.Combine(directory, NameOf(number, runId));
        Directory.CreateDirectory(path);
        DurableFile.FlushDirectory(directory);
        return new RunHistory(path, number, runId);
    }

    public string SnapshotPath(long sequence) => FilePath(SnapshotPrefix, sequence, SnapshotSuffix);

    public string SegmentPath(long baseSequence) => FilePath(SegmentPrefix, baseSequence, SegmentSuffix);

    /// <summary>Whether the folder has a snapshot; one without is what a crash left of the start of a run.</summary>
    public bool HasSnapshot() => Directory.EnumerateFiles(Path, $"{SnapshotPrefix}*{SnapshotSuffix}").Any(f => TryParse(System.IO.Path.GetFileName(f), SnapshotPrefix, SnapshotSuffix, out _));

    /// <summary>Whether the folder has files of updates.</summary>
    public bool HasUpdates() => Directory.EnumerateFiles(Path, $"{SegmentPrefix}*{SegmentSuffix}").Any(f => TryParse(System.IO.Path.GetFileName(f), SegmentPrefix, SegmentSuffix, out _));

    /// <summary>Deletes what a crash left of files that were being written.</summary>
    public void DeleteUnfinished() => DurableFile.DeleteUnfinished(Path, IsOwn);

    /// <summary>Deletes the run's files, and its folder unless somebody else has something in there.</summary>
    public void Delete()
    {
        // One that was put elsewhere is not the log's to remove.
        if (new DirectoryInfo(Path).Attributes.HasFlag(FileAttributes.ReparsePoint)) return;
        DeleteUnfinished();
        foreach (var file in Directory.GetFiles(Path).Where(f => IsOwn(System.IO.Path.GetFileName(f)))) File.Delete(file);
        if (!Directory.EnumerateFileSystemEntries(Path).Any()) Directory.Delete(Path);
    }

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
            else if (TryParse(file.Name, SegmentPrefix, SegmentSuffix, out var start)) segments.Add(known.GetValueOrDefault(start) ?? LogSegment.At(file.FullName, RunId, start));
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

    /// <summary>
    /// Looks for new records at the end, and for the file that comes next. That takes the same time however many files there
    /// are; what else has changed, only <see cref="Refresh"/> finds.
    /// </summary>
    /// <exception cref="FileNotFoundException">The last file is gone.</exception>
    /// <exception cref="UpdateLogDamagedException">A file is damaged.</exception>
    public void Extend()
    {
        if (Segments.Count > 0) Segments[^1].Scan();
        while (true)
        {
            // A file begins where the one before it ends.
            var end = Segments.Count > 0 ? Segments[^1].End : NewestSnapshot;
            if (Segments.Count > 0 && end == Segments[^1].BaseSequence) return;
            var path = SegmentPath(end);
            if (!File.Exists(path)) return;
            var next = LogSegment.At(path, RunId, end);
            next.Scan();
            Segments.Add(next);
        }
    }

    /// <summary>What brings a replica to the newest state, to be read.</summary>
    /// <param name="runId">The run that it follows.</param>
    /// <param name="sequence">The sequence of its state.</param>
    public CatchUpPlan Plan(Guid runId, long sequence)
    {
        return new CatchUpPlan(
            Head,
            runId == RunId && Knows(sequence) ? Slice(sequence, Head) : null,
            NewestSnapshot,
            SnapshotPath(NewestSnapshot),
            Snapshots.GetValueAtIndex(Snapshots.Count - 1),
            Slice(NewestSnapshot, Head));
    }

    /// <summary>Whether the state of a sequence is one that updates lead on from, or the newest.</summary>
    public bool Knows(long sequence) => sequence == Head || (SegmentAfter(sequence) is var i && i < Segments.Count && Segments[i].Knows(sequence));

    /// <summary>The updates that lead from one state to another, to be read.</summary>
    /// <param name="from">The sequence of a state that the run <see cref="Knows"/>.</param>
    /// <param name="to">The sequence of a later one.</param>
    public List<SegmentRange> Slice(long from, long to)
    {
        var slices = new List<SegmentRange>();
        for (var i = SegmentAfter(from); i < Segments.Count && Segments[i].BaseSequence < to; i++) slices.Add(Segments[i].Slice(from, to));
        return slices;
    }

    /// <summary>The update that leads to a sequence, to be read; null where none does.</summary>
    public SegmentRange? Find(long sequence)
    {
        var i = SegmentAfter(sequence - 1);
        if (i == Segments.Count) return null;
        var slice = Segments[i].Slice(sequence - 1, sequence);
        return slice.Records.Count == 1 ? slice : null;
    }

    /// <summary>The index of the first segment that leads beyond a sequence.</summary>
    private int SegmentAfter(long sequence)
    {
        var (low, high) = (0, Segments.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (Segments[middle].End <= sequence) low = middle + 1;
            else high = middle;
        }

        return low;
    }

    /// <summary>Whether a name is one that the log gives: nothing else in the folder is touched.</summary>
    private static bool IsOwn(string name) => TryParse(name, SnapshotPrefix, SnapshotSuffix, out _) || TryParse(name, SegmentPrefix, SegmentSuffix, out _);

    private static bool TryParse(string name, string prefix, string suffix, out long sequence)
    {
        sequence = 0;
        return name.Length == prefix.Length + SequenceDigits + suffix.Length
            && name.StartsWith(prefix, StringComparison.Ordinal) && name.EndsWith(suffix, StringComparison.Ordinal)
            && long.TryParse(name.AsSpan(prefix.Length, SequenceDigits), NumberStyles.None, CultureInfo.InvariantCulture, out sequence);
    }

    private static string NameOf(int number, Guid runId) => string.Create(CultureInfo.InvariantCulture, $"{number:D6}-{runId:N}");

    private string FilePath(string prefix, long sequence, string suffix) =>
        System.IO.Path.Combine(Path, string.Create(CultureInfo.InvariantCulture, $"{prefix}{sequence:D19}{suffix}"));
}
