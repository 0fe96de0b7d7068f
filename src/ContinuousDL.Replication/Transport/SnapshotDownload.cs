using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>
/// A snapshot that comes over HTTP, in as many answers as it takes: one that is cut off is gone on with by the next.
/// </summary>
/// <remarks>The first answer says which snapshot it is by a strong entity tag; without one there is nothing to go on with.</remarks>
internal sealed class SnapshotDownload
{
    private readonly SnapshotReader reader;
    private readonly EntityTagHeaderValue? tag;
    private readonly long? length;

    /// <summary>Begins with the first answer.</summary>
    /// <param name="response">The answer, of which the body was not read yet.</param>
    /// <param name="maximumBytes">The most bytes that the snapshot may take.</param>
    /// <exception cref="SnapshotFormatException">It takes more.</exception>
    public SnapshotDownload(HttpResponseMessage response, long maximumBytes)
    {
        length = response.Content.Headers.ContentLength;
        if (length > maximumBytes) throw new SnapshotFormatException($"The snapshot takes {length:N0} bytes; {maximumBytes:N0} are allowed.");
        tag = response.Headers.ETag is { IsWeak: false } strong ? strong : null;
        reader = new SnapshotReader(length: length, maximum: maximumBytes);
        if (response.Headers.TryGetValues(HttpUpdateHeaders.NewestSequence, out var values) && long.TryParse(values.First(), NumberStyles.None, CultureInfo.InvariantCulture, out var newest))
        {
            NewestSequence = newest;
        }
    }

    /// <summary>The newest sequence that the source had when the snapshot began to come; 0 where the server does not say.</summary>
    public long NewestSequence { get; }

    /// <summary>How many bytes have arrived.</summary>
    public long Position => reader.Position;

    /// <summary>Whether the next answer can go on with it.</summary>
    public bool CanResume => tag is not null && Position > 0;

    /// <summary>Whether an answer is a snapshot, or part of one.</summary>
    public static bool IsSnapshot(HttpResponseMessage response) => response.Content.Headers.ContentType?.MediaType == SnapshotImage.MediaType;

    /// <summary>Asks for the rest.</summary>
    public void Resume(HttpRequestMessage request)
    {
        request.Headers.Range = new RangeHeaderValue(Position, null);
        request.Headers.IfRange = new RangeConditionHeaderValue(tag!);
    }

    /// <summary>Whether an answer is the rest that was asked for.</summary>
    public bool IsContinuedBy(HttpResponseMessage response) =>
        response.StatusCode == HttpStatusCode.PartialContent && IsSnapshot(response)
        && response.Content.Headers.ContentRange is { Unit: "bytes" } range && range.From == Position && (length is null || range.Length is null || range.Length == length)
        && (response.Headers.ETag is null || response.Headers.ETag.Equals(tag));

    /// <summary>Takes what an answer has.</summary>
    /// <param name="body">The body.</param>
    /// <param name="cancellationToken">Stops the download. The bytes that have arrived are not lost.</param>
    /// <returns>The snapshot.</returns>
    /// <exception cref="SnapshotFormatException">It is not valid.</exception>
    /// <exception cref="IOException">The body ends before the snapshot does.</exception>
    public async Task<ModelSnapshot> ReceiveAsync(Stream body, CancellationToken cancellationToken)
    {
        for (var next = reader.Next; next.Length > 0; next = reader.Next)
        {
            var count = await body.ReadAsync(next, cancellationToken).ConfigureAwait(false);
            if (count == 0) throw new EndOfStreamException($"The snapshot was cut off after {Position:N0} bytes.");
            reader.Advance(count);
        }

        return reader.Finish();
    }
}
