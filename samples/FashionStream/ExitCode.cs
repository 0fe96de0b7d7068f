namespace ContinuousDL.Samples.FashionStream;

/// <summary>What the process says to whoever started it.</summary>
internal static class ExitCode
{
    /// <summary>Everything was done.</summary>
    public const int Done = 0;

    /// <summary>The data can't be read, the results can't be written, or a replica differs from the model it should be.</summary>
    public const int Failed = 1;

    /// <summary>An option is wrong.</summary>
    public const int WrongOption = 2;

    /// <summary>Ended by Ctrl-C: 128 plus the number of the signal, as shells have it.</summary>
    public const int Interrupted = 130;
}
