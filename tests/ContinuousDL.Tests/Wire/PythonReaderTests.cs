using System.Diagnostics;
using System.Globalization;
using System.Text;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>The reader in Python comes to the states that the trainer had, from the bytes that it wrote.</summary>
[Category("Native")]
public class PythonReaderTests
{
    private const int Steps = 12;

    private static readonly string? Python = FindPython();

    private string folder = null!;

    [SetUp]
    public void MakeFolder()
    {
        if (Python is null) Assert.Ignore("There is no Python 3 with numpy (Debian: apt-get install python3-numpy).");
        folder = Directory.CreateTempSubdirectory("python-").FullName;
    }

    [TearDown]
    public void DeleteFolder()
    {
        if (folder is not null) Directory.Delete(folder, recursive: true);
    }

    [TestCase(DeployedValuePrecision.Float32, 0.02)]
    [TestCase(DeployedValuePrecision.BFloat16, 0.02)]
    [TestCase(DeployedValuePrecision.Float16, 0.02)]
    [TestCase(DeployedValuePrecision.Float32, 0.7)]
    public void Sparse_updates_lead_to_the_trainers_states(DeployedValuePrecision precision, double density)
    {
        using var trainer = new Trainer(new UpdateCompression(new TopKCompressor(density)), precision, ScalarType.Float32);
        Follow(trainer);
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    [TestCase(ScalarType.Float64)]
    public void Models_of_other_dtypes_are_followed(ScalarType dtype)
    {
        using var trainer = new Trainer(new UpdateCompression(new TopKCompressor(0.1)), DeployedValuePrecision.Float32, dtype);
        Follow(trainer);
    }

    [Test]
    public void Whole_updates_lead_to_the_trainers_states()
    {
        using var trainer = new Trainer(new DenseDeployment(), DeployedValuePrecision.Float32, ScalarType.Float32);
        Follow(trainer);
    }

    [Test]
    public void A_rollback_is_followed()
    {
        using var trainer = new Trainer(new UpdateCompression(new TopKCompressor(0.05)), DeployedValuePrecision.Float32, ScalarType.Float32);
        var start = trainer.Proactive.CreateSnapshot();
        Follow(trainer, t => t.RollBackTo(start));
    }

    [TestCase("", "", true)]
    [TestCase("snapshot", "", false)]
    [TestCase("", "message", false)]
    public void With_a_key_what_is_not_signed_with_it_is_refused(string wrongSnapshot, string wrongMessage, bool accepted)
    {
        byte[] key = [.. Enumerable.Range(0, 20).Select(i => (byte)(i * 7))];
        using var signing = UpdateSigning.HmacSha256(key);
        using var other = UpdateSigning.HmacSha256([.. key, 1]);
        UpdateCodec Codec(string wrong) => new(new() { Signing = wrong.Length > 0 ? other : signing });
        using var trainer = new Trainer(new UpdateCompression(new TopKCompressor(0.05)), DeployedValuePrecision.Float32, ScalarType.Float32);
        Codec(wrongSnapshot).Sign(trainer.Proactive.CreateSnapshot()).Save(Path.Combine(folder, "snapshot"));
        using var step = trainer.Step();
        File.WriteAllBytes(Path.Combine(folder, "1"), Codec(wrongMessage).Encode(step.Update!));
        var (status, output) = Run(["1"], Convert.ToHexString(key));
        (status == 0).Should().Be(accepted, output);
        if (accepted) output.Should().Contain($"1 {trainer.Proactive.Deployed.Digest:x16} applied");
        else output.Should().Contain("signature is not right");
    }

    [Test]
    public void A_damaged_message_is_refused()
    {
        using var trainer = new Trainer(new UpdateCompression(new TopKCompressor(0.05)), DeployedValuePrecision.Float32, ScalarType.Float32);
        trainer.Proactive.CreateSnapshot().Save(Path.Combine(folder, "snapshot"));
        using var step = trainer.Step();
        var message = new UpdateCodec().Encode(step.Update!);
        message[^9] ^= 0x10;
        File.WriteAllBytes(Path.Combine(folder, "0"), message);
        var (status, output) = Run(["0"]);
        status.Should().NotBe(0);
        output.Should().Contain("the message is damaged");
    }

    /// <summary>Damaged snapshots and messages, most with the right checksum: ValueError alone is raised, and nothing changes.</summary>
    [Test]
    public void Hostile_bytes_are_refused_and_change_nothing()
    {
        const int count = 4000;
        var files = new List<string>();
        foreach (var (precision, density) in new[] { (DeployedValuePrecision.Float32, 0.05), (DeployedValuePrecision.BFloat16, 0.7) })
        {
            using var trainer = new Trainer(new UpdateCompression(new TopKCompressor(density)), precision, ScalarType.Float32);
            trainer.Proactive.CreateSnapshot().Save(Path.Combine(folder, "snapshot"));
            for (var i = 0; i < 2; i++)
            {
                using var step = trainer.Step();
                files.Add($"{precision}-{i}");
                File.WriteAllBytes(Path.Combine(folder, files[^1]), new UpdateCodec().Encode(step.Update!));
            }
        }

        string[] arguments = [Path.Combine(AppContext.BaseDirectory, "fuzz_reader.py"), Path.Combine(AppContext.BaseDirectory, "interop"), $"{count}", "snapshot", .. files];
        var (status, output) = Run(Python!, arguments, folder);
        status.Should().Be(0, output);
        TestContext.Out.WriteLine(output);
        var refused = output.Split('\n').Where(l => l.Contains(" of ")).Select(l => int.Parse(l.Split(' ')[0], CultureInfo.InvariantCulture)).ToArray();
        refused.Should().HaveCount(2);
        refused[0].Should().BeGreaterThan(count / 20);
        refused[1].Should().BeGreaterThan(count * 9 / 10);
    }

    private void Follow(Trainer trainer, Func<ProactiveTrainer, ModelUpdate>? last = null)
    {
        var codec = new UpdateCodec();
        trainer.Proactive.CreateSnapshot().Save(Path.Combine(folder, "snapshot"));
        var expected = new StringBuilder(FormattableString.Invariant($"0 {trainer.Proactive.Deployed.Digest:x16}\n"));
        var files = new List<string>();
        for (var i = 0; i < Steps; i++)
        {
            using var step = trainer.Step();
            Write(step.Update!, "applied");
        }

        if (last is not null)
        {
            using var update = last(trainer.Proactive);
            Write(update, "applied");
        }

        // A message that it has had already.
        files.Add(files[3]);
        expected.Append(CultureInfo.InvariantCulture, $"{trainer.Proactive.Deployed.Sequence} {trainer.Proactive.Deployed.Digest:x16} had it\n");
        Run(files).Should().Be((0, expected.ToString()));

        void Write(ModelUpdate update, string what)
        {
            var name = update.Sequence.ToString(CultureInfo.InvariantCulture);
            File.WriteAllBytes(Path.Combine(folder, name), codec.Encode(update));
            files.Add(name);
            expected.Append(CultureInfo.InvariantCulture, $"{update.Sequence} {trainer.Proactive.Deployed.Digest:x16} {what}\n");
        }
    }

    /// <summary>Runs the reader on the snapshot and these files.</summary>
    private (int Status, string Output) Run(IEnumerable<string> files, string? key = null) =>
        Run(Python!, [Path.Combine(AppContext.BaseDirectory, "interop", "continuousdl.py"), "snapshot", .. files], folder, key);

    private static (int Status, string Output) Run(string program, string[] arguments, string directory, string? key = null)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = directory, RedirectStandardOutput = true, RedirectStandardError = true };
        if (key is not null) start.Environment["CONTINUOUSDL_HMAC_KEY"] = key;
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + errors.Result);
    }

    private static string? FindPython() => new[] { "/usr/bin/python3", "python3", "python" }.FirstOrDefault(program =>
    {
        try
        {
            return Run(program, ["-c", "import numpy"], Path.GetTempPath()).Status == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    });

    /// <summary>A trainer on a stream, of a model with buffers.</summary>
    private sealed class Trainer : IDisposable
    {
        private readonly ScalarType dtype;
        private readonly Sequential model;
        private readonly CrossEntropyLoss loss = nn.CrossEntropyLoss();
        private readonly FusedAdam optimizer;
        private int steps;

        public Trainer(IDeploymentStrategy strategy, DeployedValuePrecision precision, ScalarType dtype)
        {
            random.manual_seed(1);
            this.dtype = dtype;
            model = TestModels.WithBatchNorm();
            model.to(dtype);
            optimizer = new FusedAdam(model.parameters(), 0.01);
            Proactive = new ProactiveTrainer(
                model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 16, DeployedValuePrecision = precision }, new ProactiveTrainerComponents { Strategy = strategy });
        }

        public ProactiveTrainer Proactive { get; }

        public StepResult Step()
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, steps++);
            return Proactive.Step(inputs.to(dtype), targets);
        }

        public void Dispose()
        {
            Proactive.Dispose();
            optimizer.Dispose();
            loss.Dispose();
            model.Dispose();
        }
    }
}
