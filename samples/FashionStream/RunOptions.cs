using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;

namespace ContinuousDL.Samples.FashionStream;

/// <summary>What the command line asks for.</summary>
internal sealed record RunOptions
{
    /// <summary>Where the data lies.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>Its format.</summary>
    public required DataFormat Format { get; init; }

    /// <summary>Takes only so many training samples.</summary>
    public int MostTraining { get; init; } = int.MaxValue;

    /// <summary>Takes only so many test samples.</summary>
    public int MostTest { get; init; } = int.MaxValue;

    /// <summary>What is compared, in the order of the result.</summary>
    public required IReadOnlyList<Strategy> Strategies { get; init; }

    /// <summary>Trigger, seed, epochs.</summary>
    public required RunSettings Settings { get; init; }

    /// <summary>Where the pictures go.</summary>
    public required string OutputDirectory { get; init; }

    /// <summary>Where the results go as JSON; null for nowhere.</summary>
    public string? JsonFile { get; init; }

    /// <summary>How many strategies run at the same time, each on a thread of its own.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;
}
