using ContinuousDL.Parameters;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Parameters;

/// <summary>Two views of one storage may be two tensors of a model exactly where they share no element.</summary>
public class StridedExtentTests
{
    [Test]
    public void Whether_two_views_share_bytes_and_whether_one_meets_itself_is_what_listing_them_says()
    {
        var random = new Random(1);
        var (shared, disjoint, twice) = (0, 0, 0);
        for (var round = 0; round < 20_000; round++)
        {
            var (a, b) = (Draw(random), Draw(random));
            var (first, second) = (BytesOf(a), BytesOf(b));
            var overlap = first.Overlaps(second);
            Extent(a).Overlaps(Extent(b)).Should().Be(overlap, $"{a} and {b}");
            Extent(b).Overlaps(Extent(a)).Should().Be(overlap, $"{b} and {a}");
            var distinct = first.Count == a.Shape.Aggregate(1L, (product, size) => product * size) * a.ElementSize;
            Extent(a).HasDistinctElements.Should().Be(distinct, $"{a}");
            shared += overlap ? 1 : 0;
            disjoint += overlap ? 0 : 1;
            twice += distinct ? 0 : 1;
        }

        shared.Should().BeGreaterThan(1000);
        disjoint.Should().BeGreaterThan(1000);
        twice.Should().BeGreaterThan(1000);
    }

    [Test]
    public void Large_views_are_told_apart_too()
    {
        // Columns, tiles and channels of a matrix of 10^10 elements, of which none is there.
        const long rows = 100_000;
        Large(0, [rows, 3], [rows, 1]).Overlaps(Large(3, [rows, rows - 3], [rows, 1])).Should().BeFalse();
        Large(0, [rows, rows / 2], [rows, 2]).Overlaps(Large(1, [rows, rows / 2], [rows, 2])).Should().BeFalse();
        Large(0, [rows, rows / 2], [rows, 2]).Overlaps(Large(1, [rows, rows / 3], [rows, 3])).Should().BeTrue();
        Large(0, [rows / 2, rows], [rows, 1]).Overlaps(Large(rows * (rows / 2), [rows, rows / 2], [1, rows])).Should().BeFalse();
        Large(7, [50, 60, 70], [rows * 60, rows, 3]).Overlaps(Large(8, [50, 60, 70], [rows * 60, rows, 3])).Should().BeFalse();
        Large(7, [50, 60, 70], [rows * 60, rows, 3]).Overlaps(Large(7 + (69 * 3), [2], [1])).Should().BeTrue();

        static StridedExtent Large(long first, long[] shape, long[] strides) => new((DeviceType.CPU, 0), 64 + (4 * first), 4, shape, strides);
    }

    [Test]
    public void Memory_of_different_devices_is_never_shared() =>
        new StridedExtent((DeviceType.CUDA, 0), 64, 4, [4], [1]).Overlaps(new StridedExtent((DeviceType.CUDA, 1), 64, 4, [4], [1])).Should().BeFalse();

    [TestCase("halves of the last dimension")]
    [TestCase("columns")]
    [TestCase("interleaved columns")]
    [TestCase("a transposed half")]
    public void Disjoint_views_of_one_storage_are_a_models_tensors(string name)
    {
        using var scope = NewDisposeScope();
        var storage = rand(4, 6);
        Tensor[] views = name switch
        {
            "columns" => [storage.select(1, 0), storage.select(1, 2), storage.select(1, 5)],
            "interleaved columns" => [storage[TensorIndex.Colon, TensorIndex.Slice(0, null, 2)], storage[TensorIndex.Colon, TensorIndex.Slice(1, null, 2)]],
            "a transposed half" => [storage.narrow(1, 0, 3).t(), storage.narrow(1, 3, 3)],
            _ => [storage.narrow(1, 0, 3), storage.narrow(1, 3, 3)],
        };
        using var model = new Buffers(views);
        using var tensors = ModelTensors.Of(model);
        tensors.Slots.Should().HaveCount(views.Length);
        using var snapshot = new Buffers([.. views.Select(v => v.clone())]);
        tensors.ComputeDigest().Should().Be(ModelTensors.Of(snapshot).ComputeDigest());
    }

    [TestCase("a shared column")]
    [TestCase("a row and a column")]
    [TestCase("a view and its transpose")]
    public void Views_that_share_an_element_are_refused_by_name(string name)
    {
        using var scope = NewDisposeScope();
        var storage = rand(4, 4);
        Tensor[] views = name switch
        {
            "a row and a column" => [storage.select(0, 2), storage.select(1, 1)],
            "a view and its transpose" => [storage, storage.t()],
            _ => [storage.narrow(1, 0, 3), storage.narrow(1, 2, 2)],
        };
        using var model = new Buffers(views);
        Action read = () => _ = ModelTensors.Of(model);
        read.Should().Throw<ArgumentException>().WithMessage("*buffer0*buffer1*overlap*");
    }

    [TestCase("expanded")]
    [TestCase("windows that slide")]
    public void A_tensor_with_several_elements_in_one_place_is_refused_by_name(string name)
    {
        using var scope = NewDisposeScope();
        using var model = new Buffers(ones(2), name == "expanded" ? ones(3, 1).expand(3, 4) : ones(8).as_strided([4, 3], [1, 2]));
        Action read = () => _ = ModelTensors.Of(model);
        read.Should().Throw<ArgumentException>().WithMessage("*buffer1*several elements*clone*");
    }

    [Test]
    public void A_dimension_of_one_may_have_any_stride()
    {
        using var scope = NewDisposeScope();
        using var model = new Buffers(arange(4L).expand(1, 4));
        using var tensors = ModelTensors.Of(model);
        tensors.Slots.Should().ContainSingle();
    }

    private static StridedExtent Extent(View view) => new((DeviceType.CPU, 0), view.Address, view.ElementSize, view.Shape, view.Strides);

    private static View Draw(Random random)
    {
        var elementSize = 1 << random.Next(4);
        var dimensions = random.Next(4);
        var shape = new long[dimensions];
        var strides = new long[dimensions];
        for (var d = 0; d < dimensions; d++) (shape[d], strides[d]) = (random.Next(1, 5), random.Next(13));
        return new View(elementSize * random.Next(1, 40 / elementSize), elementSize, shape, strides);
    }

    private static HashSet<long> BytesOf(View view)
    {
        var places = new List<long> { view.Address };
        for (var d = 0; d < view.Shape.Length; d++)
        {
            places = [.. places.SelectMany(p => Enumerable.Range(0, (int)view.Shape[d]).Select(i => p + (i * view.Strides[d] * view.ElementSize)))];
        }

        return [.. places.SelectMany(p => Enumerable.Range(0, view.ElementSize).Select(i => p + i))];
    }

    private sealed record View(long Address, int ElementSize, long[] Shape, long[] Strides)
    {
        public override string ToString() => $"{ElementSize} bytes at {Address}, [{string.Join(", ", Shape)}] by [{string.Join(", ", Strides)}]";
    }

    /// <summary>A module that is nothing but buffers.</summary>
    private sealed class Buffers : nn.Module
    {
        public Buffers(params Tensor[] buffers)
            : base("buffers")
        {
            for (var i = 0; i < buffers.Length; i++) register_buffer($"buffer{i}", buffers[i]);
        }
    }
}
