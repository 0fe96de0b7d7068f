using System.Threading.Channels;
using ContinuousDL.Replication.Transport;

namespace ContinuousDL.Tests.Transport;

/// <summary>A source that answers as the test says, and waits where it says nothing.</summary>
internal sealed class ScriptedSource : IUpdateSource
{
    private readonly Channel<Func<UpdateBatch>> answers = Channel.CreateUnbounded<Func<UpdateBatch>>();
    private readonly List<(Guid, long)> asked = [];

    public (Guid RunId, long Sequence)[] Asked
    {
        get
        {
            lock (asked) return [.. asked];
        }
    }

    public void Answer(Func<UpdateBatch> answer) => answers.Writer.TryWrite(answer).Should().BeTrue();

    public async Task DrainedAsync()
    {
        while (answers.Reader.Count > 0) await Task.Delay(1);
    }

    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        var answer = await answers.Reader.ReadAsync(cancellationToken);
        lock (asked) asked.Add((runId, sequence));
        return answer();
    }
}
