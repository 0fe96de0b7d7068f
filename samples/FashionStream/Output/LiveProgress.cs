using System.Collections.Concurrent;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>Progress as bars on a terminal: one line for each task, with the accuracy so far, bytes sent and samples a second.</summary>
internal sealed class LiveProgress : IProgressView
{
    /// <summary>On a narrower terminal, the bars are short and the time is left out.</summary>
    private const int WidthForEverything = 105;

    private readonly ProgressContext context;
    private readonly TextColumn details;

    private LiveProgress(ProgressContext context, TextColumn details)
    {
        this.context = context;
        this.details = details;
    }

    /// <summary>Shows bars while something runs.</summary>
    /// <param name="console">The terminal.</param>
    /// <param name="body">What runs. It is given the view.</param>
    public static T Show<T>(IAnsiConsole console, Func<IProgressView, T> body)
    {
        var details = new TextColumn();
        var isWide = console.Profile.Width >= WidthForEverything;
        List<ProgressColumn> columns =
        [
            new TaskDescriptionColumn { Alignment = Justify.Left },
            new ProgressBarColumn { Width = isWide ? 24 : 8 },
            new PercentageColumn(),
            details,
        ];
        if (isWide) columns.Add(new ElapsedTimeColumn());
        return console.Progress()
            .Columns([.. columns])
            .Start(context => body(new LiveProgress(context, details)));
    }

    /// <inheritdoc />
    public IProgressTask Begin(string name, int samples) => new Bar(context.AddTask(Markup.Escape(name), maxValue: samples), details);

    private sealed class Bar(ProgressTask task, TextColumn details) : IProgressTask
    {
        public void Report(Progress progress)
        {
            details.Set(task, progress);
            task.Value = progress.Samples;
        }

        public void End() => task.StopTask();
    }

    /// <summary>What <see cref="Progress"/> says of a task. Rendered by Spectre's thread while the tasks report from theirs.</summary>
    private sealed class TextColumn : ProgressColumn
    {
        private const int Width = 37;
        private readonly ConcurrentDictionary<int, Progress> progress = new();

        protected override bool NoWrap => true;

        public void Set(ProgressTask task, Progress value) => progress[task.Id] = value;

        public override int? GetColumnWidth(RenderOptions options) => Width;

        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime)
        {
            var value = progress.GetValueOrDefault(task.Id);
            var rate = ProgressText.Rate(value.Samples, task.ElapsedTime ?? TimeSpan.Zero);
            return new Text($"{ProgressText.Accuracy(value),7} {ProgressText.Bytes(value),12} {rate,16}".PadRight(Width));
        }
    }
}
