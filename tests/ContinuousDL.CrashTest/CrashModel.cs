using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.CrashTest;

/// <summary>The model of the crash test, and where everything is kept.</summary>
public static class CrashModel
{
    /// <summary>Makes the model, with new weights.</summary>
    public static Sequential Make() =>
        nn.Sequential(("hidden", nn.Linear(CrashSamples.Features, 16)), ("relu", nn.ReLU()), ("output", nn.Linear(16, CrashSamples.Classes)));

    /// <summary>The options of the trainer, which are not part of its checkpoint.</summary>
    public static ProactiveTrainerOptions Options => new() { BatchSize = 16, TriggerSize = 4, Density = 0.05 };

    /// <summary>The folder of the samples.</summary>
    public static string Samples(string directory) => Path.Combine(directory, "samples");

    /// <summary>The folder of the updates.</summary>
    public static string Updates(string directory) => Path.Combine(directory, "updates");

    /// <summary>The checkpoint.</summary>
    public static string Checkpoint(string directory) => Path.Combine(directory, "trainer.checkpoint");

    /// <summary>Writes a line at once.</summary>
    public static void Say(string line)
    {
        lock (Saying)
        {
            Console.Out.WriteLine(line);
            Console.Out.Flush();
        }
    }

    private static readonly Lock Saying = new();
}
