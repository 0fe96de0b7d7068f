using System.Globalization;
using ContinuousDL.Transport;
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
    /// Maps <c>GET {pattern}?run={run}&amp;sequence={sequence}&amp;wait={seconds}</c>: what brings a replica of that run from that
    /// sequence forward, in the <see cref="UpdateBatchFormat"/>; 204 when there is nothing new within the wait; 400 when the
    /// query makes no sense; 503 when the source can't be read. Without <c>run</c> the answer begins with a snapshot. A request
    /// that accepts <c>application/vnd.continuousdl.snapshot</c> gets it on its own, with an entity tag, and can get the rest of it
    /// by <c>Range</c> and <c>If-Range</c> where it was cut off. Replicas that start at about the same time share one.
    /// </summary>
    /// <param name="endpoints">Where to map it.</param>
    /// <param name="pattern">The route, such as <c>/model/updates</c>.</param>
    /// <param name="source">The updates: usually the log that the trainer appends to. It stays the caller's.</param>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    /// <returns>For conventions: whoever may see the model's weights may call it, so consider <c>RequireAuthorization()</c>.</returns>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public static IEndpointConventionBuilder MapModelUpdates(
        this IEndpointRouteBuilder endpoints, string pattern, IUpdateSource source, UpdateEndpointOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(pattern);
        ArgumentNullException.ThrowIfNull(source);
        var longest = OptionsValidator.Validate(options ??= new(), nameof(options)).LongestWait;
        var snapshots = new SharedSnapshots(source, options.SnapshotLifetime, endpoints.ServiceProvider.GetService<TimeProvider>() ?? TimeProvider.System);
        var logger = endpoints.ServiceProvider.GetService<ILoggerFactory>()?.CreateLogger(typeof(UpdateEndpoints).FullName!);
        var stopping = endpoints.ServiceProvider.GetService<IHostApplicationLifetime>()?.ApplicationStopping ?? CancellationToken.None;
        return endpoints.MapGet(pattern, context => AnswerAsync(context, snapshots, longest, logger, stopping));
    }

    private static async Task AnswerAsync(HttpContext context, SharedSnapshots source, TimeSpan longest, ILogger? logger, CancellationToken stopping)
    {
        if (!TryParse(context.Request.Query, longest, out var runId, out var sequence, out var wait, out var problem))
        {
            context.Response.StatusCode = StatusCodes.Status400BadRequest;
            await context.Response.WriteAsync(problem, context.RequestAborted);
            return;
        }

        if (SnapshotAnswer.TryResume(context.Request, source) is { } rest)
        {
            await SnapshotAnswer.WriteAsync(context, rest);
            return;
        }

        // A server that is stopping answers at once instead of keeping everybody waiting.
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, stopping);
        UpdateBatch batch;
        try
        {
            // The wait begins when the source has looked once: without any, the answer is still what there is.
            var receiving = source.ReceiveAsync(runId, sequence, patience.Token);
            patience.CancelAfter(wait);
            while ((batch = await receiving).IsEmpty) receiving = source.ReceiveAsync(runId, sequence, patience.Token);
        }
        catch (OperationCanceledException)
        {
            if (!context.RequestAborted.IsCancellationRequested) context.Response.StatusCode = StatusCodes.Status204NoContent;
            return;
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            if (logger is not null) SourceFailed(logger, e);
            context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
            return;
        }

        using var snapshot = batch.Snapshot is null ? null : source.Acquire(batch.Snapshot);
        if (snapshot is not null && SnapshotAnswer.IsAccepted(context.Request))
        {
            await SnapshotAnswer.WriteAsync(context, snapshot, batch.NewestSequence);
            return;
        }

        context.Response.ContentType = UpdateBatchFormat.MediaType;
        context.Response.Headers.CacheControl = "no-store";
        try
        {
            await UpdateBatchFormat.WriteAsync(context.Response.Body, batch, context.RequestAborted);
        }
        catch (OperationCanceledException)
        {
            // The replica has gone; it will ask again from where it is.
        }
    }

    private static bool TryParse(IQueryCollection query, TimeSpan longest, out Guid runId, out long sequence, out TimeSpan wait, out string problem)
    {
        (runId, sequence, wait, problem) = (Guid.Empty, 0, longest, "");
        if (query.TryGetValue("run", out var run) && !Guid.TryParseExact(run, "D", out runId)) problem = "run must be a GUID.";
        if (query.TryGetValue("sequence", out var at) && !long.TryParse(at, NumberStyles.None, CultureInfo.InvariantCulture, out sequence)) problem = "sequence must be a whole number, 0 or more.";
        if (query.TryGetValue("wait", out var seconds))
        {
            if (!double.TryParse(seconds, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) || !double.IsFinite(value)) problem = "wait must be a number of seconds, 0 or more.";
            else wait = TimeSpan.FromSeconds(Math.Min(value, longest.TotalSeconds));
        }

        return problem.Length == 0;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The source of the model's updates can't be read.")]
    private static partial void SourceFailed(ILogger logger, Exception exception);
}
