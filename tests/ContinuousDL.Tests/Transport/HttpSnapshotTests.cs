using System.Net;
using ContinuousDL.AspNetCore;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests.Snapshots;
using ContinuousDL.Tests.UpdateLogs;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Transport;

/// <summary>A snapshot gets through a connection that does not hold, comes a single time, and costs the server its memory once.</summary>
public class HttpSnapshotTests
{
    private const int Cut = 150;

    [Test]
    public async Task A_snapshot_that_is_cut_off_is_gone_on_with()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        using var connection = new Connection { Limit = _ => Cut };
        var batch = await server.Source(connection).ReceiveAsync(Guid.Empty, 0);

        PublishedStates.ShouldBeTheSame(batch.Snapshot!, states.Newest);
        var length = new SnapshotImage(states.Newest).Length;
        connection.Delivered.Should().Be(length, "no byte has come twice");
        connection.Starts.Should().Equal(Enumerable.Range(0, (int)((length + Cut - 1) / Cut)).Select(i => i == 0 ? null : (long?)(i * Cut)));
    }

    [Test]
    public async Task A_snapshot_in_several_parts_of_memory_is_gone_on_with()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        using var parts = new SmallParts();
        using var connection = new Connection { Limit = _ => Cut };
        var batch = await server.Source(connection).ReceiveAsync(Guid.Empty, 0);
        batch.Snapshot!.StateDigest.Should().Be(states.Newest.StateDigest);
    }

    [Test]
    public async Task What_has_arrived_is_kept_for_the_next_call()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        using var connection = new Connection { Limit = answer => answer switch { 0 => Cut, 1 => 0, _ => long.MaxValue } };
        var source = server.Source(connection);
        await source.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>("the second answer brought nothing");
        var batch = await source.ReceiveAsync(Guid.Empty, 0);
        PublishedStates.ShouldBeTheSame(batch.Snapshot!, states.Newest);
        connection.Starts.Should().Equal(null, Cut, Cut);
        connection.Delivered.Should().Be(new SnapshotImage(states.Newest).Length);
    }

    [Test]
    public async Task An_answer_that_does_not_go_on_keeps_what_has_arrived()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        using var connection = new Connection { Limit = answer => answer == 0 ? Cut : long.MaxValue, Hangs = answer => answer == 0 };
        var source = server.Source(connection, new HttpUpdateSourceOptions { Wait = TimeSpan.Zero, Timeout = TimeSpan.FromSeconds(1) });
        ModelSnapshot? received = null;
        while (received is null)
        {
            try
            {
                received = (await source.ReceiveAsync(Guid.Empty, 0)).Snapshot;
            }
            catch (IOException)
            {
                // A busy machine may be slower than that; what has arrived is kept all the same.
            }
        }

        PublishedStates.ShouldBeTheSame(received, states.Newest);
        connection.Starts[0].Should().BeNull();
        connection.Starts.Skip(1).Should().NotBeEmpty().And.OnlyContain(start => start == Cut);
    }

    [Test]
    public async Task The_rest_of_a_snapshot_comes_although_the_source_has_gone_on()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        var start = states.Newest;
        using var connection = new Connection { Limit = answer => answer == 0 ? Cut : long.MaxValue, Before = answer => answer == 1 ? Publish(server, states, 3) : Task.CompletedTask };
        var batch = await server.Source(connection).ReceiveAsync(Guid.Empty, 0);
        PublishedStates.ShouldBeTheSame(batch.Snapshot!, start);
        connection.Starts.Should().Equal(null, Cut);
    }

    [Test]
    public async Task A_snapshot_that_the_server_has_not_any_more_is_begun_anew()
    {
        await using var server = await HttpServer.Start(new UpdateEndpointOptions { SnapshotLifetime = TimeSpan.Zero });
        var states = await Published(server);
        using var connection = new Connection { Limit = answer => answer == 0 ? Cut : long.MaxValue, Before = answer => answer == 1 ? Publish(server, states, 1) : Task.CompletedTask };
        var batch = await server.Source(connection).ReceiveAsync(Guid.Empty, 0);
        PublishedStates.ShouldBeTheSame(batch.Snapshot!, states.Newest);
        batch.Snapshot!.Sequence.Should().Be(1);
    }

    [Test]
    public async Task A_damaged_snapshot_is_an_IOException_and_begun_anew()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        using var connection = new Connection { Limit = _ => long.MaxValue, Damages = answer => answer == 0 };
        var source = server.Source(connection);
        (await source.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>()).WithMessage("*no valid snapshot*");
        PublishedStates.ShouldBeTheSame((await source.ReceiveAsync(Guid.Empty, 0)).Snapshot!, states.Newest);
        connection.Starts.Should().Equal([null, null]);
    }

    [Test]
    public async Task A_snapshot_larger_than_allowed_is_refused()
    {
        await using var server = await HttpServer.Start();
        await Published(server);
        using var connection = new Connection { Limit = _ => long.MaxValue };
        var source = server.Source(connection, new HttpUpdateSourceOptions { MaximumBytes = 500 });
        (await source.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>()).WithMessage("*500 are allowed*");
    }

    [Test]
    public async Task Replicas_that_start_one_after_the_other_share_a_snapshot()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        var first = await server.Source().ReceiveAsync(Guid.Empty, 0);
        await Publish(server, states, 3);
        var second = await server.Source().ReceiveAsync(Guid.Empty, 0);
        (second.Snapshot!.RunId, second.Snapshot.Sequence, second.Snapshot.StateDigest).Should().Be((states.RunId, 0, first.Snapshot!.StateDigest));
        second.NewestSequence.Should().Be(3, "a replica that starts knows that it is behind");
        var rest = await server.Source().ReceiveAsync(states.RunId, 0);
        rest.Snapshot.Should().BeNull();
        rest.Messages.Should().HaveCount(3);
    }

    [Test]
    public async Task A_replica_does_not_start_from_a_snapshot_that_the_source_does_not_lead_on_from()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        await server.Source().ReceiveAsync(Guid.Empty, 0);
        var another = new PublishedStates(2);
        await server.Transport.PublishAsync(another.Newest);
        PublishedStates.ShouldBeTheSame((await server.Source().ReceiveAsync(Guid.Empty, 0)).Snapshot!, another.Newest);
        PublishedStates.ShouldBeTheSame((await server.Source().ReceiveAsync(states.RunId, 0)).Snapshot!, another.Newest);
    }

    [Test]
    public async Task A_request_for_a_batch_alone_gets_a_batch()
    {
        await using var server = await HttpServer.Start();
        var states = await Published(server);
        using var answer = await server.Client.GetAsync("/updates?wait=0");
        answer.Content.Headers.ContentType!.MediaType.Should().Be(UpdateBatchFormat.MediaType);
        var batch = await UpdateBatchFormat.ReadAsync(await answer.Content.ReadAsStreamAsync(), 1 << 20);
        PublishedStates.ShouldBeTheSame(batch.Snapshot!, states.Newest);
    }

    [Test]
    public async Task Sixteen_slow_replicas_cost_the_memory_of_one_snapshot([Values] bool inBatches)
    {
        using var model = nn.Linear(2048, 2048);
        var tensors = ModelTensors.Of(model);
        await using var server = await HttpServer.Start();
        await server.Transport.PublishAsync(ModelSnapshot.Of(tensors, Guid.NewGuid(), 0));
        var size = tensors.Layout.SizeInBytes;
        if (!inBatches) server.Client.DefaultRequestHeaders.Accept.ParseAdd(SnapshotImage.MediaType);
        var before = GC.GetTotalAllocatedBytes(precise: true);
        var answers = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => server.Client.GetAsync("/updates", HttpCompletionOption.ResponseHeadersRead)));

        // Each has the beginning of it, and reads no further for now.
        foreach (var answer in answers) (await (await answer.Content.ReadAsStreamAsync()).ReadAsync(new byte[1])).Should().Be(1);
        (GC.GetTotalAllocatedBytes(precise: true) - before).Should().BeLessThan(2 * size);
        foreach (var answer in answers) answer.Dispose();
    }

    private static async Task<PublishedStates> Published(HttpServer server)
    {
        var states = new PublishedStates(1);
        await server.Transport.PublishAsync(states.Newest);
        return states;
    }

    private static async Task Publish(HttpServer server, PublishedStates states, int count)
    {
        for (var i = 0; i < count; i++)
        {
            using var update = states.Next();
            await server.Transport.PublishAsync(update);
        }
    }

    /// <summary>A connection on which answers with a snapshot are cut off, hang, or are damaged.</summary>
    private sealed class Connection() : DelegatingHandler(new SocketsHttpHandler())
    {
        /// <summary>How many bytes of an answer get through.</summary>
        public required Func<int, long> Limit { get; init; }

        /// <summary>Whether an answer hangs after that instead of failing.</summary>
        public Func<int, bool> Hangs { get; init; } = _ => false;

        /// <summary>Whether an answer has a wrong byte.</summary>
        public Func<int, bool> Damages { get; init; } = _ => false;

        /// <summary>What happens before an answer.</summary>
        public Func<int, Task> Before { get; init; } = _ => Task.CompletedTask;

        /// <summary>Where each request asked to begin; null for all of it.</summary>
        public List<long?> Starts { get; } = [];

        /// <summary>How many bytes of snapshots got through.</summary>
        public long Delivered { get; private set; }

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var number = Starts.Count;
            await Before(number);
            Starts.Add(request.Headers.Range?.Ranges.Single().From);
            var response = await base.SendAsync(request, cancellationToken);
            response.Content.Headers.ContentType!.MediaType.Should().Be(SnapshotImage.MediaType);
            response.StatusCode.Should().BeOneOf(HttpStatusCode.OK, HttpStatusCode.PartialContent);
            response.Headers.ETag.Should().NotBeNull();
            response.Content.Headers.ContentLength.Should().BePositive();
            var body = await response.Content.ReadAsStreamAsync(cancellationToken);
            var content = new StreamContent(new Body(this, body, number));
            foreach (var (name, values) in response.Content.Headers) content.Headers.TryAddWithoutValidation(name, values);
            response.Content = content;
            return response;
        }

        private sealed class Body(Connection connection, Stream inner, int number) : Stream
        {
            private long left = connection.Limit(number);

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
                if (left == 0 && connection.Hangs(number)) await Task.Delay(Timeout.Infinite, cancellationToken);
                if (left == 0) throw new HttpIOException(HttpRequestError.ResponseEnded, "It was cut off.");
                var count = await inner.ReadAsync(buffer[..(int)Math.Min(buffer.Length, left)], cancellationToken);
                left -= count;
                connection.Delivered += count;
                if (count > 0 && connection.Damages(number) && buffer.Length > 16) buffer.Span[count - 1] ^= 1;
                return count;
            }

            public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

            public override void Flush() => throw new NotSupportedException();

            public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

            public override void SetLength(long value) => throw new NotSupportedException();

            public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        }
    }
}
