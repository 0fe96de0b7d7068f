using System.Diagnostics;
using System.Net.Http.Json;

namespace ContinuousDL.Samples.TrainAndServe;

/// <summary>A process that the main one started, and its HTTP interface.</summary>
internal sealed class ChildProcess : IDisposable
{
    private static readonly TimeSpan LongestStart = TimeSpan.FromSeconds(60);

    private readonly Process process;
    private readonly HttpClient client;

    private ChildProcess(Process process, HttpClient client)
    {
        this.process = process;
        this.client = client;
    }

    /// <summary>Where it listens.</summary>
    public Uri Address => client.BaseAddress!;

    /// <summary>Whether it has ended, which it should not by itself.</summary>
    public bool HasExited => process.HasExited;

    /// <summary>Starts this program again in another role, and waits until it answers.</summary>
    /// <param name="arguments">The role and its options.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <exception cref="InvalidOperationException">It ended before it answered, or did not answer in time.</exception>
    public static async Task<ChildProcess> StartAsync(IEnumerable<string> arguments, CancellationToken cancellation)
    {
        var self = Environment.ProcessPath!;
        var isHost = Path.GetFileNameWithoutExtension(self) == "dotnet";
        var process = Process.Start(new ProcessStartInfo(self, isHost ? [typeof(ChildProcess).Assembly.Location, .. arguments] : arguments)
        {
            RedirectStandardOutput = true,
            UseShellExecute = false,
        })!;
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(LongestStart);
        try
        {
            while (await process.StandardOutput.ReadLineAsync(patience.Token) is { } line)
            {
                if (!line.StartsWith(ChildHost.Listening, StringComparison.Ordinal)) continue;
                return new ChildProcess(process, new HttpClient { BaseAddress = new Uri(line[ChildHost.Listening.Length..]) });
            }

            throw new InvalidOperationException($"The process '{string.Join(' ', arguments)}' ended before it answered.");
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new InvalidOperationException($"The process '{string.Join(' ', arguments)}' did not answer within {LongestStart.TotalSeconds} s.");
        }
        catch
        {
            process.Kill();
            process.Dispose();
            throw;
        }
    }

    /// <summary>Gets what it says at a path.</summary>
    public async Task<T> GetAsync<T>(string path, CancellationToken cancellation) => (await client.GetFromJsonAsync<T>(path, cancellation))!;

    /// <summary>Sends something to a path.</summary>
    public async Task<TAnswer> PostAsync<TRequest, TAnswer>(string path, TRequest request, CancellationToken cancellation)
    {
        using var response = await client.PostAsJsonAsync(path, request, cancellation);
        response.EnsureSuccessStatusCode();
        return (await response.Content.ReadFromJsonAsync<TAnswer>(cancellation))!;
    }

    /// <summary>Kills it, as a crash would.</summary>
    public void Kill()
    {
        process.Kill();
        process.WaitForExit();
    }

    /// <summary>Ends it, if it has not ended, and lets go of it.</summary>
    public void Dispose()
    {
        if (!process.HasExited) Kill();
        process.Dispose();
        client.Dispose();
    }
}
