using System.CommandLine;
using ContinuousDL.Samples.TrainAndServe;
using static TorchSharp.torch;

// A process that trains and two that serve, connected by HTTP alone: --help says more.
var quick = new Option<bool>("--quick") { Description = "Trains on a part of the stream only, and takes less than 90 seconds." };
var output = new Option<DirectoryInfo?>("--output") { Description = "Where samples, updates and checkpoints are kept. Default: a new folder, deleted at the end." };
var root = new RootCommand(
    """
    A process trains a model on a stream of images, two others serve it over HTTP and follow its updates. One of them is
    killed and started again on the way. Ends with exit code 0 only if no sample was lost and all models are identical.
    """) { quick, output };
root.SetAction((parsed, cancellation) => Orchestrator.RunAsync(parsed.GetValue(quick), parsed.GetValue(output)?.FullName, cancellation));

// The processes that the first one starts.
var directory = new Option<string>("--directory") { Required = true };
var samples = new Option<int>("--samples") { Required = true };
var train = new Command(Role.Train, "Trains (started by the main process).") { directory, samples };
train.SetAction((parsed, cancellation) => TrainerProcess.RunAsync(parsed.GetValue(directory)!, parsed.GetValue(samples), cancellation));
var updates = new Option<string>("--updates") { Required = true };
var serve = new Command(Role.Serve, "Serves (started by the main process).") { updates };
serve.SetAction((parsed, cancellation) => ServerProcess.RunAsync(new Uri(parsed.GetValue(updates)!), cancellation));
root.Subcommands.Add(train);
root.Subcommands.Add(serve);

// Three processes share the machine; more threads in each would only get in each other's way.
set_num_threads(1);
return await root.Parse(args).InvokeAsync();
