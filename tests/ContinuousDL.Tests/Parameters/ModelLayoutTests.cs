using ContinuousDL.Replication.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Parameters;

public class ModelLayoutTests
{
    [Test]
    public void Coordinates_are_parameters_then_buffers_end_to_end()
    {
        using var model = TestModels.WithBatchNorm();
        var layout = ModelLayout.Of(model);
        layout.Entries.Select(e => (e.Name, e.Kind, e.Offset, e.Length)).Should().Equal(
            ("hidden.weight", CoordinateKind.Parameter, 0, 96),
            ("hidden.bias", CoordinateKind.Parameter, 96, 16),
            ("norm.weight", CoordinateKind.Parameter, 112, 16),
            ("norm.bias", CoordinateKind.Parameter, 128, 16),
            ("output.weight", CoordinateKind.Parameter, 144, 48),
            ("output.bias", CoordinateKind.Parameter, 192, 3),
            ("norm.running_mean", CoordinateKind.Buffer, 195, 16),
            ("norm.running_var", CoordinateKind.Buffer, 211, 16),
            ("norm.num_batches_tracked", CoordinateKind.Buffer, 227, 1));
        layout.Count.Should().Be(228);
        layout.SizeInBytes.Should().Be((227 * 4) + 8);
    }

    [Test]
    public void The_fingerprint_follows_names_shapes_and_dtypes_not_values()
    {
        using var a = TestModels.Mlp();
        using var b = TestModels.Mlp();
        using var narrower = nn.Sequential(("hidden", nn.Linear(TestModels.Features, 15)), ("relu", nn.ReLU()), ("output", nn.Linear(15, TestModels.Classes)));
        using var renamed = nn.Sequential(("first", nn.Linear(TestModels.Features, 16)), ("relu", nn.ReLU()), ("output", nn.Linear(16, TestModels.Classes)));
        using var wider = TestModels.Mlp(ScalarType.Float64);
        var fingerprint = ModelLayout.Of(a).Fingerprint;
        ModelLayout.Of(b).Fingerprint.Should().Be(fingerprint);
        new[] { narrower, renamed, wider }.Select(m => ModelLayout.Of(m).Fingerprint).Should().OnlyHaveUniqueItems().And.NotContain(fingerprint);
    }

    [Test]
    public void FirstDifference_names_the_first_tensor_that_differs()
    {
        using var a = TestModels.Mlp();
        using var b = nn.Sequential(("hidden", nn.Linear(TestModels.Features, 16)), ("relu", nn.ReLU()), ("output", nn.Linear(16, 9)));
        using var c = nn.Sequential(("hidden", nn.Linear(TestModels.Features, 16)));
        var layout = ModelLayout.Of(a);
        layout.FirstDifference(ModelLayout.Of(a)).Should().BeNull();
        layout.FirstDifference(ModelLayout.Of(b)).Should().Contain("output").And.Contain("[3, 16]").And.Contain("[9, 16]");
        layout.FirstDifference(ModelLayout.Of(c)).Should().Contain("missing");
    }

    [Test]
    public void EntryOf_finds_the_tensor_of_every_coordinate_and_skips_empty_ones()
    {
        using var model = new Holder(zeros(3), zeros(0), zeros(0), zeros(2), zeros(1), zeros(0));
        var layout = ModelLayout.Of(model);
        Enumerable.Range(0, layout.Count).Select(layout.EntryOf).Should().Equal(0, 0, 0, 3, 3, 4);
    }

    [Test]
    public void A_dtype_of_more_than_8_bytes_is_refused()
    {
        using var model = new Holder(zeros(1, dtype: ScalarType.ComplexFloat64));
        Action read = () => _ = ModelLayout.Of(model);
        read.Should().Throw<NotSupportedException>().WithMessage("*ComplexFloat64*");
    }

    private sealed class Holder : nn.Module
    {
        public Holder(params Tensor[] tensors)
            : base("holder")
        {
            for (var i = 0; i < tensors.Length; i++) register_buffer($"tensor{i}", tensors[i]);
        }
    }
}
