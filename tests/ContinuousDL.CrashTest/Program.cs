using ContinuousDL.CrashTest;

// What tests start as a process of its own: a trainer that is made to be killed, replicas that follow it meanwhile, and what
// writes to a disk that fails.
//
//   train DIRECTORY SEED [finish]
//     Takes in samples, steps, publishes updates and saves checkpoints until somebody ends it; with "finish", a few times only.
//     Started again in the same directory it goes on where it was, with the replicas where they are.
//       ready END SEQUENCE PENDING   it has opened history, log and checkpoint
//       kept END                     Observe has returned for all samples before END
//       published SEQUENCE           the update of that sequence is in the log
//       saved SEQUENCE               a checkpoint of that sequence is on disk
//       done RUN SEQUENCE DIGEST     it has finished, in that state
//
//   follow DIRECTORY
//     Follows the updates in the directory until its input ends.
//       at RUN SEQUENCE DIGEST VERIFIED   its replica has that state
//
//   updates|samples|checkpoints|snapshots DIRECTORY COUNT, compactions DIRECTORY COUNT
//     Writes so many of them, and ends. With "compactions" the log of the updates wants to be compacted all the while.
//       done                         it was written
//       TYPE: MESSAGE                it was not, for this exception
//       compaction TYPE|went well    what became of the last compaction
//
//   open DIRECTORY
//     Opens log and history for writing, and says so in the same way.

// Whoever started it holds the other end: when that one is gone, nobody would end this.
using var stop = new CancellationTokenSource();
_ = Task.Run(() =>
{
    while (Console.In.Read() >= 0)
    {
    }

    stop.Cancel();
});

switch (args)
{
    case ["train", var directory, var seed, ..]:
        await TrainerProgram.RunAsync(directory, new Random(int.Parse(seed)), steps: args is [.., "finish"] ? 5 : null, stop.Token);
        break;
    case ["follow", var directory]:
        await FollowerProgram.RunAsync(directory, stop.Token);
        break;
    case ["updates", var directory, var count]:
        StorageProgram.AppendUpdates(directory, int.Parse(count), new() { CompactAutomatically = false });
        break;
    case ["compactions", var directory, var count]:
        StorageProgram.AppendUpdates(directory, int.Parse(count), new() { SnapshotInterval = 3, FlushOnAppend = false });
        break;
    case ["samples", var directory, var count]:
        StorageProgram.AppendSamples(directory, int.Parse(count));
        break;
    case ["checkpoints", var directory, var count]:
        StorageProgram.SaveCheckpoints(directory, int.Parse(count));
        break;
    case ["snapshots", var directory, var count]:
        StorageProgram.SaveSnapshots(directory, int.Parse(count));
        break;
    case ["open", var directory]:
        StorageProgram.Open(directory);
        break;
    default:
        Console.Error.WriteLine("train DIRECTORY SEED [finish], follow DIRECTORY, open DIRECTORY, or updates|compactions|samples|checkpoints|snapshots DIRECTORY COUNT");
        return 2;
}

return 0;
