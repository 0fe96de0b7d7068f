using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Headers;
using ContinuousDL.AspNetCore;
using ContinuousDL.Diagnostics;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using Polly.Timeout;

namespace ContinuousDL.Tests.Transport;

/// <summary>A request that waits is cut off by many things on its way: a follower stays current all the same, and says what is wrong where something is.</summary>
public class HttpLongPollTests
{
    private const int Requests = 300;

    [TestCase(5, 30)]
    [TestCase(60, 30)]
    [TestCase(600, 5)]
    public async Task A_follower_behind_a_proxy_that_cuts_idle_requests_off_stays_current(double wait, double limit)
    {
        var clock = new FakeTimeProvider();
        foreach (var cut in new Func<HttpResponseMessage>[] { () => new(HttpStatusCode.GatewayTimeout), () => throw new HttpRequestException(HttpRequestError.ResponseEnded) })
        {
            using var network = new VirtualNetwork(clock) { IdleLimit = TimeSpan.FromSeconds(limit), Cut = cut };
            using var client = new HttpClient(network) { Timeout = Timeout.InfiniteTimeSpan };
            await ShouldStayCurrentAsync(client, network, clock, new() { Wait = TimeSpan.FromSeconds(wait) });
            (network.Cuts > 0).Should().Be(wait > limit);
        }
    }

    [TestCase(null)]
    [TestCase(60)]
    public async Task A_follower_with_the_standard_resilience_handler_stays_current(double? wait)
    {
        var clock = new FakeTimeProvider();
        using var network = new VirtualNetwork(clock);
        var services = new ServiceCollection();
        services.AddSingleton<TimeProvider>(clock);
        services.AddHttpClient("updates", c => c.Timeout = Timeout.InfiniteTimeSpan)
            .ConfigurePrimaryHttpMessageHandler(() => network)
            .AddStandardResilienceHandler(o => o.Retry.DelayGenerator = static _ => new ValueTask<TimeSpan?>(TimeSpan.Zero));
        await using var provider = services.BuildServiceProvider();
        using var client = provider.GetRequiredService<IHttpClientFactory>().CreateClient("updates");
        var options = new HttpUpdateSourceOptions();
        if (wait is { } seconds) options.Wait = TimeSpan.FromSeconds(seconds);
        await ShouldStayCurrentAsync(client, network, clock, options);
        (network.Cuts > 0).Should().Be(wait is not null);
    }

    [Test]
    public void Waits_are_well_below_the_usual_limits_by_default()
    {
        new HttpUpdateSourceOptions().Wait.Should().BeLessThan(TimeSpan.FromSeconds(10));
        new UpdateEndpointOptions().LongestWait.Should().BeLessThan(TimeSpan.FromSeconds(30));
    }

    [Test]
    public async Task A_request_that_the_server_aborts_is_answered_by_what_aborted_it()
    {
        using var trainer = new Publisher();
        await using var server = await UpdateServer.StartAsync(
            trainer.Transport,
            services: s => s.AddRequestTimeouts(o => o.DefaultPolicy = new() { Timeout = TimeSpan.FromMilliseconds(1), TimeoutStatusCode = 504 }),
            pipeline: app =>
            {
                app.UseRouting();
                app.UseRequestTimeouts();
            });
        using var client = new HttpClient();
        using var answer = await client.GetAsync($"{server.Address}?run={trainer.States.RunId}&sequence=0");
        answer.StatusCode.Should().Be(HttpStatusCode.GatewayTimeout);
        answer.Headers.CacheControl!.NoStore.Should().BeTrue();
    }

    [Test]
    public async Task A_request_that_the_replica_gives_up_ends_as_aborted_and_is_no_error_of_the_server()
    {
        using var trainer = new Publisher();
        using var log = new ErrorLog();
        var begun = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Exception? ended = null;
        var server = await UpdateServer.StartAsync(trainer.Transport, services: s => s.AddSingleton<ILoggerProvider>(log), pipeline: app => app.Use(async (_, next) =>
        {
            try
            {
                var running = next();
                begun.SetResult();
                await running;
            }
            catch (Exception e)
            {
                ended = e;
                throw;
            }
        }));
        await using (server)
        {
            using var client = new HttpClient();
            using var stop = new CancellationTokenSource();
            var asking = client.GetAsync($"{server.Address}?run={trainer.States.RunId}&sequence=0", stop.Token);
            await begun.Task.WaitAsync(Patience.Limit);
            await stop.CancelAsync();
            await asking.Invoking(a => a).Should().ThrowAsync<OperationCanceledException>();
            using var timeout = new CancellationTokenSource(Patience.Limit);
            while (Volatile.Read(ref ended) is null) await Task.Delay(1, timeout.Token);
        }

        ended.Should().BeAssignableTo<OperationCanceledException>();
        log.Errors.Should().BeEmpty();
    }

    [Test]
    public async Task An_empty_answer_after_a_wait_is_asked_again_at_once_and_with_a_shorter_wait_later()
    {
        var clock = new FakeTimeProvider();
        var answers = 0;
        var stub = new StubHandler(request =>
        {
            if (answers++ > 0) return StubHandler.Nothing(request);
            clock.Advance(TimeSpan.FromSeconds(4));
            return new HttpResponseMessage(HttpStatusCode.OK) { Content = new ByteArrayContent([]) };
        });
        using var client = new HttpClient(stub);
        var source = new HttpUpdateSource(client, new Uri("http://trainer/updates"), timeProvider: clock);
        for (var i = 0; i < 2; i++) (await source.ReceiveAsync(Guid.NewGuid(), 0)).IsEmpty.Should().BeTrue();
        stub.Queries.Select(q => System.Web.HttpUtility.ParseQueryString(q)["wait"]).Should().Equal("5", "0", "2");
    }

    [Test]
    public async Task Whatever_a_handler_throws_comes_as_the_documented_exception()
    {
        Exception[] thrown =
        [
            new HttpRequestException("No route."), new TaskCanceledException("Too long.", new TimeoutException()), new IOException("Cut."), new InvalidOperationException("Open circuit."),
            new TimeoutRejectedException(), new ObjectDisposedException("SslStream"),
        ];
        foreach (var exception in thrown)
        {
            using var client = new HttpClient(new StubHandler(_ => throw exception));
            var source = new HttpUpdateSource(client, new Uri("http://trainer/updates"));
            (await source.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowExactlyAsync<UpdateSourceUnavailableException>()).WithInnerException<Exception>();
        }

        var disposed = new HttpClient();
        var ended = new HttpUpdateSource(disposed, new Uri("http://trainer/updates"));
        disposed.Dispose();
        await ended.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<ObjectDisposedException>();
    }

    [TestCase(503, true)]
    [TestCase(429, false)]
    public async Task A_follower_waits_as_long_as_the_server_asks_for(int status, bool asDate)
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var clock = new RecordingClock();
        var stub = new StubHandler(request =>
        {
            var answer = new HttpResponseMessage((HttpStatusCode)status);
            answer.Headers.RetryAfter = asDate ? new RetryConditionHeaderValue(clock.GetUtcNow().AddSeconds(77)) : new RetryConditionHeaderValue(TimeSpan.FromSeconds(77));
            return answer;
        });
        using var client = new HttpClient(stub);
        var source = new HttpUpdateSource(client, new Uri("http://trainer/updates"), timeProvider: clock);
        await using var following = new Following(replica, source, clock: clock);
        await clock.UntilWaitedForAsync(TimeSpan.FromSeconds(77));
        following.Status.Should().Match<ReplicaStatus>(s => s.State == ReplicaState.Failed && s.Reason!.Contains($"{status}"));
        stub.Queries.Should().ContainSingle();
        clock.Advance(TimeSpan.FromSeconds(77));
        await clock.UntilWaitedForAsync(TimeSpan.FromSeconds(77), times: 2);
        stub.Queries.Should().HaveCount(2);
    }

    [Test]
    public async Task A_server_can_not_ask_for_an_endless_wait()
    {
        using var replica = Publisher.NewReplica();
        var clock = new RecordingClock();
        var source = new ScriptedSource();
        source.Answer(() => throw new UpdateSourceUnavailableException("Not now.") { RetryAfter = TimeSpan.MaxValue });
        await using var following = new Following(replica, source, clock: clock);
        await clock.UntilWaitedForAsync(new ReplicaFollowerOptions().LongestRetryAfter);
    }

    [Test]
    public async Task An_answer_without_news_makes_the_waits_between_attempts_short_again()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var clock = new RecordingClock();
        var options = new ReplicaFollowerOptions { RetryDelay = TimeSpan.FromSeconds(1), MaxRetryDelay = TimeSpan.FromSeconds(64) };
        var source = new ScriptedSource();
        await using var following = new Following(replica, source, options: options, clock: clock);
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest });
        await following.UntilAsync(trainer);
        for (var round = 1; round <= 2; round++)
        {
            foreach (var seconds in new[] { 1, 2, 4 })
            {
                source.Answer(() => throw new IOException("Cut."));
                await clock.UntilWaitedForAsync(TimeSpan.FromSeconds(seconds), seconds == 1 ? (2 * round) - 1 : round);
                clock.Advance(TimeSpan.FromSeconds(seconds));
            }

            source.Answer(() => UpdateBatch.Empty);
            await clock.UntilWaitedForAsync(TimeSpan.FromSeconds(1), 2 * round);
            following.Status.State.Should().Be(ReplicaState.Current);
            clock.Advance(TimeSpan.FromSeconds(1));
        }
    }

    /// <summary>Follows through many waits without news, and then through an update.</summary>
    private static async Task ShouldStayCurrentAsync(HttpClient client, VirtualNetwork network, TimeProvider clock, HttpUpdateSourceOptions options)
    {
        using var trainer = new Publisher();
        await using var server = await UpdateServer.StartAsync(trainer.Transport);
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, new HttpUpdateSource(client, server.Address, options, clock), clock: clock);
        await following.UntilAsync(_ => network.Requests >= Requests);
        trainer.Publish(1);
        await following.UntilAsync(trainer);
        following.States.Should().Equal(ReplicaState.Current);
        trainer.ShouldBeAt(replica);
    }

    /// <summary>Keeps what is logged as an error.</summary>
    private sealed class ErrorLog : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<string> Errors { get; } = [];

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel)) Errors.Enqueue(formatter(state, exception));
        }

        public void Dispose()
        {
        }
    }
}
