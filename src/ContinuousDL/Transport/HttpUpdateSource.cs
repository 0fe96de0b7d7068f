using System.Globalization;
using System.Net;

namespace ContinuousDL.Transport;

/// <summary>
/// Updates from a server over HTTP (the ContinuousDL.AspNetCore package maps them): each request says which state the replica
/// has, and is answered as soon as there is something newer. Nothing but that state is needed to go on after an interruption.
/// </summary>
/// <remarks>
/// A request is <c>GET {address}?run={run}&amp;sequence={sequence}&amp;wait={seconds}</c>; the answer 200 with a batch in the
/// <see cref="UpdateBatchFormat"/>, or 204 when there was nothing new. Thread-safe.
/// </remarks>
public sealed class HttpUpdateSource : IUpdateSource
{
    private readonly HttpClient client;
    private readonly Uri address;
    private readonly HttpUpdateSourceOptions options;
    private volatile bool failed;

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
        var batch = await RequestAsync(request, cancellationToken).ConfigureAwait(false);
        failed = false;
        return batch;
    }

    private async Task<UpdateBatch> RequestAsync(Uri request, CancellationToken cancellationToken)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(options.Wait + options.Timeout);
        try
        {
            using var response = await client.GetAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token).ConfigureAwait(false);
            if (response.StatusCode == HttpStatusCode.NoContent) return UpdateBatch.Empty;
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
