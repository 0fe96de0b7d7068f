using ContinuousDL.AspNetCore;
using ContinuousDL.Replication.Transport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace ContinuousDL.Tests.Transport;

/// <summary>A server on a free port of this machine.</summary>
internal sealed class HttpServer : IAsyncDisposable
{
    private readonly WebApplication app;

    private HttpServer(WebApplication app, InMemoryUpdateTransport transport)
    {
        this.app = app;
        Transport = transport;
        Client = new HttpClient { BaseAddress = new Uri(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()) };
    }

    public InMemoryUpdateTransport Transport { get; }

    public HttpClient Client { get; }

    public static async Task<HttpServer> Start(UpdateEndpointOptions? options = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var transport = new InMemoryUpdateTransport();
        app.MapModelUpdates("/updates", transport, options);
        app.MapGet("/text", () => "text");
        await app.StartAsync();
        return new HttpServer(app, transport);
    }

    /// <summary>A source that asks the server.</summary>
    /// <param name="handler">What the answers go through.</param>
    /// <param name="options">The source's options.</param>
    public HttpUpdateSource Source(HttpMessageHandler handler, HttpUpdateSourceOptions? options = null) =>
        new(new HttpClient(handler) { BaseAddress = Client.BaseAddress }, new Uri("/updates", UriKind.Relative), options);

    public HttpUpdateSource Source() => new(Client, new Uri("/updates", UriKind.Relative));

    public async ValueTask DisposeAsync()
    {
        await app.StopAsync();
        await app.DisposeAsync();
        Transport.Dispose();
    }
}
