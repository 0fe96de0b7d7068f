using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>A model of tensors of every size of element, some of them empty, with any bits as values.</summary>
internal sealed class MixedModel : nn.Module
{
    private static readonly (string Name, ScalarType DType, Func<int, long[]> Shape)[] Parameters =
    [
        ("nothing", ScalarType.Float32, _ => [0, 3]),
        ("weight", ScalarType.Float32, n => [n, 5]),
        ("brain", ScalarType.BFloat16, n => [3, n]),
        ("half", ScalarType.Float16, n => [n]),
        ("none", ScalarType.Float64, _ => [0]),
        ("double", ScalarType.Float64, n => [2, n]),
        ("one", ScalarType.Float32, _ => []),
    ];

    private static readonly (string Name, ScalarType DType, Func<int, long[]> Shape)[] Buffers =
    [
        ("mask", ScalarType.Bool, n => [n]),
        ("count", ScalarType.Int64, _ => []),
        ("mean", ScalarType.Float32, n => [n]),
        ("bytes", ScalarType.Byte, n => [n + 1]),
        ("end", ScalarType.Float32, _ => [0]),
    ];

    private readonly List<Tensor> tensors = [];

    /// <param name="n">About a twelfth of the number of coordinates.</param>
    /// <param name="seed">What the bits are drawn from.</param>
    /// <param name="device">Where its tensors are. Default: main memory.</param>
    public MixedModel(int n, int seed, Device? device = null)
        : base("mixed")
    {
        using var guard = no_grad();
        var random = new Random(seed);
        foreach (var (name, dtype, shape) in Parameters)
        {
            var parameter = new Parameter(Draw(random, dtype, shape(n), device ?? CPU), requires_grad: false);
            tensors.Add(parameter);
            register_parameter(name, parameter);
        }

        foreach (var (name, dtype, shape) in Buffers)
        {
            tensors.Add(Draw(random, dtype, shape(n), device ?? CPU));
            register_buffer(name, tensors[^1]);
        }
    }

    /// <summary>An update to random bits of random coordinates, from the model's current state.</summary>
    /// <param name="tensors">The model's tensors.</param>
    /// <param name="count">The number of coordinates; at most all.</param>
    /// <param name="random">What they are drawn from.</param>
    /// <param name="sequence">The sequence after it.</param>
    public static ModelUpdate Update(ModelTensors tensors, int count, Random random, long sequence = 1)
    {
        var layout = tensors.Layout;
        var coordinates = Enumerable.Range(0, layout.Count).ToArray();
        random.Shuffle(coordinates);
        var builder = new UpdateBuilder();
        var digest = tensors.ComputeDigest();
        foreach (var coordinate in coordinates.Take(count).Order())
        {
            var slot = tensors.Slots[layout.EntryOf(coordinate)];
            var bits = new ulong[1];
            slot.Read([coordinate], bits);

            // Now and then the same bits, or those of infinity and NaN; a bool is 0 or 1.
            var drawn = random.Next(8) switch { 0 => bits[0], 1 => 0x7f807f807f80ul, 2 => 0x7ff8_0000_7fff_7ffful, _ => (ulong)random.NextInt64() };
            drawn &= slot.Entry.DType == DType.Bool ? 1 : ulong.MaxValue >> (64 - (8 * slot.Entry.ElementSize));
            builder.Reserve(1, slot.Entry.ElementSize);
            builder.Record(coordinate, bits[0], drawn, slot.Entry.ElementSize);
            digest += StateDigest.Change(coordinate, bits[0], drawn);
        }

        return builder.Build(new UpdateIdentity(Guid.Empty, sequence - 1, sequence, layout, digest));
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) tensors.ForEach(t => t.Dispose());
        base.Dispose(disposing);
    }

    private static Tensor Draw(Random random, ScalarType dtype, long[] shape, Device device)
    {
        using var result = zeros(shape, dtype: dtype);
        if (result.numel() == 0) return result.to(device, copy: true);
        var bytes = new byte[result.numel() * result.element_size()];
        random.NextBytes(bytes);
        if (dtype == ScalarType.Bool) foreach (ref var value in bytes.AsSpan()) value &= 1;
        bytes.CopyTo(result.bytes);
        return result.to(device, copy: true);
    }
}
