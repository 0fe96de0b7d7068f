using System.Globalization;
using System.Net;
using ContinuousDL.Snapshots;

namespace ContinuousDL.Transport;

/// <summary>
/// Updates from a server over HTTP (the ContinuousDL.AspNetCore package maps them): each request says which state the replica
/// has, and is answered as soon as there is something newer. Nothing but that state is needed to go on after an interruption.
/// </summary>
/// <remarks>
/// A request is <c>GET {address}?run={run}&amp;sequence={sequence}&amp;wait={seconds}</c>; the answer 200 with a batch in the
/// <see cref="UpdateBatchFormat"/>, or a snapshot on its own, or 204 when there was nothing new. A snapshot that is cut off, by a
/// time limit of something in between or by a connection that fails, is gone on with where it was: at once as long as each answer
/// brings something, otherwise by the next call. Thread-safe.
/// </remarks>
public sealed class HttpUpdateSource : IUpdateSource
{
    private readonly HttpClient client;
    private readonly Uri address;
    private readonly HttpUpdateSourceOptions options;
    private volatile bool failed;
    private SnapshotDownload? unfinished;

    /// <summary>Makes a source.</summary>
    /// <param name="client">Sends the requests; authentication, proxies and the like are its part. It stays the caller's. Its <see cref="HttpClient.Timeout"/> must be longer than the wait, or infinite.</param>
    /// <param name="address">Where the updates are, absolute or relative to the client's base address.</param>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    /// <exception cref="ArgumentException">An option is out of its range, the address has a query, or the client gives up before the wait is over.</exception>
    public HttpUpdateSource(HttpClient client, Uri address, HttpUpdateSourceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(address);
        options = OptionsValidator.Validate(options ?? new(), nameof(options));
        this.options = new HttpUpdateSourceOptions { Wait = options.Wait, Timeout = options.Timeout, MaximumBytes = options.MaximumBytes };
        if (!address.IsAbsoluteUri && client.BaseAddress is null) throw new ArgumentException($"The address '{address}' is relative, and the client has no base address.", nameof(address));
        if (address.OriginalString.Contains('?')) throw new ArgumentException($"The address '{address}' has a query; it is where the updates are, without one.", nameof(address));
        if (client.Timeout != System.Threading.Timeout.InfiniteTimeSpan && client.Timeout <= options.Wait)
        {
            throw new ArgumentException($"The client gives up after {client.Timeout}, the server is asked to wait for {options.Wait}: nothing that comes late would arrive.", nameof(client));
        }

        this.client = client;
        this.address = address;
    }

    /// <inheritdoc />
    /// <exception cref="IOException">The server can't be reached, refuses, answers with something else than a batch, or not in time.</exception>
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        // After a failure the first answer comes at once, so that the replica knows that the server is there again.
        var wait = failed ? TimeSpan.Zero : options.Wait;
        var request = new Uri(
            string.Create(CultureInfo.InvariantCulture, $"{address.OriginalString}?run={runId:D}&sequence={sequence}&wait={wait.TotalSeconds:0.###}"),
            UriKind.RelativeOrAbsolute);
        failed = true;
        var batch = await ReceiveAsync(request, cancellationToken).ConfigureAwait(false);
        failed = false;
        return batch;
    }

    /// <summary>Asks, and asks for the rest of a snapshot as long as each answer brings something.</summary>
    private async Task<UpdateBatch> ReceiveAsync(Uri request, CancellationToken cancellationToken)
    {
        // Taken by one call at a time; others that come meanwhile begin anew.
        var download = Interlocked.Exchange(ref unfinished, null);
        while (true)
        {
            var position = download?.Position ?? 0;
            try
            {
                return await RequestAsync(request, download, started => download = started, cancellationToken).ConfigureAwait(false);
            }
            catch (IOException) when (download is { CanResume: true } && download.Position > position)
            {
            }
            catch (Exception e) when (download is { CanResume: true } && e is IOException or OperationCanceledException)
            {
                unfinished = download;
                throw;
            }
        }
    }

    /// <summary>Asks once.</summary>
    /// <param name="request">What for.</param>
    /// <param name="download">The snapshot to go on with, if there is one.</param>
    /// <param name="begin">Is told of the snapshot that the answer begins, and of null where what there was is of no use any more.</param>
    /// <param name="cancellationToken">Stops.</param>
    private async Task<UpdateBatch> RequestAsync(Uri request, SnapshotDownload? download, Action<SnapshotDownload?> begin, CancellationToken cancellationToken)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(options.Wait + options.Timeout);
        try
        {
            using var message = new HttpRequestMessage(HttpMethod.Get, request) { Version = client.DefaultRequestVersion, VersionPolicy = client.DefaultVersionPolicy };
            message.Headers.Accept.ParseAdd(UpdateBatchFormat.MediaType);
            message.Headers.Accept.ParseAdd(SnapshotImage.MediaType);
            download?.Resume(message);
            using var response = await client.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, patience.Token).ConfigureAwait(false);
            if (response.StatusCode == HttpStatusCode.NoContent) return UpdateBatch.Empty;
            var isRest = download?.IsContinuedBy(response) == true;
            if (isRest || (response.StatusCode == HttpStatusCode.OK && SnapshotDownload.IsSnapshot(response)))
            {
                if (!isRest) begin(download = new SnapshotDownload(response, options.MaximumBytes));
                using var rest = await response.Content.ReadAsStreamAsync(patience.Token).ConfigureAwait(false);
                using var arriving = new PatientStream(rest, patience, options.Timeout);
                var snapshot = await download!.ReceiveAsync(arriving, patience.Token).ConfigureAwait(false);
                return new UpdateBatch { Snapshot = snapshot, NewestSequence = Math.Max(snapshot.Sequence, download.NewestSequence) };
            }

            if (response.StatusCode is HttpStatusCode.PartialContent or HttpStatusCode.RequestedRangeNotSatisfiable) begin(null);
            if (response.StatusCode != HttpStatusCode.OK) throw new IOException($"{address} answered {(int)response.StatusCode} {response.ReasonPhrase}.");
            if (response.Content.Headers.ContentType?.MediaType is var type && type != UpdateBatchFormat.MediaType)
            {
                throw new IOException($"{address} answered with '{type}'; a batch of updates is '{UpdateBatchFormat.MediaType}'.");
            }

            using var body = await response.Content.ReadAsStreamAsync(patience.Token).ConfigureAwait(false);
            using var stream = new PatientStream(body, patience, options.Timeout);
            return await UpdateBatchFormat.ReadAsync(stream, options.MaximumBytes, patience.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new IOException($"{address} did not answer in time.", e);
        }
        catch (HttpRequestException e)
        {
            throw new IOException($"{address} can't be reached: {e.Message}", e);
        }
        catch (SnapshotFormatException e)
        {
            begin(null);
            throw new IOException($"{address} answered with no valid snapshot: {e.Message}", e);
        }
        catch (InvalidDataException e)
        {
            throw new IOException($"{address} answered with no valid batch: {e.Message}", e);
        }
    }

    /// <summary>Reads a stream, and grants the same time again whenever something has come.</summary>
    private sealed class PatientStream(Stream inner, CancellationTokenSource patience, TimeSpan timeout) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            patience.CancelAfter(timeout);
            return await inner.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
        }

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

        public override void Flush() => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
