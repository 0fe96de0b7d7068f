using System.Globalization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.TrainAndServe;

/// <summary>Answers predictions over HTTP with a replica that follows the trainer.</summary>
internal static class ServerProcess
{
    private const int Side = 28;

    /// <summary>Runs until it is told to stop.</summary>
    /// <param name="updates">Where the trainer's updates are.</param>
    /// <param name="cancellation">Ends it.</param>
    public static async Task<int> RunAsync(Uri updates, CancellationToken cancellation)
    {
        static LeNet5 MakeModel() => new(channels: 1, Side, Side);

        // It knows nothing but the architecture: the state comes from the trainer, whenever it starts, and until then there are no answers.
        using var replica = new ModelReplica<LeNet5>(MakeModel);
        using var client = new HttpClient { Timeout = Timeout.InfiniteTimeSpan };
        var source = new CountingSource(new HttpUpdateSource(client, updates));
        using var follower = new ReplicaFollower(replica, source, new ReplicaFollowerOptions { MaxRetryDelay = TimeSpan.FromSeconds(1) });
        var following = follower.RunAsync(cancellation);

        var answers = 0L;
        var app = ChildHost.Build();
        app.Use(async (context, next) =>
        {
            try
            {
                await next(context);
            }
            catch (ReplicaNotReadyException e)
            {
                context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
                context.Response.Headers.RetryAfter = "1";
                await context.Response.WriteAsync(e.Message, context.RequestAborted);
            }
        });
        app.MapPost("/predict", (PredictRequest request) =>
        {
            if (request.Images is not { Length: > 0 } images || images.Any(i => i?.Length != Side * Side)) return Results.BadRequest($"images must be arrays of {Side * Side} numbers.");
            using var scope = NewDisposeScope();
            using var guard = no_grad();
            var input = tensor(images.SelectMany(i => i).ToArray(), [images.Length, 1, Side, Side]);
            using var lease = replica.Acquire();
            var labels = lease.Model.call(input).argmax(1).data<long>().Select(l => (int)l).ToArray();
            Interlocked.Add(ref answers, labels.Length);
            return Results.Ok(new PredictResponse(labels, lease.Sequence));
        });
        app.MapGet("/status", (bool? verify) =>
        {
            var status = follower.Status;
            using var lease = replica.IsReady ? replica.Acquire() : null;
            return new ServerStatus(
                status.State.ToString(),
                status.Reason,
                lease is not null,
                lease?.Sequence ?? 0,
                status.Lag,
                lease?.Digest.ToString("x16", CultureInfo.InvariantCulture),
                lease is not null && verify == true ? replica.Verify() : null,
                source.UpdateBytes,
                source.SnapshotBytes,
                Interlocked.Read(ref answers));
        });
        await using (app)
        {
            await ChildHost.StartAsync(app, cancellation);
            try
            {
                await following;
            }
            catch (OperationCanceledException)
            {
                // It was told to stop.
            }
        }

        return 0;
    }

    /// <summary>Counts what comes from another source.</summary>
    private sealed class CountingSource(IUpdateSource inner) : IUpdateSource
    {
        private long updateBytes;
        private long snapshotBytes;

        public long UpdateBytes => Interlocked.Read(ref updateBytes);

        public long SnapshotBytes => Interlocked.Read(ref snapshotBytes);

        public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
        {
            var batch = await inner.ReceiveAsync(runId, sequence, cancellationToken);
            Interlocked.Add(ref updateBytes, batch.Messages.Sum(m => (long)m.Bytes.Length));
            Interlocked.Add(ref snapshotBytes, batch.Snapshot?.Layout.SizeInBytes ?? 0);
            return batch;
        }
    }
}
