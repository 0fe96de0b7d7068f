using System.Collections.Concurrent;
using System.Net;
using ContinuousDL.Replication.Transport;

namespace ContinuousDL.Tests.Transport;

/// <summary>No answer of the server may be kept by a cache, and one that a cache kept all the same is not believed.</summary>
public class HttpCachingTests
{
    [TestCase("?run=x", HttpStatusCode.BadRequest)]
    [TestCase("?request=a%0Ab", HttpStatusCode.BadRequest)]
    [TestCase("?run={run}&sequence=0&wait=0", HttpStatusCode.NoContent)]
    [TestCase("?wait=0", HttpStatusCode.OK)]
    [TestCase("?wait=0", HttpStatusCode.ServiceUnavailable)]
    public async Task No_answer_may_be_stored(string query, HttpStatusCode expected)
    {
        using var trainer = new Publisher();
        await using var server = await UpdateServer.StartAsync(expected == HttpStatusCode.ServiceUnavailable ? new BrokenSource() : trainer.Transport);
        using var client = new HttpClient();
        using var answer = await client.GetAsync(server.Address + query.Replace("{run}", $"{trainer.States.RunId}"));
        answer.StatusCode.Should().Be(expected);
        answer.Headers.CacheControl!.ToString().Should().Be("no-store");
    }

    [Test]
    public async Task Requests_ask_for_no_stored_answer_and_are_never_the_same_twice()
    {
        var stub = new StubHandler(request =>
        {
            request.Headers.CacheControl!.NoCache.Should().BeTrue();
            return StubHandler.Nothing(request);
        });
        using var client = new HttpClient(stub);
        var source = new HttpUpdateSource(client, new Uri("http://trainer/updates"));
        for (var i = 0; i < 3; i++) (await source.ReceiveAsync(Guid.NewGuid(), 0)).IsEmpty.Should().BeTrue();
        stub.Queries.Should().OnlyHaveUniqueItems();
    }

    [Test]
    public async Task A_replica_behind_a_cache_that_keeps_everything_gets_each_update()
    {
        using var trainer = new Publisher();
        await using var server = await UpdateServer.StartAsync(trainer.Transport);
        using var client = new HttpClient(new Cache(ignoresQuery: false));
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, new HttpUpdateSource(client, server.Address, new() { Wait = TimeSpan.Zero }));
        for (var i = 0; i < 3; i++)
        {
            trainer.Publish(1);
            await following.UntilAsync(trainer);
        }

        trainer.ShouldBeAt(replica);
    }

    [Test]
    public async Task An_answer_to_another_request_is_not_believed()
    {
        using var trainer = new Publisher();
        await using var server = await UpdateServer.StartAsync(trainer.Transport);
        using var client = new HttpClient(new Cache(ignoresQuery: true));
        var source = new HttpUpdateSource(client, server.Address, new() { Wait = TimeSpan.Zero });
        (await source.ReceiveAsync(trainer.States.RunId, 0)).IsEmpty.Should().BeTrue();
        trainer.Publish(1);
        await source.Invoking(s => s.ReceiveAsync(trainer.States.RunId, 0).AsTask()).Should()
            .ThrowAsync<UpdateSourceUnavailableException>().WithMessage($"*not made for this request*{HttpUpdateHeaders.Request}*cache*");
    }

    /// <summary>A cache that keeps every answer for ever, whatever is said of it.</summary>
    private sealed class Cache(bool ignoresQuery) : DelegatingHandler(new SocketsHttpHandler())
    {
        private readonly ConcurrentDictionary<string, (HttpStatusCode Status, byte[] Body, HttpResponseMessage Original)> kept = [];

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var key = ignoresQuery ? request.RequestUri!.AbsolutePath : request.RequestUri!.PathAndQuery;
            if (!kept.TryGetValue(key, out var entry))
            {
                var response = await base.SendAsync(request, cancellationToken);
                entry = kept[key] = (response.StatusCode, await response.Content.ReadAsByteArrayAsync(cancellationToken), response);
            }

            var answer = new HttpResponseMessage(entry.Status) { Content = new ByteArrayContent(entry.Body) };
            foreach (var header in entry.Original.Headers) answer.Headers.TryAddWithoutValidation(header.Key, header.Value);
            foreach (var header in entry.Original.Content.Headers) answer.Content.Headers.TryAddWithoutValidation(header.Key, header.Value);
            return answer;
        }
    }

    private sealed class BrokenSource : IUpdateSource
    {
        public ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default) =>
            throw new UnauthorizedAccessException("The folder is not for you.");
    }
}
