using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>A parameter is one parameter, under however many handles a module or a caller has it.</summary>
public class TiedParameterTests
{
    private static readonly Dictionary<string, Func<IEnumerable<Parameter>, optim.Optimizer>> Optimizers = new()
    {
        ["fused SGD"] = p => new FusedSgd(p, 0.5),
        ["fused Adam"] = p => new FusedAdam(p, 0.02),
        ["SGD"] = p => optim.SGD(p, 0.5),
        ["Adam"] = p => optim.Adam(p, 0.02),
    };

    private static readonly Dictionary<string, Func<IDeploymentStrategy>> Strategies = new()
    {
        ["update"] = () => new UpdateCompression(new TopKCompressor(0.1), lookahead: 0.5),
        ["gradient"] = () => new GradientCompression(new TopKCompressor(0.1)),
        ["difference"] = () => new ReplicaDifference(new TopKCompressor(0.1)),
        ["dense"] = () => new DenseDeployment(),
    };

    [Test]
    public void An_embeddings_weight_may_be_the_output_layers([Values] bool fromEmbedding, [ValueSource(nameof(OptimizerNames))] string optimizer, [ValueSource(nameof(StrategyNames))] string strategy)
    {
        random.manual_seed(4);
        using var model = new LanguageModel(fromEmbedding);
        using var trained = Optimizers[optimizer](model.parameters());
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), trained, new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 }, new ProactiveTrainerComponents { Strategy = Strategies[strategy]() });
        trainer.Deployed.Layout.Entries.Where(e => e.Shape.SequenceEqual([LanguageModel.Words, LanguageModel.Width])).Should().ContainSingle("the weight is one parameter");
        using var replica = new ModelReplica<LanguageModel>(() => new LanguageModel(fromEmbedding), trainer.CreateSnapshot());
        var losses = new List<double>();
        for (var step = 0; step < 120; step++)
        {
            using var scope = NewDisposeScope();
            var words = randint(LanguageModel.Words, [4], dtype: ScalarType.Int64);
            using var result = trainer.Step(words, words.clone());
            replica.Apply(result.Update!);
            losses.Add(result.Loss);
        }

        losses.TakeLast(10).Average().Should().BeLessThan(losses.Take(10).Average());
        replica.Verify().Should().BeTrue();
        replica.CreateSnapshot().StateDigest.Should().Be(trainer.CreateSnapshot().StateDigest);
        TestModels.Bytes(model.Embedding).Should().Equal(TestModels.Bytes(model.Output), "they are still one");
    }

    [Test]
    public void Parameters_may_be_given_to_the_optimizer_by_other_handles()
    {
        using var model = nn.Sequential(("embedding", nn.Embedding(5, 3)), ("output", nn.Linear(3, 5)));
        var handles = new[] { ((Embedding)model[0]).weight!, ((Linear)model[1]).weight, ((Linear)model[1]).bias! };
        handles[0].Handle.Should().NotBe(((Embedding)model[0]).weight!.Handle, "a module gives a new handle each time");
        using var optimizer = new FusedSgd(handles, 0.5);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 4, TriggerSize = 4 });
        var before = TestModels.Bytes(handles[0]);
        using var words = tensor(new long[] { 0, 1, 2, 3 });
        using var result = trainer.Step(words, words);
        result.CoordinatesChanged.Should().BePositive();
        for (var step = 0; step < 20; step++) trainer.Step(words, words).Dispose();
        TestModels.Bytes(handles[0]).Should().NotEqual(before);
    }

    [Test]
    public void Gradients_of_two_tensors_over_one_memory_are_added_up([Values("fused SGD", "SGD")] string optimizer, [ValueSource(nameof(StrategyNames))] string strategy)
    {
        using var first = nn.Parameter(zeros(3));
        using var memory = first.detach();
        using var second = nn.Parameter(memory);
        using var model = new Holder(first, second);
        using var used = optimizer == "SGD" ? optim.SGD([first], 0.5) : (optim.Optimizer)new FusedSgd(model.parameters(), 0.5);
        using Scalar three = 3f;
        var compressor = new TopKCompressor(1);
        IDeploymentStrategy made = strategy switch
        {
            "update" => new UpdateCompression(compressor),
            "gradient" => new GradientCompression(compressor),
            "difference" => new ReplicaDifference(compressor),
            _ => new DenseDeployment(),
        };
        using var trainer = new ProactiveTrainer(
            model, (_, _) => first.sum() + second.mul(three).sum(), used, new ProactiveTrainerOptions { BatchSize = 1, TriggerSize = 1, EvaluateArrivals = false }, new ProactiveTrainerComponents { Strategy = made });
        using var inputs = zeros(1, 1);
        for (var step = 0; step < 2; step++) trainer.Step(inputs, inputs).Dispose();
        using var values = second.detach();
        values.data<float>().ToArray().Should().OnlyContain(x => x == -4);
    }

    private static IEnumerable<string> OptimizerNames() => Optimizers.Keys;

    private static IEnumerable<string> StrategyNames() => Strategies.Keys;

    /// <summary>Predicts a word from a word, with one matrix for both.</summary>
    private sealed class LanguageModel : nn.Module<Tensor, Tensor>
    {
        public const int Words = 12;
        public const int Width = 5;
        private readonly Embedding embedding = nn.Embedding(Words, Width);
        private readonly Linear output = nn.Linear(Width, Words);

        public LanguageModel(bool fromEmbedding)
            : base("language")
        {
            if (fromEmbedding) output.weight = embedding.weight!;
            else embedding.weight = output.weight;
            RegisterComponents();
        }

        public Tensor Embedding => embedding.weight!;

        public Tensor Output => output.weight;

        public override Tensor forward(Tensor input)
        {
            using var vectors = embedding.call(input);
            return output.call(vectors);
        }
    }

    /// <summary>A module that is nothing but parameters.</summary>
    private sealed class Holder : nn.Module
    {
        public Holder(params Parameter[] parameters)
            : base("holder")
        {
            for (var i = 0; i < parameters.Length; i++) register_parameter($"weight{i}", parameters[i]);
        }
    }
}
