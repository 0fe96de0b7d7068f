// What the crash test starts: a trainer that is made to be killed, and replicas that follow it meanwhile.
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
using ContinuousDL.CrashTest;

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
    default:
        Console.Error.WriteLine("train DIRECTORY SEED [finish], or follow DIRECTORY");
        return 2;
}

return 0;
