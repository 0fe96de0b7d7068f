using ContinuousDL.History;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.History;

/// <summary>What a history in memory does beside what every history does.</summary>
public sealed class InMemorySampleHistoryTests : SampleHistoryContractTests
{
    protected override ISampleHistory Create(long? capacity = null, long chunkBytes = DefaultChunk) =>
        new InMemorySampleHistory(new() { Capacity = capacity, MaximumChunkBytes = chunkBytes });

    [Test]
    public void Capacity_bounds_the_number_of_tensors_held()
    {
        using var history = new InMemorySampleHistory(new() { Capacity = 100 });
        var before = Tensor.TotalCount;

        for (var i = 0; i < 500; i++) HistorySamples.AppendNumbers(history, i * 7, 7);

        // Nine chunks and a bit, of two tensors each.
        (Tensor.TotalCount - before).Should().BeLessThanOrEqualTo(20);
    }

    [Test]
    public void Dispose_releases_every_tensor()
    {
        var before = Tensor.TotalCount;
        using (var history = new InMemorySampleHistory(new() { MaximumChunkBytes = 64 }))
        {
            HistorySamples.AppendNumbers(history, 0, 100);
            (Tensor.TotalCount - before).Should().BePositive();
        }

        Tensor.TotalCount.Should().BeLessThanOrEqualTo(before);
    }

    [Test]
    public void Options_out_of_range_fail_and_are_named()
    {
        var capacity = () => new InMemorySampleHistory(new() { Capacity = 0 });
        var chunk = () => new InMemorySampleHistory(new() { MaximumChunkBytes = -5 });

        capacity.Should().Throw<ArgumentException>().WithMessage("*InMemorySampleHistoryOptions.Capacity is 0*between 1 and*").WithParameterName("options");
        chunk.Should().Throw<ArgumentException>().WithMessage("*InMemorySampleHistoryOptions.MaximumChunkBytes is -5*between 1 and*");
    }

    [Test]
    public void SampleBatch_of_tensors_of_different_lengths_fails()
    {
        using var scope = NewDisposeScope();

        var lengths = () => new SampleBatch(ones(3, 2), ones(2));
        var dimensions = () => new SampleBatch(tensor(1f), ones(1));

        lengths.Should().Throw<ArgumentException>().WithMessage("*[3, 2]*[2]*");
        dimensions.Should().Throw<ArgumentException>();
    }
}
