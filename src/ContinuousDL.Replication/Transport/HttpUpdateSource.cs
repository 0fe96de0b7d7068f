using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>
/// Updates from a server over HTTP (the ContinuousDL.AspNetCore package maps them): each request says which state the replica
/// has, and is answered as soon as there is something newer. Nothing but that state is needed to go on after an interruption.
/// </summary>
/// <remarks>
/// <para>
/// A request is <c>GET {address}?run={run}&amp;sequence={sequence}&amp;wait={seconds}&amp;request={name}</c>; the answer 200 with a
/// batch in the <see cref="UpdateBatchFormat"/>, or a snapshot on its own, or 204 when there was nothing new. All repeat the
/// request's name in the header <see cref="HttpUpdateHeaders.Request"/>: an answer that doesn't was made for another request and
/// kept by a cache, and is not believed.
/// </para>
/// <para>
/// A request that is cut off while the server waits, by a proxy, a resilience handler or the server's own timeout, is no failure:
/// it is sent again at once without a wait, and the next waits are shorter. A snapshot that is cut off is gone on with where it
/// was: at once as long as each answer brings something, otherwise by the next call. Thread-safe.
/// </para>
/// </remarks>
public sealed class HttpUpdateSource : IUpdateSource
{
    private readonly HttpClient client;
    private readonly Uri address;
    private readonly HttpUpdateSourceOptions options;
    private readonly TimeProvider timeProvider;
    private readonly LongPollWait waits;
    private volatile bool failed;
    private SnapshotDownload? unfinished;

    /// <summary>Makes a source.</summary>
    /// <param name="client">Sends the requests; authentication, proxies and the like are its part. It stays the caller's. Its <see cref="HttpClient.Timeout"/> must be longer than the wait, or infinite.</param>
    /// <param name="address">Where the updates are, absolute or relative to the client's base address.</param>
    /// <param name="options">The options, read once: later changes have no effect. Default: as the options say.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentException">An option is out of its range, the address has a query, or the client gives up before the wait is over.</exception>
    public HttpUpdateSource(HttpClient client, Uri address, HttpUpdateSourceOptions? options = null, TimeProvider? timeProvider = null)
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
        this.timeProvider = timeProvider ?? TimeProvider.System;
        waits = new LongPollWait(options.Wait);
    }

    /// <inheritdoc />
    /// <exception cref="UpdateSourceUnavailableException">The server can't be reached, refuses, answers with something else than a batch, or not in time; or a cache answers for it.</exception>
    /// <exception cref="ObjectDisposedException">The client is disposed.</exception>
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();

        // After a failure the first answer comes at once, so that the replica knows that the server is there again.
        var wait = failed ? TimeSpan.Zero : waits.Current;
        failed = true;
        var start = timeProvider.GetTimestamp();
        UpdateBatch batch;
        try
        {
            batch = await ReceiveAsync(runId, sequence, wait, cancellationToken).ConfigureAwait(false);

            // How long a snapshot takes says nothing of how long a request may wait.
            if (batch.Snapshot is null) waits.Answered(wait, timeProvider.GetElapsedTime(start));
        }
        catch (UpdateSourceUnavailableException e) when (e.IsUnanswered && waits.IsCut(wait, timeProvider.GetElapsedTime(start)))
        {
            batch = await ReceiveAsync(runId, sequence, TimeSpan.Zero, cancellationToken).ConfigureAwait(false);
        }

        failed = false;
        return batch;
    }

    /// <summary>Asks, and asks for the rest of a snapshot as long as each answer brings something.</summary>
    private async Task<UpdateBatch> ReceiveAsync(Guid runId, long sequence, TimeSpan wait, CancellationToken cancellationToken)
    {
        // Taken by one call at a time; others that come meanwhile begin anew.
        var download = Interlocked.Exchange(ref unfinished, null);
        while (true)
        {
            var position = download?.Position ?? 0;
            try
            {
                return await RequestAsync(runId, sequence, wait, download, started => download = started, cancellationToken).ConfigureAwait(false);
            }
            catch (UpdateSourceUnavailableException) when (download is { CanResume: true } && download.Position > position)
            {
            }
            catch (Exception e) when (download is { CanResume: true } && e is UpdateSourceUnavailableException or OperationCanceledException)
            {
                unfinished = download;
                throw;
            }
        }
    }

    /// <summary>Asks once, and turns whatever the client and its handlers throw into what <see cref="ReceiveAsync(Guid, long, CancellationToken)"/> may throw.</summary>
    /// <param name="runId">The run that the replica follows.</param>
    /// <param name="sequence">The sequence of its state.</param>
    /// <param name="wait">How long the server is asked to wait.</param>
    /// <param name="download">The snapshot to go on with, if there is one.</param>
    /// <param name="begin">Is told of the snapshot that the answer begins, and of null where what there was is of no use any more.</param>
    /// <param name="cancellationToken">Stops.</param>
    private async Task<UpdateBatch> RequestAsync(
        Guid runId, long sequence, TimeSpan wait, SnapshotDownload? download, Action<SnapshotDownload?> begin, CancellationToken cancellationToken)
    {
        using var patience = new CancellationTokenSource(wait + options.Timeout, timeProvider);
        using var cancelling = cancellationToken.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), patience);
        var hasHeaders = false;
        try
        {
            var name = Guid.NewGuid().ToString("N");
            using var request = MakeRequest(runId, sequence, wait, name);
            download?.Resume(request);
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token).ConfigureAwait(false);
            var isRest = download?.IsContinuedBy(response) == true;
            if (!isRest && response.StatusCode is HttpStatusCode.PartialContent or HttpStatusCode.RequestedRangeNotSatisfiable) begin(null);
            ThrowIfNoAnswer(response, name, isRest);
            hasHeaders = true;
            var heartbeat = HeartbeatOf(response);
            if (response.StatusCode == HttpStatusCode.NoContent) return WithHeartbeat(UpdateBatch.Empty, heartbeat);
            if (!isRest && SnapshotDownload.IsSnapshot(response)) begin(download = new SnapshotDownload(response, options.MaximumBytes));
            using var body = await response.Content.ReadAsStreamAsync(patience.Token).ConfigureAwait(false);
            using var stream = new PatientStream(body, patience, options.Timeout);
            if (!SnapshotDownload.IsSnapshot(response))
            {
                return WithHeartbeat(await UpdateBatchFormat.ReadAsync(stream, options.MaximumBytes, patience.Token).ConfigureAwait(false), heartbeat);
            }

            var snapshot = await download!.ReceiveAsync(stream, patience.Token).ConfigureAwait(false);
            return WithHeartbeat(new UpdateBatch { Snapshot = snapshot, NewestSequence = Math.Max(snapshot.Sequence, download.NewestSequence) }, heartbeat);
        }
        catch (Exception) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
        catch (OperationCanceledException e)
        {
            throw new UpdateSourceUnavailableException($"{address} did not answer in time.", e) { IsUnanswered = !hasHeaders };
        }
        catch (SnapshotFormatException e)
        {
            begin(null);
            throw new UpdateSourceUnavailableException($"{address} answered with no valid snapshot: {e.Message}", e);
        }
        catch (InvalidDataException e)
        {
            throw new UpdateSourceUnavailableException($"{address} answered with no valid batch: {e.Message}", e);
        }
        catch (Exception e) when (e is not (UpdateSourceUnavailableException or OutOfMemoryException) && !IsOfDisposedClient(e))
        {
            // A handler of the application's may throw anything: that it gives up, or that it doesn't even try.
            throw new UpdateSourceUnavailableException($"{address} can't be reached: {e.Message}", e) { IsUnanswered = !hasHeaders };
        }
    }

    /// <summary>Whether the client is disposed, and not only a connection of it.</summary>
    private bool IsOfDisposedClient(Exception exception) => exception is ObjectDisposedException disposed && disposed.ObjectName == client.GetType().FullName;

    private HttpRequestMessage MakeRequest(Guid runId, long sequence, TimeSpan wait, string name)
    {
        var target = string.Create(
            CultureInfo.InvariantCulture, $"{address.OriginalString}?run={runId:D}&sequence={sequence}&wait={wait.TotalSeconds:0.###}&request={name}");
        return new HttpRequestMessage(HttpMethod.Get, new Uri(target, UriKind.RelativeOrAbsolute))
        {
            Version = client.DefaultRequestVersion,
            VersionPolicy = client.DefaultVersionPolicy,
            Headers =
            {
                CacheControl = new CacheControlHeaderValue { NoCache = true, NoStore = true },
                Accept = { new MediaTypeWithQualityHeaderValue(UpdateBatchFormat.MediaType), new MediaTypeWithQualityHeaderValue(SnapshotImage.MediaType) },
            },
        };
    }

    /// <summary>Lets nothing through but answers to the request with that name: a batch, a snapshot or the rest of one, or that there is nothing.</summary>
    private void ThrowIfNoAnswer(HttpResponseMessage response, string name, bool isRest)
    {
        var status = (int)response.StatusCode;
        if (!isRest && response.StatusCode is not (HttpStatusCode.OK or HttpStatusCode.NoContent))
        {
            var retryAfter = RetryAfter(response);
            throw new UpdateSourceUnavailableException($"{address} answered {status} {response.ReasonPhrase}.")
            {
                RetryAfter = retryAfter,
                IsUnanswered = retryAfter is null && response.StatusCode is >= HttpStatusCode.InternalServerError or HttpStatusCode.RequestTimeout,
            };
        }

        if (response.StatusCode == HttpStatusCode.OK && response.Content.Headers.ContentType?.MediaType is var type && type is not (UpdateBatchFormat.MediaType or SnapshotImage.MediaType))
        {
            // A server whose request was aborted on its side may answer with nothing at all.
            throw new UpdateSourceUnavailableException($"{address} answered with '{type}'; a batch of updates is '{UpdateBatchFormat.MediaType}'.")
            {
                IsUnanswered = type is null && response.Content.Headers.ContentLength is null or 0,
            };
        }

        if (!response.Headers.TryGetValues(HttpUpdateHeaders.Request, out var names) || names.FirstOrDefault() != name)
        {
            throw new UpdateSourceUnavailableException(
                $"{address} gave an answer that was not made for this request: its header {HttpUpdateHeaders.Request} is missing or another's. A cache lies between, or the server is of an older version.");
        }
    }

    private TimeSpan? RetryAfter(HttpResponseMessage response)
    {
        var header = response.Headers.RetryAfter;
        var wait = header?.Delta ?? (header?.Date is { } date ? date - timeProvider.GetUtcNow() : null);
        return wait < TimeSpan.Zero ? TimeSpan.Zero : wait;
    }

    private static UpdateBatch WithHeartbeat(UpdateBatch batch, ReadOnlyMemory<byte> heartbeat) => heartbeat.IsEmpty ? batch : batch.WithHeartbeat(heartbeat);

    private static ReadOnlyMemory<byte> HeartbeatOf(HttpResponseMessage response)
    {
        if (!response.Headers.TryGetValues(HttpUpdateHeaders.Heartbeat, out var values)) return default;
        var text = values.First();
        var bytes = new byte[text.Length];
        return Convert.TryFromBase64String(text, bytes, out var length) ? bytes.AsMemory(0, length) : throw new InvalidDataException("its heartbeat is not in Base64.");
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
