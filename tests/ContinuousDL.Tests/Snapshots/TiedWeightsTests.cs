using System.Text.Json;
using ContinuousDL.Replication.Updates;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Snapshots;

/// <summary>Files of other tools have weights that layers share under one of their names or under each, and are read either way.</summary>
public class TiedWeightsTests
{
    private static readonly float[] Weights = [1, 2, 3, 4, 5, 6];

    [Test]
    public void A_file_with_one_of_the_names_is_read([Values("body.weight", "head.weight")] string name)
    {
        using var module = new Tied();
        var snapshot = Load(FileOf((name, Weights)), module);
        snapshot.Layout.Entries.Should().ContainSingle();
        snapshot.CopyTo(module);
        module.head.weight!.data<float>().ToArray().Should().Equal(Weights);
        module.body.weight!.data<float>().ToArray().Should().Equal(Weights);
    }

    [Test]
    public void A_file_with_both_names_and_the_same_values_is_read()
    {
        using var module = new Tied();
        Load(FileOf(("body.weight", Weights), ("head.weight", Weights)), module).CopyTo(module);
        module.head.weight!.data<float>().ToArray().Should().Equal(Weights);
    }

    [Test]
    public void Different_values_under_both_names_are_refused()
    {
        using var module = new Tied();
        var file = FileOf(("body.weight", Weights), ("head.weight", [1, 2, 3, 4, 5, 7]));
        FluentActions.Invoking(() => Load(file, module)).Should().Throw<ModelMismatchException>().WithMessage("*'body.weight'*'head.weight'*share*");
    }

    [Test]
    public void Another_shape_or_name_is_refused()
    {
        using var module = new Tied();
        FluentActions.Invoking(() => Load(FileOf(("other.weight", Weights)), module)).Should().Throw<ModelMismatchException>().WithMessage("*body.weight*");
        FluentActions.Invoking(() => Load(FileOf(("head.weight", Weights), ("other.weight", Weights)), module))
            .Should().Throw<ModelMismatchException>().WithMessage("*other.weight*not in the module*");
    }

    [Test]
    public void A_module_that_does_not_share_gets_both_tensors_of_one_by_the_metadata()
    {
        // As PyTorch's tools write it: the name that was left out, and the one that has its values.
        var file = FileOf(new Dictionary<string, string> { ["format"] = "pt", ["body.weight"] = "head.weight" }, ("head.weight", Weights));
        using var module = new Tied(share: false);
        Load(file, module).CopyTo(module);
        module.head.weight!.data<float>().ToArray().Should().Equal(Weights);
        module.body.weight!.data<float>().ToArray().Should().Equal(Weights);
        FluentActions.Invoking(() => Load(FileOf(("head.weight", Weights)), module)).Should().Throw<ModelMismatchException>().WithMessage("*body.weight*");
    }

    private static ModelSnapshot Load(byte[] file, nn.Module module) => ModelSnapshot.Load(new MemoryStream(file), module);

    private static byte[] FileOf(params (string Name, float[] Values)[] tensors) => FileOf(new Dictionary<string, string> { ["format"] = "pt" }, tensors);

    private static byte[] FileOf(Dictionary<string, string> metadata, params (string Name, float[] Values)[] tensors)
    {
        var header = new Dictionary<string, object> { ["__metadata__"] = metadata };
        var data = new List<byte>();
        foreach (var (name, values) in tensors)
        {
            var begin = data.Count;
            data.AddRange(values.SelectMany(BitConverter.GetBytes));
            header[name] = new { dtype = "F32", shape = new[] { 2, 3 }, data_offsets = new[] { begin, data.Count } };
        }

        var json = JsonSerializer.SerializeToUtf8Bytes(header);
        return [.. BitConverter.GetBytes((long)json.Length), .. json, .. data];
    }

    private sealed class Tied : nn.Module
    {
        public readonly Linear body = nn.Linear(3, 2, hasBias: false);
        public readonly Linear head = nn.Linear(3, 2, hasBias: false);

        public Tied(bool share = true)
            : base(nameof(Tied))
        {
            if (share) head.weight = body.weight;
            RegisterComponents();
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                body.Dispose();
                head.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
