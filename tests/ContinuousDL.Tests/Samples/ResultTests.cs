using System.Buffers.Binary;
using System.Text.Json;
using ContinuousDL.Samples.FashionStream.Output;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;
using Spectre.Console;

namespace ContinuousDL.Tests.Samples;

public sealed class ResultTests
{
    private static readonly byte[] PngSignature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

    [Test]
    public void Curve_gives_the_share_of_all_arrivals_and_of_the_last_ones()
    {
        var curve = new PrequentialCurve();
        foreach (var correct in new[] { true, false, true, true }) curve.Add(correct);

        curve.Accuracy.Should().Be(0.75);
        curve.AccuracyUpTo(2).Should().Be(0.5);
        curve.AccuracyInWindow(4, 2).Should().Be(1);
        curve.AccuracyInWindow(2, 100).Should().Be(0.5);
        new PrequentialCurve().Accuracy.Should().Be(0);
    }

    [Test]
    public void Json_has_the_promised_fields_and_values()
    {
        var result = Result("update-topk-1e-3", steps: 10, bytes: 4880, correct: [true, true, false, true]);

        using var json = JsonDocument.Parse(ResultJson.Serialize([result]));

        var row = json.RootElement.EnumerateArray().Single();
        row.EnumerateObject().Select(property => property.Name).Should().Equal(
            "strategy", "prequentialAccuracy", "testAccuracy", "trainSeconds", "msPerStep", "bytesPerUpdate", "reduction", "replicaIdentical");
        row.GetProperty("strategy").GetString().Should().Be("update-topk-1e-3");
        row.GetProperty("prequentialAccuracy").GetDouble().Should().Be(0.75);
        row.GetProperty("testAccuracy").GetDouble().Should().Be(0.875);
        row.GetProperty("trainSeconds").GetDouble().Should().Be(2);
        row.GetProperty("msPerStep").GetDouble().Should().Be(200);
        row.GetProperty("bytesPerUpdate").GetDouble().Should().Be(488);
        row.GetProperty("reduction").GetDouble().Should().BeApproximately(246_824 / 488.0, 1e-9);
        row.GetProperty("replicaIdentical").GetBoolean().Should().BeTrue();
    }

    [Test]
    public void Json_of_a_strategy_that_sends_nothing_has_no_reduction()
    {
        using var json = JsonDocument.Parse(ResultJson.Serialize([Result("static", steps: 0, bytes: 0, [true])]));
        var row = json.RootElement[0];
        row.GetProperty("reduction").ValueKind.Should().Be(JsonValueKind.Null);
        row.GetProperty("bytesPerUpdate").GetDouble().Should().Be(0);
        row.GetProperty("msPerStep").GetDouble().Should().Be(0);
    }

    [Test]
    public void Json_of_an_interrupted_run_says_where_it_stopped()
    {
        using var json = JsonDocument.Parse(ResultJson.Serialize([Result("dense", 1, 4, [true, false]) with { StreamLength = 3 }]));
        json.RootElement[0].GetProperty("stoppedAfter").GetInt32().Should().Be(2);
    }

    [Test]
    public void Table_has_a_row_for_each_strategy()
    {
        var output = new StringWriter();
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = AnsiSupport.No, Out = new AnsiConsoleOutput(output) });
        console.Profile.Width = 200;

        ResultTable.Write(console, [Result("static", 0, 0, [true]), Result("dense", 2, 2 * 246_824, [true, false, false]) with { ReplicaIdentical = false }]);

        var lines = output.ToString().Split('\n');
        lines.Single(line => line.Contains("static")).Should().ContainAll("100.00", "87.50", "–", "yes");
        lines.Single(line => line.Contains("dense")).Should().ContainAll("33.33", "246,824", "1×", "NO");
    }

    [Test]
    public void Pictures_are_PNG_files_of_the_announced_size()
    {
        using var folder = new TemporaryFolder();
        var random = new Random(3);
        var results = StrategyCatalog.DefaultNames
            .Select((name, i) => Result(name, i, i * 10_000, [.. Enumerable.Range(0, 400).Select(_ => random.NextDouble() < 0.8)]))
            .ToList();

        var paths = Pictures.Write(Path.Combine(folder.Path, "made", "if needed"), results);

        paths.Should().HaveCount(2);
        foreach (var path in paths)
        {
            var content = File.ReadAllBytes(path);
            content[..8].Should().Equal(PngSignature);
            BinaryPrimitives.ReadInt32BigEndian(content.AsSpan(16)).Should().Be(Pictures.Width);
            BinaryPrimitives.ReadInt32BigEndian(content.AsSpan(20)).Should().Be(Pictures.Height);
        }
    }

    [TestCase(1)]
    [TestCase(2)]
    [TestCase(30)]
    public void Pictures_can_be_drawn_after_an_early_interruption(int arrivals)
    {
        using var folder = new TemporaryFolder();
        var result = Result("static", 0, 0, [.. Enumerable.Repeat(true, arrivals)]) with { StreamLength = 1000 };
        Pictures.Write(folder.Path, [result]).Should().OnlyContain(path => File.Exists(path));
    }

    [Test]
    public void Palette_gives_every_strategy_a_colour_of_its_own()
    {
        var strategies = StrategyCatalog.Find([.. StrategyCatalog.DefaultNames, "update-topk-k1", "ahead-randomk", "difference-randomk", "gradient-randomk"], [1e-3]);
        Palette.Assign(strategies).Values.Select(look => look.Color).Should().OnlyHaveUniqueItems().And.HaveCount(strategies.Count);
    }

    [TestCase(0, "0 B")]
    [TestCase(999, "999 B")]
    [TestCase(1000, "1.00 KB")]
    [TestCase(61_706, "61.7 KB")]
    [TestCase(999_600, "1.00 MB")]
    [TestCase(1_234_000_000, "1.23 GB")]
    public void Size_has_three_digits(double bytes, string text) => ProgressText.Size(bytes).Should().Be(text);

    private static StrategyResult Result(string name, int steps, long bytes, bool[] correct)
    {
        var curve = new PrequentialCurve();
        foreach (var outcome in correct) curve.Add(outcome);
        return new StrategyResult(
            StrategyCatalog.Find([name], [1e-3]).Single(),
            curve,
            TestAccuracy: 0.875,
            new Work(steps, steps, bytes, TimeSpan.FromSeconds(2)),
            ModelBytes: 246_824,
            ReplicaIdentical: true,
            StreamLength: correct.Length);
    }
}
