using System.Diagnostics;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>Progress as plain lines, for output that goes to a file or a pipe: one for each quarter of a task.</summary>
internal sealed class PlainProgress(TextWriter output) : IProgressView
{
    private const int LinesPerTask = 4;

    private readonly TextWriter output = TextWriter.Synchronized(output);

    /// <inheritdoc />
    public IProgressTask Begin(string name, int samples) => new PlainTask(output, name, samples);

    private sealed class PlainTask(TextWriter output, string name, int samples) : IProgressTask
    {
        private readonly Stopwatch clock = Stopwatch.StartNew();
        private int linesWritten;

        public void Report(Progress progress)
        {
            var line = (int)((long)progress.Samples * LinesPerTask / samples);
            if (line <= linesWritten) return;
            linesWritten = line;
            var rate = ProgressText.Rate(progress.Samples, clock.Elapsed);
            output.WriteLine(
                $"{name,-20} {(double)progress.Samples / samples,4:0%} {progress.Samples,9:N0} samples {rate,15}"
                + $" {ProgressText.Accuracy(progress),10} {ProgressText.Bytes(progress),14}".TrimEnd());
        }

        public void End()
        {
        }
    }
}
