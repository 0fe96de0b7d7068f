using System.Diagnostics;
using ContinuousDL.CrashTest;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Checkpoints;

/// <summary>A trainer that is killed again and again loses no sample that it said it has kept, and no checkpoint that it said it has saved.</summary>
public class CrashTests
{
    private const int Trainers = 2;
    private const int KillsOfEach = 10;

    [Test]
    public void Trainer_killed_at_random_moments_keeps_every_sample_and_goes_on_from_its_last_checkpoint()
    {
        // Two at a time, since most of the time goes into starting them.
        Task.WaitAll([.. Enumerable.Range(0, Trainers).Select(seed => Task.Run(() => KillAgainAndAgain(seed)))]);
    }

    private static void KillAgainAndAgain(int seed)
    {
        var folder = Directory.CreateTempSubdirectory("crash-").FullName;
        try
        {
            var random = new Random(seed);
            var (kept, saved) = (0L, 0L);
            for (var kill = 0; kill < KillsOfEach; kill++) RunUntilKilled(folder, kill, random, ref kept, ref saved);
            kept.Should().BeGreaterThan(KillsOfEach);
            saved.Should().BePositive();
            ShouldBeWhole(folder, kept, saved);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void RunUntilKilled(string folder, int seed, Random random, ref long kept, ref long saved)
    {
        using var process = Start(folder, seed);
        try
        {
            var ready = process.StandardOutput.ReadLine()?.Split(' ');
            ready.Should().HaveCount(4, "the trainer starts after kill {0}: {1}", seed, ready is null ? process.StandardError.ReadToEnd() : "");
            ready![0].Should().Be("ready");
            long.Parse(ready[1]).Should().BeGreaterThanOrEqualTo(kept, "what was kept is there");
            long.Parse(ready[2]).Should().BeGreaterThanOrEqualTo(saved, "what was saved is there");

            for (var lines = random.Next(1, 120); lines > 0; lines--) Note(process.StandardOutput.ReadLine(), ref kept, ref saved);
            var moment = Stopwatch.StartNew();
            var delay = random.NextDouble() * 3;
            while (moment.Elapsed.TotalMilliseconds < delay) Thread.SpinWait(20);
        }
        finally
        {
            // On Unix SIGKILL: nothing in the process gets to know of it.
            process.Kill();
        }

        // What it had said before it was killed counts, too.
        while (process.StandardOutput.ReadLine() is { } line) Note(line, ref kept, ref saved);
        process.WaitForExit();
    }

    private static void Note(string? line, ref long kept, ref long saved)
    {
        var words = line?.Split(' ') ?? throw new InvalidOperationException("The trainer ended by itself.");
        if (words is ["kept", var end] && long.TryParse(end, out var index)) kept = Math.Max(kept, index);
        else if (words is ["saved", var number] && long.TryParse(number, out var sequence)) saved = Math.Max(saved, sequence);
    }

    private static Process Start(string folder, int seed)
    {
        var program = Path.ChangeExtension(typeof(CrashSamples).Assembly.Location, ".dll");
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet")
        {
            ArgumentList = { program, folder, $"{seed}" },
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["OMP_NUM_THREADS"] = "1";
        return Process.Start(start)!;
    }

    private static void ShouldBeWhole(string folder, long kept, long saved)
    {
        using var scope = NewDisposeScope();
        using var model = nn.Sequential(("hidden", nn.Linear(CrashSamples.Features, 16)), ("relu", nn.ReLU()), ("output", nn.Linear(16, CrashSamples.Classes)));
        using var optimizer = new FusedAdam(model.parameters());
        using var history = new MappedSampleHistory(Path.Combine(folder, "samples"));
        history.EndIndex.Should().BeGreaterThanOrEqualTo(kept);
        (history.CutSamples, history.Verify()).Should().Be((0, null));
        using var batch = history.Gather([.. Enumerable.Range(0, (int)history.EndIndex).Select(i => (long)i)]);
        var (inputs, targets) = CrashSamples.Make(0, (int)history.EndIndex);
        batch.Inputs.data<float>().ToArray().Should().Equal(inputs.data<float>().ToArray());
        batch.Targets.data<long>().ToArray().Should().Equal(targets.data<long>().ToArray());

        using var trainer = ProactiveTrainer.Restore(
            Path.Combine(folder, "trainer.checkpoint"), model, nn.CrossEntropyLoss(), optimizer, new() { BatchSize = 16, Density = 0.05 }, new() { History = history });
        trainer.Deployed.Sequence.Should().BeGreaterThanOrEqualTo(saved);
        trainer.Step().Dispose();
    }
}
