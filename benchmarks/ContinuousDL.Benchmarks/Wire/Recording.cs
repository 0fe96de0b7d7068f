using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Samples.FashionStream.Data;
using TorchSharp;
using static TorchSharp.torch;
using Module = TorchSharp.torch.nn.Module<TorchSharp.torch.Tensor, TorchSharp.torch.Tensor>;
using SampleModel = ContinuousDL.Samples.FashionStream.Models.LeNet5;

namespace ContinuousDL.Benchmarks.Wire;

/// <summary>Updates of real training: a model that is trained on the embedded part of Fashion-MNIST as it streams, by the default strategy.</summary>
/// <remarks>Only parameters are deployed: what buffers take depends on the options for them, and is the same in every system.</remarks>
internal sealed class Recording : IDisposable
{
    private const int Arrivals = 8;

    private Recording(string model, double density, DeployedValuePrecision precision, ModelSnapshot start, List<ModelUpdate> updates, Func<Module> create) =>
        (Model, Density, Precision, Start, Updates, Create) = (model, density, precision, start, updates, create);

    /// <summary>The name of the model.</summary>
    public string Model { get; }

    /// <summary>The share of the parameters that an update changes at most.</summary>
    public double Density { get; }

    /// <summary>What deployed values are rounded to.</summary>
    public DeployedValuePrecision Precision { get; }

    /// <summary>The state before the first update.</summary>
    public ModelSnapshot Start { get; }

    /// <summary>The updates, one after the other.</summary>
    public IReadOnlyList<ModelUpdate> Updates { get; }

    /// <summary>Makes a module of the model's architecture.</summary>
    public Func<Module> Create { get; }

    /// <summary>Records updates of LeNet-5, 61,706 parameters.</summary>
    public static Recording OfLeNet(StreamData data, double density, DeployedValuePrecision precision, int steps)
    {
        Module Create() => SampleModel.CreateSeeded(1, data.Training.Channels, data.Training.Height, data.Training.Width, data.Classes);
        return Record("LeNet-5", Create, data.Training.Batch, density, precision, history: 2000, batch: 128, warmUp: 50, steps);
    }

    /// <summary>Records updates of ResNet-18, 11.2 million parameters, on the images in three equal channels with a border.</summary>
    public static Recording OfResNet(StreamData data, double density, DeployedValuePrecision precision, int steps)
    {
        var model = BenchmarkModel.Named("ResNet-18");
        Module Create()
        {
            random.manual_seed(1);
            return model.Create();
        }

        (Tensor, Tensor) Batch(int first, int count)
        {
            var (images, labels) = data.Training.Batch(first, count);
            using (images)
            {
                var border = (model.Size - data.Training.Width) / 2;
                using var colour = images.expand(count, model.Channels, data.Training.Height, data.Training.Width);
                return (nn.functional.pad(colour, [border, border, border, border]), labels);
            }
        }

        return Record(model.Name, Create, Batch, density, precision, history: 200, batch: 32, warmUp: 10, steps);
    }

    /// <inheritdoc />
    public void Dispose()
    {
        foreach (var update in Updates) update.Dispose();
    }

    private static Recording Record(
        string name, Func<Module> create, Func<int, int, (Tensor, Tensor)> samples, double density, DeployedValuePrecision precision, int history, int batch, int warmUp, int steps)
    {
        using var model = create();
        using var loss = nn.CrossEntropyLoss();
        using var optimizer = new FusedAdam(model.parameters(), 1e-3, amsGrad: true);
        var options = new ProactiveTrainerOptions
        {
            BatchSize = batch,
            Density = density,
            DeployedValuePrecision = precision,
            EvaluateArrivals = false,
            Buffers = new BufferDeploymentOptions { Mode = BufferDeploymentMode.Periodic, Interval = int.MaxValue },
        };
        using var trainer = new ProactiveTrainer(model, loss, optimizer, options);
        for (var first = 0; first < history; first += Arrivals)
        {
            var (images, labels) = samples(first, Arrivals);
            using (images)
            using (labels)
                trainer.AddHistory(images, labels);
        }

        ModelSnapshot? start = null;
        var updates = new List<ModelUpdate>();
        for (var step = 0; step < warmUp + steps; step++)
        {
            if (step == warmUp) start = trainer.CreateSnapshot();
            var (images, labels) = samples(history + (step * Arrivals), Arrivals);
            using (images)
            using (labels)
            {
                var result = trainer.Step(images, labels);
                if (step < warmUp) result.Dispose();
                else updates.Add(result.Update!);
            }
        }

        return new Recording(name, density, precision, start!, updates, create);
    }
}
