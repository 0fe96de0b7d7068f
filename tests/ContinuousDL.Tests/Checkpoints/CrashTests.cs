using System.Collections.Concurrent;
using System.Diagnostics;
using ContinuousDL.CrashTest;
using ContinuousDL.History;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Wire;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Checkpoints;

/// <summary>
/// A trainer that is killed again and again loses no sample that it said it has kept, publishes no sequence twice and leaves
/// none out, and the replicas in other processes that follow it meanwhile end identical to it.
/// </summary>
/// <remarks>200 kills; the environment variable <c>CONTINUOUSDL_KILLS</c> asks for another number.</remarks>
[Category("Slow")]
public class CrashTests
{
    private const int Worlds = 2;
    private const int FollowersOfEach = 2;

    private static int Kills => int.TryParse(Environment.GetEnvironmentVariable("CONTINUOUSDL_KILLS"), out var kills) ? kills : 200;

    [Test]
    public void Trainer_killed_at_random_moments_loses_nothing_and_its_replicas_end_identical()
    {
        // Two at a time, since most of the time goes into starting them.
        Task.WaitAll([.. Enumerable.Range(0, Worlds).Select(seed => Task.Factory.StartNew(() => new World(seed).Run(Kills / Worlds), TaskCreationOptions.LongRunning))]);
    }

    /// <summary>A trainer that is killed, its folder, and its followers.</summary>
    private sealed class World(int seed)
    {
        private readonly string folder = Directory.CreateTempSubdirectory("crash-").FullName;
        private readonly Random random = new(seed);
        private readonly ConcurrentDictionary<(string Run, long Sequence), string> seen = new();
        private long kept, published, saved;

        public void Run(int kills)
        {
            List<Follower> followers = [];
            try
            {
                for (var f = 0; f < FollowersOfEach; f++) followers.Add(new Follower(Start("follow", folder), seen));
                for (var kill = 0; kill < kills; kill++) RunUntilKilled(kill);
                (kept, published, saved).Should().Match<(long Kept, long Published, long Saved)>(n => n.Kept > kills && n.Published > 0 && n.Saved > 0);

                var (run, sequence, digest) = Finish(kills);
                foreach (var follower in followers) follower.ShouldReach(run, sequence, digest);
                ShouldHaveEverySample();
                ShouldHaveEveryUpdate(run, sequence);
            }
            finally
            {
                foreach (var follower in followers) follower.Dispose();
                Directory.Delete(folder, recursive: true);
            }
        }

        private void RunUntilKilled(int number)
        {
            using var process = Start("train", folder, $"{number}");
            try
            {
                CheckReady(process, number);
                for (var lines = random.Next(1, 120); lines > 0; lines--) Note(process.StandardOutput.ReadLine());
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
            while (process.StandardOutput.ReadLine() is { } line) Note(line);
            process.WaitForExit();
        }

        private (string Run, long Sequence, string Digest) Finish(int number)
        {
            using var process = Start("train", folder, $"{number}", "finish");
            CheckReady(process, number);
            while (process.StandardOutput.ReadLine() is { } line)
            {
                if (line.Split(' ') is not ["done", var run, var sequence, var digest])
                {
                    Note(line);
                    continue;
                }

                process.WaitForExit();
                return (run, long.Parse(sequence), digest);
            }

            throw new InvalidOperationException($"The trainer ended by itself: {process.StandardError.ReadToEnd()}");
        }

        private void CheckReady(Process process, int number)
        {
            var ready = process.StandardOutput.ReadLine()?.Split(' ');
            ready.Should().HaveCount(4, "the trainer starts after kill {0}: {1}", number, ready is null ? process.StandardError.ReadToEnd() : "");
            ready![0].Should().Be("ready");
            long.Parse(ready[1]).Should().BeGreaterThanOrEqualTo(kept, "what was kept is there");
            long.Parse(ready[2]).Should().BeGreaterThanOrEqualTo(Math.Max(saved, published), "what was saved and published is there");
        }

        private void Note(string? line)
        {
            var words = line?.Split(' ') ?? throw new InvalidOperationException("The trainer ended by itself.");
            if (words is not [var what, var text] || !long.TryParse(text, out var number)) return;
            if (what == "kept") kept = Math.Max(kept, number);
            else if (what == "published") published = Math.Max(published, number);
            else if (what == "saved") saved = Math.Max(saved, number);
        }

        private void ShouldHaveEverySample()
        {
            using var scope = NewDisposeScope();
            using var history = new MappedSampleHistory(CrashModel.Samples(folder));
            history.EndIndex.Should().BeGreaterThanOrEqualTo(kept);
            (history.CutSamples, history.Verify()).Should().Be((0, null));
            using var batch = history.Gather([.. Enumerable.Range(0, (int)history.EndIndex).Select(i => (long)i)]);
            var (inputs, targets) = CrashSamples.Make(0, (int)history.EndIndex);
            batch.Inputs.data<float>().ToArray().Should().Equal(inputs.data<float>().ToArray());
            batch.Targets.data<long>().ToArray().Should().Equal(targets.data<long>().ToArray());
        }

        /// <summary>Every sequence once, and the states that followers saw are those of the log.</summary>
        private void ShouldHaveEveryUpdate(string run, long sequence)
        {
            RunHistory.List(CrashModel.Updates(folder)).Should().ContainSingle("the trainer goes on with the same run");
            var log = RunHistory.List(CrashModel.Updates(folder)).Single();
            log.Refresh().Should().BeTrue();
            var messages = new List<UpdateMessage>();
            foreach (var slice in log.Plan(Guid.Parse(run), 0).Since!) slice.ReadInto(messages);
            var headers = messages.ConvertAll(m => UpdateCodec.ReadHeader(m.Bytes.Span));
            headers.Select(h => h.Sequence).Should().Equal(Enumerable.Range(1, (int)sequence).Select(s => (long)s));
            foreach (var header in headers)
            {
                if (seen.TryGetValue((run, header.Sequence), out var digest)) digest.Should().Be($"{header.StateDigest:x16}");
            }

            seen.Keys.Should().OnlyContain(k => k.Run == run).And.HaveCountGreaterThan(1);
        }
    }

    /// <summary>A process with a replica, and what it says of its states.</summary>
    private sealed class Follower : IDisposable
    {
        private readonly Process process;
        private readonly Task reading;
        private volatile string? newest;
        private volatile string? problem;

        public Follower(Process process, ConcurrentDictionary<(string Run, long Sequence), string> seen)
        {
            this.process = process;
            reading = Task.Factory.StartNew(
                () =>
                {
                    while (process.StandardOutput.ReadLine() is { } line)
                    {
                        if (line.Split(' ') is not ["at", var run, var sequence, var digest, var verified]) continue;
                        if (verified != "True") problem ??= $"the replica is not what it should be at {sequence}";
                        if (seen.GetOrAdd((run, long.Parse(sequence)), digest) != digest) problem ??= $"there are two states of sequence {sequence}";
                        newest = $"{run} {sequence} {digest}";
                    }
                },
                TaskCreationOptions.LongRunning);
        }

        public void ShouldReach(string run, long sequence, string digest)
        {
            // Whether it came to that, or the process ended before or took too long, is what is asserted.
            var expected = $"{run} {sequence} {digest}";
            SpinWait.SpinUntil(() => newest == expected || reading.IsCompleted, Patience.Limit);
            newest.Should().Be(expected, process.HasExited ? process.StandardError.ReadToEnd() : "");
            problem.Should().BeNull();
        }

        public void Dispose()
        {
            process.Kill();
            process.WaitForExit();
            reading.Wait();
            process.Dispose();
        }
    }

    private static Process Start(params string[] arguments)
    {
        var program = Path.ChangeExtension(typeof(CrashSamples).Assembly.Location, ".dll");
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", [program, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["OMP_NUM_THREADS"] = "1";
        return Process.Start(start)!;
    }
}
