using ContinuousDL.Samples.FashionStream;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Strategies;
using StreamCommandLine = ContinuousDL.Samples.FashionStream.CommandLine;

namespace ContinuousDL.Tests.Samples;

public sealed class CommandLineTests
{
    [Test]
    public void No_arguments_asks_for_the_published_comparison_on_the_embedded_data()
    {
        var options = Parse();

        options.Strategies.Select(strategy => strategy.Name).Should().Equal(
            "static", "retrain", "online", "dense",
            "update-topk-1e-2", "update-topk-1e-3", "update-topk-1e-4", "update-randomk-1e-2",
            "ahead-topk-1e-2", "ahead-topk-1e-3", "ahead-topk-1e-4",
            "difference-topk-1e-2", "difference-topk-1e-3", "difference-topk-1e-4", "gradient-topk-1e-3");
        (options.Settings.Trigger, options.Settings.Seed).Should().Be((8, 1));
        (options.DataDirectory, options.Format).Should().Be((StreamData.EmbeddedDirectory, DataFormat.Mnist));
        (options.MostTraining, options.MostTest, options.JsonFile, options.Threads).Should().Be((int.MaxValue, int.MaxValue, null, Environment.ProcessorCount));
    }

    [Test]
    public void Every_option_arrives_where_it_belongs()
    {
        using var folder = new TemporaryFolder();
        var options = Parse(
            "--data", folder.Path, "--dataset", "cifar10", "--strategies", "static,dense", "--trigger", "64", "--seed", "7",
            "--output", "pictures", "--json", "result.json", "--threads", "2");

        options.Should().BeEquivalentTo(new
        {
            DataDirectory = folder.Path,
            Format = DataFormat.Cifar10,
            OutputDirectory = "pictures",
            JsonFile = "result.json",
            Threads = 2,
            Settings = new { Trigger = 64, Seed = 7 },
        });
        options.Strategies.Should().Equal(new Strategy("static", StrategyKind.Static), new Strategy("dense", StrategyKind.Dense));
    }

    [Test]
    public void Quick_takes_fewer_samples_and_epochs()
    {
        var (quick, whole) = (Parse("--quick"), Parse());
        quick.MostTraining.Should().BeLessThan(12_000);
        quick.Settings.Epochs(400).Should().BeLessThan(whole.Settings.Epochs(400));
        quick.Strategies.Should().Equal(whole.Strategies);
    }

    [TestCase(10_000, 10)]
    [TestCase(60_000, 10)]
    [TestCase(2_000, 50)]
    [TestCase(12_000, 10)]
    public void Epochs_are_those_of_the_protocol_and_more_on_small_sets(int samples, int epochs) => Parse().Settings.Epochs(samples).Should().Be(epochs);

    [Test]
    public void Density_alone_goes_to_every_sparse_strategy() =>
        Names("--density", "1e-2,0.5").Should().Equal(
            "static", "retrain", "online", "dense",
            "update-topk-1e-2", "update-topk-5e-1", "update-randomk-1e-2", "update-randomk-5e-1",
            "ahead-topk-1e-2", "ahead-topk-5e-1", "difference-topk-1e-2", "difference-topk-5e-1", "gradient-topk-1e-2", "gradient-topk-5e-1");

    [Test]
    public void Density_goes_to_the_names_that_have_none_of_their_own() =>
        Names("--density", "2.5e-3", "--strategies", "update-topk, gradient-topk-1e-2").Should().Equal("update-topk-2.5e-3", "gradient-topk-1e-2");

    [Test]
    public void Names_are_known_in_any_notation_of_their_density_and_taken_once() =>
        Names("--strategies", "Update-TopK-0.001,update-topk-1e-3,update-topk-1E-03,update-topk").Should().Equal("update-topk-1e-3");

    [Test]
    public void K_stands_for_a_number_of_coordinates() =>
        Parse("--strategies", "update-topk-k1").Strategies.Should().Equal(new Strategy("update-topk-k1", StrategyKind.Update, CoordinateChoice.TopK, Count: 1));

    [TestCase("--strategies", "nonsense", "'nonsense' is not a strategy")]
    [TestCase("--strategies", "update-topk-2", "'2', which is neither a density")]
    [TestCase("--strategies", "update-topk-k0", "'k0', which is neither")]
    [TestCase("--strategies", ",", "--strategies names none")]
    [TestCase("--density", "0", "--density is a number above 0 and up to 1")]
    [TestCase("--density", "1.5", "not '1.5'")]
    [TestCase("--density", "NaN", "not 'NaN'")]
    [TestCase("--density", "1e-2,", "not ''")]
    [TestCase("--trigger", "0", "--trigger is 1 to 128, not 0")]
    [TestCase("--trigger", "129", "not 129")]
    [TestCase("--trigger", "many", "many")]
    [TestCase("--seed", "-1", "--seed is 0 or more, not -1")]
    [TestCase("--threads", "0", "--threads is 1 to 1024, not 0")]
    [TestCase("--dataset", "imagenet", "--dataset is mnist or cifar10, not 'imagenet'")]
    [TestCase("--dataset", "cifar10", "needs --data")]
    [TestCase("--data", "no-such-folder", "'no-such-folder', which doesn't exist")]
    [TestCase("--colour", "red", "--colour")]
    [TestCase("--json", null, "--json")]
    public void Wrong_value_gives_one_line_that_names_it_and_exit_code_2(string option, string? value, string message)
    {
        var error = new StringWriter();
        string[] arguments = value is null ? [option] : [option, value];

        var exitCode = new StreamCommandLine().Invoke(arguments, TextWriter.Null, error, _ => throw new AssertionException("It ran."));

        exitCode.Should().Be(2);
        error.ToString().Should().Contain(message);
        error.ToString().TrimEnd('\n').Should().NotContain("\n");
    }

    [Test]
    public void Help_lists_every_option_with_examples()
    {
        var output = new StringWriter();
        new StreamCommandLine().Invoke(["--help"], output, TextWriter.Null, _ => throw new AssertionException("It ran.")).Should().Be(0);
        output.ToString().Should().ContainAll(
            "--data", "--dataset", "--strategies", "--density", "--trigger", "--seed", "--output", "--json", "--quick", "--threads", "Examples:", "Exit codes:");
    }

    private static IEnumerable<string> Names(params string[] arguments) => Parse(arguments).Strategies.Select(strategy => strategy.Name);

    private static RunOptions Parse(params string[] arguments)
    {
        RunOptions? options = null;
        var error = new StringWriter();
        new StreamCommandLine().Invoke(arguments, TextWriter.Null, error, parsed =>
        {
            options = parsed;
            return 0;
        });
        error.ToString().Should().BeEmpty();
        return options!;
    }
}
