using System.Globalization;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;

namespace ContinuousDL.AspNetCore;

/// <summary>
/// Answers with a snapshot on its own instead of a batch that begins with it, where the request accepts that: with a length, a
/// strong entity tag, and ranges, so that a replica that was cut off goes on where it was.
/// </summary>
internal static class SnapshotAnswer
{
    /// <summary>Whether a request accepts a snapshot on its own. Replicas of earlier versions don't, and get it in a batch.</summary>
    public static bool IsAccepted(HttpRequest request) =>
        request.GetTypedHeaders().Accept.Any(type => type.MediaType.Equals(SnapshotImage.MediaType, StringComparison.OrdinalIgnoreCase));

    /// <summary>The snapshot that a request has got part of, and wants to go on with.</summary>
    /// <returns>Null where it does not, or the snapshot is not kept any more.</returns>
    public static SharedSnapshots.Use? TryResume(HttpRequest request, SharedSnapshots snapshots)
    {
        var headers = request.GetTypedHeaders();
        return headers.Range is not null && headers.IfRange?.EntityTag is { IsWeak: false } tag && IsAccepted(request)
            ? snapshots.TryAcquire(tag.Tag.Subsegment(1, tag.Tag.Length - 2).ToString())
            : null;
    }

    /// <summary>Sends a snapshot, or the part of it that was asked for.</summary>
    /// <param name="context">The request and its answer.</param>
    /// <param name="snapshot">The snapshot. Its use ends with the answer.</param>
    /// <param name="newestSequence">The newest sequence of the source; null where this answer goes on with one that has said it.</param>
    public static async Task WriteAsync(HttpContext context, SharedSnapshots.Use snapshot, long? newestSequence = null)
    {
        using (snapshot)
        {
            if (newestSequence is { } newest) context.Response.Headers[HttpUpdateHeaders.NewestSequence] = newest.ToString(CultureInfo.InvariantCulture);
            context.Response.Headers.Vary = HeaderNames.Accept;
            var tag = new EntityTagHeaderValue($"\"{snapshot.Image.Tag}\"");
            try
            {
                await TypedResults.Stream(snapshot.Image.OpenRead(), SnapshotImage.MediaType, entityTag: tag, enableRangeProcessing: true).ExecuteAsync(context);
            }
            catch (OperationCanceledException)
            {
                // The replica has gone; it will ask for the rest.
            }
        }
    }
}
