using System.Diagnostics;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>Progress as plain lines, for output that goes to a file or a pipe: one for each quarter of a task.</summary>
internal sealed class PlainProgress(TextWriter output) : IProgressView
{
    private const int LinesPerTask = 4;

    private readonly Stopwatch clock = new();
    private string task = "";
    private int samples;
    private int linesWritten;

    /// <inheritdoc />
    public void Begin(string task, int samples)
    {
        (this.task, this.samples, linesWritten) = (task, samples, 0);
        clock.Restart();
    }

    /// <inheritdoc />
    public void Report(Progress progress)
    {
        var line = (int)((long)progress.Samples * LinesPerTask / samples);
        if (line <= linesWritten) return;
        linesWritten = line;
        output.WriteLine(
            $"{task,-20} {(double)progress.Samples / samples,4:0%} {progress.Samples,9:N0} samples"
            + $" {ProgressText.Rate(progress.Samples, clock.Elapsed),15} {ProgressText.Accuracy(progress),10} {ProgressText.Bytes(progress),14}".TrimEnd());
    }

    /// <inheritdoc />
    public void End(string task)
    {
    }
}
