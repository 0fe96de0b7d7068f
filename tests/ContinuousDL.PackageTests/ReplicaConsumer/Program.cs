// What a process does that has no deep-learning runtime: it follows a trainer's updates, over plain arrays.
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.UpdateLogs;

var (folder, sequence) = (args[0], long.Parse(args[1]));
using var stopping = new CancellationTokenSource(TimeSpan.FromMinutes(1));
using var replica = new MemoryReplica();
var source = new DirectoryUpdateSource(folder);
using var follower = new ReplicaFollower(replica, source);
var caughtUp = new TaskCompletionSource();
follower.StatusChanged += (_, status) =>
{
    if (status.State == ReplicaState.Current && status.Sequence >= sequence) caughtUp.TrySetResult();
};
var following = follower.RunAsync(stopping.Token);
await Task.WhenAny(caughtUp.Task, following);
using var lease = replica.Acquire();
var weights = 0;
foreach (var entry in replica.Layout.Entries) weights += lease.Model.Values<float>(entry.Name).Length;
Console.WriteLine($"sequence {lease.Sequence}, digest {lease.Digest:x16}, verified {replica.Verify()}, {weights} weights");
