using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using CsCheck;

namespace ContinuousDL.Tests.Transport;

/// <summary>A batch comes out of the bytes as it went in, or not at all.</summary>
public class UpdateBatchFormatTests
{
    private const long Plenty = 1 << 20;

    [Test]
    public async Task A_batch_is_read_as_it_was_written()
    {
        var batch = MakeBatch();
        var read = await Read(await Write(batch));
        read.NewestSequence.Should().Be(batch.NewestSequence);
        read.Snapshot!.StateDigest.Should().Be(batch.Snapshot!.StateDigest);
        read.Snapshot.Layout.Fingerprint.Should().Be(batch.Snapshot.Layout.Fingerprint);
        read.Messages.Select(m => m.PublishedAt).Should().Equal(batch.Messages.Select(m => m.PublishedAt));
        read.Messages.Select(m => Convert.ToHexString(m.Bytes.Span)).Should().Equal(batch.Messages.Select(m => Convert.ToHexString(m.Bytes.Span)));
    }

    [Test]
    public async Task An_empty_batch_is_read_as_one()
    {
        var read = await Read(await Write(UpdateBatch.Empty));
        read.Snapshot.Should().BeNull();
        read.Messages.Should().BeEmpty();
    }

    [Test]
    public async Task A_batch_that_is_cut_off_anywhere_is_refused()
    {
        var bytes = await Write(MakeBatch());
        for (var length = 0; length < bytes.Length; length++)
        {
            var read = () => Read(bytes[..length]);
            (await read.Should().ThrowAsync<Exception>()).Which.Should().Match(e => e is EndOfStreamException || e is InvalidDataException);
        }
    }

    [Test]
    public async Task A_batch_larger_than_allowed_is_refused()
    {
        var bytes = await Write(MakeBatch());
        var read = () => UpdateBatchFormat.ReadAsync(new MemoryStream(bytes), 100);
        await read.Should().ThrowAsync<InvalidDataException>();
    }

    [Test]
    public void Damaged_bytes_give_a_batch_or_the_documented_exceptions()
    {
        var bytes = Write(MakeBatch()).GetAwaiter().GetResult();
        Gen.Select(Gen.Int[0, bytes.Length - 1], Gen.Byte).Array[1, 8].Sample(
            changes =>
            {
                var damaged = bytes.ToArray();
                foreach (var (position, value) in changes) damaged[position] = value;
                try
                {
                    Read(damaged).GetAwaiter().GetResult();
                }
                catch (Exception e) when (e is EndOfStreamException or InvalidDataException)
                {
                }
            },
            iter: 5_000,
            threads: 1);
    }

    private static UpdateBatch MakeBatch()
    {
        using var model = TestModels.Mlp();
        var random = new Random(1);
        return new UpdateBatch
        {
            Snapshot = ModelSnapshot.Of(model),
            NewestSequence = 123_456_789_012,
            Messages = [.. Enumerable.Range(0, 4).Select(i =>
            {
                var bytes = new byte[i * 11];
                random.NextBytes(bytes);
                return new UpdateMessage(bytes, new DateTimeOffset(2026, 1, 2, 3, 4, i, TimeSpan.Zero));
            })],
        };
    }

    private static async Task<byte[]> Write(UpdateBatch batch)
    {
        using var stream = new MemoryStream();
        await UpdateBatchFormat.WriteAsync(stream, batch);
        return stream.ToArray();
    }

    private static Task<UpdateBatch> Read(byte[] bytes) => UpdateBatchFormat.ReadAsync(new MemoryStream(bytes), Plenty);
}
