using ContinuousDL.AspNetCore;
using ContinuousDL.Replication.Transport;
using Microsoft.AspNetCore.Builder;

namespace ContinuousDL.Tests.Transport;

/// <summary>A server of updates that a test publishes, on a free port of this machine, with a client.</summary>
internal sealed class HttpServer : IAsyncDisposable
{
    private readonly UpdateServer server;

    private HttpServer(UpdateServer server, InMemoryUpdateTransport transport)
    {
        this.server = server;
        Transport = transport;
        Client = new HttpClient { BaseAddress = new Uri(server.Address, "/") };
    }

    public InMemoryUpdateTransport Transport { get; }

    public HttpClient Client { get; }

    public static async Task<HttpServer> Start(UpdateEndpointOptions? options = null)
    {
        var transport = new InMemoryUpdateTransport();
        return new HttpServer(await UpdateServer.StartAsync(transport, options, pipeline: app => app.MapGet("/text", () => "text")), transport);
    }

    /// <summary>A source that asks the server.</summary>
    /// <param name="handler">What the answers go through.</param>
    /// <param name="options">The source's options.</param>
    public HttpUpdateSource Source(HttpMessageHandler handler, HttpUpdateSourceOptions? options = null) =>
        new(new HttpClient(handler) { BaseAddress = Client.BaseAddress }, new Uri("/updates", UriKind.Relative), options);

    public HttpUpdateSource Source() => new(Client, new Uri("/updates", UriKind.Relative));

    public async ValueTask DisposeAsync()
    {
        await server.DisposeAsync();
        Transport.Dispose();
    }
}
