using ContinuousDL.Replication.Transport;

namespace ContinuousDL.Tests.Transport;

/// <summary>A source over a bad line: it loses, repeats, reorders, delays and damages messages, each with the given probability, and fails altogether now and then.</summary>
internal sealed class FaultySource(IUpdateSource source, int seed, double probability) : IUpdateSource
{
    private readonly Random random = new(seed);
    private readonly List<UpdateMessage> delayed = [];

    /// <summary>How often each fault has happened: lost, repeated, reordered, delayed, damaged, failed.</summary>
    public int[] Faults { get; } = new int[6];

    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        if (Happens(5, probability / 10)) throw new IOException("The line is down.");
        var batch = await source.ReceiveAsync(runId, sequence, cancellationToken);
        var messages = new List<UpdateMessage>(delayed);
        delayed.Clear();
        foreach (var message in batch.Messages)
        {
            if (Happens(0)) continue;
            if (Happens(3)) delayed.Add(message);
            else messages.Add(Happens(4) ? Damaged(message) : message);
            if (Happens(1)) messages.Add(message);
        }

        if (messages.Count > 1 && Happens(2))
        {
            var i = random.Next(messages.Count - 1);
            (messages[i], messages[i + 1]) = (messages[i + 1], messages[i]);
        }

        var snapshot = batch.Snapshot is not null && Happens(0) ? null : batch.Snapshot;
        return new UpdateBatch { Snapshot = snapshot, Messages = messages, NewestSequence = batch.NewestSequence };
    }

    private bool Happens(int fault, double? chance = null)
    {
        if (random.NextDouble() >= (chance ?? probability)) return false;
        Faults[fault]++;
        return true;
    }

    private UpdateMessage Damaged(UpdateMessage message)
    {
        var bytes = message.Bytes.ToArray();
        if (random.Next(3) == 0) bytes = bytes[..random.Next(bytes.Length)];
        else bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
        return message with { Bytes = bytes };
    }
}
