using ContinuousDL.Sampling;

namespace ContinuousDL.Tests.Sampling;

/// <summary>Online learning: new samples and nothing else.</summary>
public class OnlineSamplerTests
{
    [Test]
    public void Batches_are_the_new_samples_in_order_with_a_partial_last_one_and_then_none()
    {
        var sampler = new OnlineSampler();
        var batch = new long[4];

        var first = sampler.Sample(new SampleRange(0, 100, 106), batch);
        first.Should().Be(new BatchSelection(Count: 4, NewCount: 4, FirstNew: 104));
        batch.Should().Equal(100, 101, 102, 103);

        var second = sampler.Sample(new SampleRange(0, 104, 106), batch);
        second.Should().Be(new BatchSelection(Count: 2, NewCount: 2, FirstNew: 106));
        batch[..2].Should().Equal(104, 105);

        sampler.Sample(new SampleRange(0, 106, 106), batch).Should().Be(new BatchSelection(Count: 0, NewCount: 0, FirstNew: 106));
    }

    [Test]
    public void WithReplacement_has_no_effect()
    {
        var sampler = new OnlineSampler(new() { WithReplacement = true });

        sampler.Sample(new SampleRange(0, 100, 102), 4).Should().Equal(100, 101);
    }

    [Test]
    public void Without_AlwaysIncludeNew_it_fails_and_names_the_option()
    {
        var make = () => new OnlineSampler(new() { AlwaysIncludeNew = false });

        make.Should().Throw<ArgumentException>().WithMessage("*AlwaysIncludeNew is false*").WithParameterName("options");
    }
}
