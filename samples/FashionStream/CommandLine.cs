using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;

namespace ContinuousDL.Samples.FashionStream;

/// <summary>The command line: its options, its help, and what it makes of wrong values.</summary>
internal sealed class CommandLine
{
    private const string Examples =
        """
        Examples:
          Everything, on the embedded 14,000 images (at most 5 minutes on 2 cores):
            dotnet run -c Release --project samples/FashionStream
          The same in short (at most 1 minute):
            dotnet run -c Release --project samples/FashionStream -- --quick
          The full protocol, on the files of Debian's package dataset-fashion-mnist:
            dotnet run -c Release --project samples/FashionStream -- --data /usr/share/datasets/fashion-mnist
          Two densities of two ways to compress, with the results as JSON:
            dotnet run -c Release --project samples/FashionStream -- --strategies dense,ahead-topk,difference-topk \
                --density 1e-2,1e-4 --json out/result.json
          One coordinate a step:
            dotnet run -c Release --project samples/FashionStream -- --strategies static,update-topk-k1
          CIFAR-10, from the folder of its binary version:
            dotnet run -c Release --project samples/FashionStream -- --dataset cifar10 --data cifar-10-batches-bin

        Ctrl-C ends a run with the results so far; once more ends it at once.

        Exit codes:
          0    done
          1    a data file is missing or damaged, a result can't be written, or a replica is not identical to its trainer's model
          2    a wrong option
          130  ended by Ctrl-C, with the results so far

        """;

    /// <summary>What --quick takes: enough to see every strategy at work.</summary>
    private const int QuickTraining = 1800, QuickTest = 1000, QuickEpochs = 5, QuickSamples = 8000;

    private readonly Option<string?> data = new("--data")
    {
        Description = "Folder with the data: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
            + "t10k-labels-idx1-ubyte, plain or .gz; or CIFAR-10's data_batch_1.bin to data_batch_5.bin and test_batch.bin. The first sixth "
            + "of the training samples is the initial history, the rest the stream. Without it: the embedded subset of Fashion-MNIST",
        HelpName = "DIR",
    };

    private readonly Option<string> dataset = new("--dataset")
    {
        Description = "Format of the data: mnist or cifar10",
        DefaultValueFactory = _ => "mnist",
        HelpName = "FORMAT",
    };

    private readonly Option<string?> strategies = new("--strategies")
    {
        Description = $"What to compare, separated by commas: {StrategyCatalog.Description}",
        HelpName = "NAMES",
    };

    private readonly Option<string?> density = new("--density")
    {
        Description = "Shares of the coordinates that a sparse step deploys, separated by commas, each in (0, 1]. For the strategies that "
            + "name no density of their own; without --strategies, for every sparse one",
        HelpName = "SHARES",
    };

    private readonly Option<int> trigger = new("--trigger")
    {
        Description = $"New samples that start a step, 1 to {Training.BatchSize}",
        DefaultValueFactory = _ => RunSettings.DefaultTrigger,
        HelpName = "N",
    };

    private readonly Option<int> seed = new("--seed")
    {
        Description = "Decides initial weights and sampling, from 0 on: the same seed gives the same accuracies",
        DefaultValueFactory = _ => RunSettings.DefaultSeed,
        HelpName = "N",
    };

    private readonly Option<string> output = new("--output")
    {
        Description = "Folder for the pictures",
        DefaultValueFactory = _ => Path.Combine("out", "fashion-stream"),
        HelpName = "DIR",
    };

    private readonly Option<string?> json = new("--json")
    {
        Description = "File for the results as JSON",
        HelpName = "FILE",
    };

    private readonly Option<bool> quick = new("--quick")
    {
        Description = $"Take only the first {QuickTraining:N0} training and {QuickTest:N0} test samples, and train the initial model for "
            + "fewer epochs",
    };

    private readonly Option<int> threads = new("--threads")
    {
        DefaultValueFactory = _ => Environment.ProcessorCount,
        Description = "Strategies that run at the same time, each on a thread of its own, from 1 on, by default as many as "
            + "there are cores. 1 gives the most exact times; the accuracies are the same",
        HelpName = "N",
    };

    private readonly RootCommand root;

    public CommandLine()
    {
        root = new RootCommand("Replays a stream of images against a deployed model, and compares ways to keep it fresh.")
        {
            data, dataset, strategies, density, trigger, seed, output, json, quick, threads,
        };
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpWithExamples((HelpAction)help.Action!);
    }

    /// <summary>Parses the arguments and runs what they ask for.</summary>
    /// <param name="arguments">The arguments.</param>
    /// <param name="output">Where the help goes.</param>
    /// <param name="error">Where a line about a wrong value goes.</param>
    /// <param name="run">Runs it; gives the exit code.</param>
    /// <returns>The exit code; <see cref="ExitCode.WrongOption"/> where an option is wrong.</returns>
    public int Invoke(IReadOnlyList<string> arguments, TextWriter output, TextWriter error, Func<RunOptions, int> run)
    {
        var parsed = root.Parse(arguments);
        if (parsed.Errors.Count > 0) return Wrong(error, parsed.Errors[0].Message);
        if (parsed.Action is not null)
            return parsed.Invoke(new InvocationConfiguration { Output = output, Error = error });

        try
        {
            return run(Read(parsed));
        }
        catch (FormatException e)
        {
            return Wrong(error, e.Message);
        }
    }

    private static int Wrong(TextWriter error, string message)
    {
        error.WriteLine($"{message.ReplaceLineEndings(" ").TrimEnd('.')}. --help lists the options.");
        return ExitCode.WrongOption;
    }

    /// <exception cref="FormatException">A value is wrong; the message names the option, the value, and what would be right.</exception>
    private RunOptions Read(ParseResult parsed)
    {
        var format = parsed.GetValue(dataset) switch
        {
            "mnist" => DataFormat.Mnist,
            "cifar10" => DataFormat.Cifar10,
            var other => throw new FormatException($"--dataset is mnist or cifar10, not '{other}'"),
        };
        var directory = parsed.GetValue(data);
        if (directory is null && format != DataFormat.Mnist)
            throw new FormatException("--dataset cifar10 needs --data with the folder of its binary batches; only Fashion-MNIST is embedded");
        if (directory is not null && !Directory.Exists(directory))
            throw new FormatException($"--data names the folder '{directory}', which doesn't exist");

        var settings = new RunSettings(InRange(parsed, trigger, 1, Training.BatchSize), InRange(parsed, seed, 0, int.MaxValue));
        var isQuick = parsed.GetValue(quick);
        return new RunOptions
        {
            DataDirectory = directory ?? StreamData.EmbeddedDirectory,
            Format = format,
            MostTraining = isQuick ? QuickTraining : int.MaxValue,
            MostTest = isQuick ? QuickTest : int.MaxValue,
            Strategies = ReadStrategies(parsed),
            Settings = isQuick ? settings with { FewestEpochs = QuickEpochs, FewestSamples = QuickSamples } : settings,
            OutputDirectory = parsed.GetValue(output)!,
            JsonFile = parsed.GetValue(json),
            Threads = InRange(parsed, threads, 1, 1024),
        };
    }

    private IReadOnlyList<Strategy> ReadStrategies(ParseResult parsed)
    {
        var densities = parsed.GetValue(density) is { } shares ? ReadDensities(shares) : null;
        var names = parsed.GetValue(strategies) is { } list
            ? list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            : densities is null ? StrategyCatalog.DefaultNames : StrategyCatalog.NamesForDensities;
        if (names.Count == 0) throw new FormatException($"--strategies names none; there are {StrategyCatalog.Description}");
        try
        {
            return StrategyCatalog.Find(names, densities ?? [StrategyCatalog.DefaultDensity]);
        }
        catch (FormatException e)
        {
            throw new FormatException($"--strategies: {e.Message}", e);
        }
    }

    private static List<double> ReadDensities(string shares)
    {
        var densities = new List<double>();
        foreach (var share in shares.Split(',', StringSplitOptions.TrimEntries))
        {
            if (!StrategyCatalog.TryParseDensity(share, out var value))
                throw new FormatException($"--density is a number above 0 and up to 1, like 1e-3, not '{share}'");
            densities.Add(value);
        }

        return densities;
    }

    private static int InRange(ParseResult parsed, Option<int> option, int lowest, int highest)
    {
        var value = parsed.GetValue(option);
        if (value >= lowest && value <= highest) return value;
        var range = highest == int.MaxValue ? $"{lowest} or more" : $"{lowest} to {highest}";
        throw new FormatException($"{option.Name} is {range}, not {value}");
    }

    private sealed class HelpWithExamples(HelpAction help) : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            var result = help.Invoke(parseResult);
            parseResult.InvocationConfiguration.Output.Write(Examples);
            return result;
        }
    }
}
