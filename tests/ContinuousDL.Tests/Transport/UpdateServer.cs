using ContinuousDL.AspNetCore;
using ContinuousDL.Replication.Transport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace ContinuousDL.Tests.Transport;

/// <summary>A server of updates on a free port of this machine.</summary>
internal sealed class UpdateServer : IAsyncDisposable
{
    private readonly WebApplication app;

    private UpdateServer(WebApplication app)
    {
        this.app = app;
        Address = new Uri(new Uri(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()), "/updates");
    }

    /// <summary>Where the updates are.</summary>
    public Uri Address { get; }

    /// <summary>Starts a server.</summary>
    /// <param name="source">What it serves. It stays the caller's.</param>
    /// <param name="options">Of the endpoint.</param>
    /// <param name="services">Adds to what the application has.</param>
    /// <param name="pipeline">Adds what requests go through.</param>
    public static async Task<UpdateServer> StartAsync(
        IUpdateSource source, UpdateEndpointOptions? options = null, Action<IServiceCollection>? services = null, Action<WebApplication>? pipeline = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        services?.Invoke(builder.Services);
        var app = builder.Build();
        pipeline?.Invoke(app);
        app.MapModelUpdates("/updates", source, options);
        await app.StartAsync();
        return new UpdateServer(app);
    }

    public async ValueTask DisposeAsync()
    {
        await app.StopAsync();
        await app.DisposeAsync();
    }
}
