using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Time.Testing;

namespace ContinuousDL.Tests.Transport;

/// <summary>
/// What lies between a replica and its server, in a time that passes only while the server waits: whoever has a timer sees it
/// pass, and something on the way may cut the request off.
/// </summary>
internal sealed partial class VirtualNetwork(FakeTimeProvider clock) : DelegatingHandler(new SocketsHttpHandler())
{
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(0.25);

    private int requests;
    private int cuts;

    /// <summary>How long something on the way lets a request be idle.</summary>
    public TimeSpan IdleLimit { get; init; } = TimeSpan.MaxValue;

    /// <summary>What it does then: an answer of its own, or an exception.</summary>
    public Func<HttpResponseMessage> Cut { get; init; } = () => throw new HttpRequestException(HttpRequestError.ResponseEnded, "The response ended prematurely.");

    /// <summary>How many requests there were.</summary>
    public int Requests => Volatile.Read(ref requests);

    /// <summary>How many of them were cut off.</summary>
    public int Cuts => Volatile.Read(ref cuts);

    /// <summary>The wait that the newest request asked for.</summary>
    public TimeSpan Wait { get; private set; }

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref requests);
        var target = request.RequestUri!.AbsoluteUri;
        Wait = TimeSpan.FromSeconds(double.Parse(WaitPattern().Match(target).Groups[1].Value, CultureInfo.InvariantCulture));
        using var toServer = new HttpRequestMessage(request.Method, WaitPattern().Replace(target, "wait=0&"));
        var response = await base.SendAsync(toServer, cancellationToken);
        if (response.StatusCode != HttpStatusCode.NoContent) return response;

        // Only where there is nothing new does the server wait.
        for (var passed = TimeSpan.Zero; passed < Wait; passed += Tick)
        {
            if (passed < IdleLimit) clock.Advance(Tick);
            if (passed < IdleLimit && !cancellationToken.IsCancellationRequested) continue;
            Interlocked.Increment(ref cuts);
            cancellationToken.ThrowIfCancellationRequested();
            return Cut();
        }

        return response;
    }

    [GeneratedRegex("wait=([0-9.]+)&")]
    private static partial Regex WaitPattern();
}
