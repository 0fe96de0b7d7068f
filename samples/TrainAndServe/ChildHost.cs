using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace ContinuousDL.Samples.TrainAndServe;

/// <summary>The web server of a child process, and how the main process learns where it listens.</summary>
internal static class ChildHost
{
    /// <summary>What a child writes before its address, once it answers.</summary>
    public const string Listening = "listening on ";

    /// <summary>A server on a free port of this machine, that logs warnings only.</summary>
    public static WebApplication Build()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();

        // What is true now is not to be kept by a cache on the way.
        app.Use((context, next) =>
        {
            context.Response.Headers.CacheControl = "no-store";
            return next(context);
        });
        return app;
    }

    /// <summary>Starts the server, and says where it listens.</summary>
    public static async Task StartAsync(WebApplication app, CancellationToken cancellation)
    {
        await app.StartAsync(cancellation);
        Console.WriteLine(Listening + app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
    }
}
