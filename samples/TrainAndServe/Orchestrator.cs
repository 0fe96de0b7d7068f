using System.Diagnostics;
using ContinuousDL.Samples.FashionStream.Data;

namespace ContinuousDL.Samples.TrainAndServe;

/// <summary>Starts the other processes, asks the servers for predictions, kills one, and checks at the end that nothing was lost.</summary>
internal static class Orchestrator
{
    private const int QuickSamples = 2400;
    private const int ImagesPerQuestion = 50;

    /// <summary>Where in the stream the second server is killed, and how long it stays away.</summary>
    private const double KillAt = 0.4;
    private static readonly TimeSpan Away = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestCatchUp = TimeSpan.FromSeconds(20);

    /// <summary>Runs it all.</summary>
    /// <param name="quick">Whether a part of the stream will do.</param>
    /// <param name="output">Where samples, updates and checkpoints are kept; null for a folder that is deleted at the end.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <returns>0 if no sample was lost and all models are identical; 1 otherwise; 130 when it was interrupted.</returns>
    public static async Task<int> RunAsync(bool quick, string? output, CancellationToken cancellation)
    {
        var directory = output ?? Directory.CreateTempSubdirectory("continuousdl-").FullName;
        try
        {
            var data = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist);
            var samples = quick ? Math.Min(QuickSamples, data.StreamCount) : data.StreamCount;
            Directory.CreateDirectory(directory);
            Console.WriteLine($"{samples:N0} samples to train on; kept in {directory}");
            return await RunAsync(data, samples, directory, cancellation);
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("Interrupted.");
            return 130;
        }
        catch (Exception e) when (e is InvalidOperationException or HttpRequestException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine(e.Message);
            return 1;
        }
        finally
        {
            if (output is null) Directory.Delete(directory, recursive: true);
        }
    }

    private static async Task<int> RunAsync(StreamData data, int samples, string directory, CancellationToken cancellation)
    {
        using var trainer = await ChildProcess.StartAsync([Role.Train, "--directory", directory, "--samples", $"{samples}"], cancellation);
        var updates = new Uri(trainer.Address, "/updates");
        using var first = new Server("A", await StartServer(updates, cancellation));
        using var second = new Server("B", await StartServer(updates, cancellation));
        Console.WriteLine($"trainer {trainer.Address} · servers {first.Address} {second.Address}");
        Console.WriteLine("   time   trained   update │ server: update, lag, received, accuracy of the newest answers");

        var clock = Stopwatch.StartNew();
        var questions = new Questions(data);
        TimeSpan? killedAt = null;
        TrainerStatus status;
        do
        {
            await Task.Delay(Tick, cancellation);
            if (trainer.HasExited) throw new InvalidOperationException("The trainer has ended.");
            status = await trainer.GetAsync<TrainerStatus>("/status", cancellation);
            await first.AskAsync(questions, cancellation);
            await second.AskAsync(questions, cancellation);
            Console.WriteLine($"{clock.Elapsed.TotalSeconds,5:0.0} s  {status.Samples,7:N0}  {status.Sequence,7:N0} │ {first}  {second}");

            if (killedAt is null && (status.Samples >= samples * KillAt || status.IsDone))
            {
                killedAt = clock.Elapsed;
                second.Kill();
                Console.WriteLine($"{clock.Elapsed.TotalSeconds,5:0.0} s  server B is killed");
            }
            else if (!second.IsRunning && clock.Elapsed - killedAt > Away)
            {
                second.Restart(await StartServer(updates, cancellation));
                Console.WriteLine($"{clock.Elapsed.TotalSeconds,5:0.0} s  server B is started again, knowing nothing");
            }
        }
        while (!status.IsDone || !second.IsRunning);

        return await CheckAsync(trainer, samples, [first, second], cancellation) ? 0 : 1;
    }

    private static Task<ChildProcess> StartServer(Uri updates, CancellationToken cancellation) =>
        ChildProcess.StartAsync([Role.Serve, "--updates", $"{updates}"], cancellation);

    /// <summary>Waits until the servers have the last update, and compares everything.</summary>
    private static async Task<bool> CheckAsync(ChildProcess trainer, int samples, Server[] servers, CancellationToken cancellation)
    {
        var end = await trainer.GetAsync<TrainerStatus>("/status", cancellation);
        var trained = end.Samples == samples && end.Kept == samples && end.Pending == 0;
        Console.WriteLine($"trainer: {end.Samples:N0} of {samples:N0} samples accepted, {end.Kept:N0} kept, {end.Pending:N0} not trained on: {(trained ? "nothing lost" : "SAMPLES LOST")}");
        var logged = end.LogSequence == end.Sequence && end.LogDigest == end.Digest;
        Console.WriteLine($"log: update {end.LogSequence:N0}, state {end.LogDigest}; trainer: update {end.Sequence:N0}, state {end.Digest}: {(logged ? "identical" : "DIFFERENT")}");
        Console.WriteLine($"the model takes {end.ModelBytes:N0} bytes; sent whole after every step it would have been {end.ModelBytes * end.Sequence:N0}");
        var all = trained && logged;
        foreach (var server in servers)
        {
            var clock = Stopwatch.StartNew();
            ServerStatus status;
            while ((status = await server.GetStatusAsync("/status?verify=true", cancellation)).Sequence != end.Sequence && clock.Elapsed < LongestCatchUp)
            {
                await Task.Delay(100, cancellation);
            }

            var identical = status.Sequence == end.Sequence && status.Digest == end.Digest && status.IsVerified == true;
            Console.WriteLine(
                $"server {server.Name}: update {status.Sequence:N0}, state {status.Digest}, {status.Answers:N0} answers, "
                + $"{status.UpdateBytes:N0} bytes of updates and {status.SnapshotBytes:N0} of snapshots: {(identical ? "identical" : $"DIFFERENT ({status.State}: {status.Reason})")}");
            all &= identical;
        }

        return all;
    }

    /// <summary>Test images, in turn.</summary>
    private sealed class Questions(StreamData data)
    {
        private int next;

        public (PredictRequest Request, byte[] Labels) Next()
        {
            var count = Math.Min(ImagesPerQuestion, data.Test.Count);
            if (next + count > data.Test.Count) next = 0;
            var (images, labels) = data.Test.Batch(next, count);
            using (images)
            using (labels)
            {
                var truth = data.Test.Labels.Slice(next, count).ToArray();
                next += count;
                return (new PredictRequest([.. images.data<float>().ToArray().Chunk(data.Test.Height * data.Test.Width)]), truth);
            }
        }
    }

    /// <summary>A server, as the main process sees it.</summary>
    private sealed class Server(string name, ChildProcess process) : IDisposable
    {
        private const int Remembered = 10;

        private readonly Queue<double> accuracies = new();
        private ChildProcess? current = process;
        private ServerStatus? status;

        public string Name { get; } = name;

        public Uri Address => current!.Address;

        public bool IsRunning => current is not null;

        public Task<ServerStatus> GetStatusAsync(string path, CancellationToken cancellation) => current!.GetAsync<ServerStatus>(path, cancellation);

        /// <summary>Asks it to classify some images, if it runs and has a model.</summary>
        public async Task AskAsync(Questions questions, CancellationToken cancellation)
        {
            status = null;
            if (current is null) return;
            if (current.HasExited) throw new InvalidOperationException($"Server {Name} has ended.");
            status = await GetStatusAsync("/status", cancellation);
            if (!status.IsReady) return;
            var (request, labels) = questions.Next();
            var answer = await current.PostAsync<PredictRequest, PredictResponse>("/predict", request, cancellation);
            accuracies.Enqueue(answer.Labels.Zip(labels).Count(p => p.First == p.Second) / (double)labels.Length);
            if (accuracies.Count > Remembered) accuracies.Dequeue();
        }

        public void Kill()
        {
            current!.Kill();
            current.Dispose();
            current = null;
            accuracies.Clear();
        }

        public void Restart(ChildProcess restarted) => current = restarted;

        public void Dispose() => current?.Dispose();

        public override string ToString() => status is null ? $"{Name}: away"
            : !status.IsReady ? $"{Name}: not ready"
            : $"{Name}: {status.Sequence,5:N0}, {status.Lag,3:N0}, {status.UpdateBytes / 1024.0,6:N1} KiB, {accuracies.Average():P1}";
    }
}
