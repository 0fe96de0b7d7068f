using System.Globalization;
using ContinuousDL.Replication;
using ContinuousDL.Replication.Transport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace ContinuousDL.AspNetCore;

/// <summary>Maps the endpoint that replicas get their updates from.</summary>
public static partial class UpdateEndpoints
{
    /// <summary>
    /// Maps <c>GET {pattern}?run={run}&amp;sequence={sequence}&amp;wait={seconds}&amp;request={name}</c>: what brings a replica of that
    /// run from that sequence forward, in the <see cref="UpdateBatchFormat"/>; 204 when there is nothing new within the wait; 400 when
    /// the query makes no sense; 503 when the source can't be read. Without <c>run</c> the answer begins with a snapshot. A request
    /// that accepts <c>application/vnd.continuousdl.snapshot</c> gets it on its own, with an entity tag, and can get the rest of it
    /// by <c>Range</c> and <c>If-Range</c> where it was cut off. Replicas that start at about the same time share one.
    /// </summary>
    /// <remarks>
    /// No answer may be kept by a cache (<c>Cache-Control: no-store</c>), and each repeats the request's name, see
    /// <see cref="HttpUpdateHeaders"/>. A request that is aborted throws an <see cref="OperationCanceledException"/>, as is usual, so that
    /// the middleware which has aborted it, such as <c>UseRequestTimeouts</c>, answers.
    /// </remarks>
    /// <param name="endpoints">Where to map it.</param>
    /// <param name="pattern">The route, such as <c>/model/updates</c>.</param>
    /// <param name="source">The updates: usually the log that the trainer appends to. It stays the caller's.</param>
    /// <param name="options">The options, read once: later changes have no effect. Default: as the options say.</param>
    /// <returns>For conventions: whoever may see the model's weights may call it, so consider <c>RequireAuthorization()</c>.</returns>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public static IEndpointConventionBuilder MapModelUpdates(
        this IEndpointRouteBuilder endpoints, string pattern, IUpdateSource source, UpdateEndpointOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(pattern);
        ArgumentNullException.ThrowIfNull(source);
        options = OptionsValidator.Validate(options ?? new(), nameof(options));
        var services = endpoints.ServiceProvider;
        var endpoint = new Endpoint(
            new SharedSnapshots(source, options.SnapshotLifetime, services.GetService<TimeProvider>() ?? TimeProvider.System),
            options.LongestWait,
            options.Heartbeat,
            services.GetService<ILoggerFactory>()?.CreateLogger(typeof(UpdateEndpoints).FullName!),
            services.GetService<IHostApplicationLifetime>()?.ApplicationStopping ?? CancellationToken.None);
        return endpoints.MapGet(pattern, endpoint.AnswerAsync);
    }

    /// <summary>State that all requests to one endpoint share.</summary>
    private sealed class Endpoint(SharedSnapshots source, TimeSpan longest, Func<byte[]?>? heartbeat, ILogger? logger, CancellationToken stopping)
    {
        public async Task AnswerAsync(HttpContext context)
        {
            // Just before anything is sent, so that no middleware on the way back takes it away.
            context.Response.OnStarting(ForbidStoring, context.Response);
            if (!TryParse(context.Request.Query, longest, out var query, out var problem))
            {
                context.Response.StatusCode = StatusCodes.Status400BadRequest;
                await context.Response.WriteAsync(problem, context.RequestAborted);
                return;
            }

            if (query.Name.Length > 0) context.Response.Headers[HttpUpdateHeaders.Request] = query.Name;
            if (SnapshotAnswer.TryResume(context.Request, source) is { } rest)
            {
                await SnapshotAnswer.WriteAsync(context, rest);
                return;
            }

            UpdateBatch batch;
            try
            {
                batch = await ReceiveAsync(query, context.RequestAborted);
                if ((heartbeat?.Invoke() ?? batch.Heartbeat) is { IsEmpty: false } message) context.Response.Headers[HttpUpdateHeaders.Heartbeat] = Convert.ToBase64String(message.Span);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
            {
                if (logger is not null) SourceFailed(logger, e);
                context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
                return;
            }

            if (batch.IsEmpty)
            {
                context.Response.StatusCode = StatusCodes.Status204NoContent;
                return;
            }

            using var snapshot = batch.Snapshot is null ? null : source.Acquire(batch.Snapshot);
            if (snapshot is not null && SnapshotAnswer.IsAccepted(context.Request))
            {
                await SnapshotAnswer.WriteAsync(context, snapshot, batch.NewestSequence);
                return;
            }

            context.Response.ContentType = UpdateBatchFormat.MediaType;
            await UpdateBatchFormat.WriteAsync(context.Response.Body, batch, context.RequestAborted);
        }

        /// <summary>Waits for something new.</summary>
        /// <returns>The updates that are new; an empty batch when the wait is over, or the server is stopping, which answers at once instead of keeping everybody waiting.</returns>
        /// <exception cref="OperationCanceledException">The request was aborted.</exception>
        private async Task<UpdateBatch> ReceiveAsync(Query query, CancellationToken aborted)
        {
            var batch = UpdateBatch.Empty;
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(aborted, stopping);
            try
            {
                // The wait begins when the source has looked once: without any, the answer is still what there is.
                var receiving = source.ReceiveAsync(query.RunId, query.Sequence, patience.Token);
                patience.CancelAfter(query.Wait);
                while ((batch = await receiving).IsEmpty) receiving = source.ReceiveAsync(query.RunId, query.Sequence, patience.Token);
            }
            catch (OperationCanceledException) when (patience.IsCancellationRequested)
            {
                aborted.ThrowIfCancellationRequested();
            }

            return batch;
        }

        private static Task ForbidStoring(object response)
        {
            ((HttpResponse)response).Headers.CacheControl = "no-store";
            return Task.CompletedTask;
        }
    }

    /// <summary>The content of a request.</summary>
    private readonly record struct Query(Guid RunId, long Sequence, TimeSpan Wait, string Name);

    private static bool TryParse(IQueryCollection values, TimeSpan longest, out Query query, out string problem)
    {
        var (runId, sequence, wait, name) = (Guid.Empty, 0L, longest, "");
        problem = "";
        if (values.TryGetValue("run", out var run) && !Guid.TryParseExact(run, "D", out runId)) problem = "run must be a GUID.";
        if (values.TryGetValue("sequence", out var at) && !long.TryParse(at, NumberStyles.None, CultureInfo.InvariantCulture, out sequence)) problem = "sequence must be a whole number, 0 or more.";
        if (values.TryGetValue("wait", out var seconds))
        {
            if (!double.TryParse(seconds, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) || !double.IsFinite(value)) problem = "wait must be a number of seconds, 0 or more.";
            else wait = TimeSpan.FromSeconds(Math.Min(value, longest.TotalSeconds));
        }

        if (values.TryGetValue("request", out var request))
        {
            name = request.ToString();
            if (name.Length > HttpUpdateHeaders.LongestRequest || !name.All(c => char.IsAsciiLetterOrDigit(c) || c == '-')) problem = $"request must be at most {HttpUpdateHeaders.LongestRequest} letters, digits and hyphens.";
        }

        query = new Query(runId, sequence, wait, name);
        return problem.Length == 0;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The source of the model's updates can't be read.")]
    private static partial void SourceFailed(ILogger logger, Exception exception);
}
