using ContinuousDL.Failures;
using CsCheck;

namespace ContinuousDL.Tests.Failures;

/// <summary>Exactly the samples are found that make a batch fail, in few trials; or none, where it isn't samples.</summary>
public class OffenderSearchTests
{
    private static readonly StepProblem Problem = new(SkipReason.NonFiniteLoss, "The loss is NaN.");

    [Test]
    public void Finds_exactly_the_offenders()
    {
        var batches = Gen.Select(Gen.Int[2, 128], Gen.Int[1, 5].SelectMany(count => Gen.Int[0, 127].Array[count]), Gen.Bool);
        batches.Sample((n, rows, hasControl) =>
        {
            var bad = rows.Select(row => (long)(row % n)).ToHashSet();
            var batch = Numbers(0, n);
            var trials = 0;
            var found = OffenderSearch.Find(batch, hasControl ? Numbers(1000, n) : [], samples =>
            {
                trials++;
                samples.Length.Should().BeLessThanOrEqualTo(n + 1, "a trial takes no more memory than a step, but for one sample where n is odd");
                return samples.Any(bad.Contains) ? Problem : null;
            });

            if (hasControl || bad.Count * 2 < n) found.Select(f => f.Index).Should().BeEquivalentTo(bad);
            else found.Select(f => f.Index).Should().BeSubsetOf(bad);
            trials.Should().BeLessThanOrEqualTo(16 * (2 + (int)Math.Log2(n)));
        });
    }

    [Test]
    public void Sample_that_fails_only_alone_is_innocent()
    {
        // As batch normalisation does; and sample 5 makes any group fail.
        var found = OffenderSearch.Find(Numbers(0, 8), [], samples => samples.Length == 1 || samples.Contains(5) ? Problem : null);

        found.Select(f => f.Index).Should().Equal(5);
    }

    [Test]
    public void Samples_without_a_label_are_innocent()
    {
        // A mean over nothing but ignored labels, here the even samples, is NaN; and so is one with sample 3.
        var found = OffenderSearch.Find(Numbers(0, 16), Numbers(100, 16), samples => samples.All(s => s % 2 == 0) || samples.Contains(3) ? Problem : null);

        found.Select(f => f.Index).Should().Equal(3);
    }

    [Test]
    public void Model_that_fails_on_everything_blames_no_sample_and_is_found_out_at_once()
    {
        var trials = 0;
        OffenderSearch.Find(Numbers(0, 128), Numbers(1000, 128), Fail).Should().BeEmpty();
        trials.Should().BeLessThanOrEqualTo(8);

        StepProblem? Fail(long[] samples)
        {
            trials++;
            return Problem;
        }
    }

    [Test]
    public void Batch_that_is_too_large_blames_no_sample([Values(0, 1, 16)] int control, [Range(1, 15)] int largest)
    {
        OffenderSearch.Find(Numbers(0, 16), Numbers(100, control), samples => samples.Length > largest ? Problem : null).Should().BeEmpty();
    }

    [Test]
    public void Failure_that_does_not_come_again_blames_no_sample()
    {
        OffenderSearch.Find(Numbers(0, 16), [], _ => null).Should().BeEmpty();
    }

    [Test]
    public void Sample_that_is_in_the_batch_twice_is_found_once()
    {
        OffenderSearch.Find([1, 7, 2, 7, 3], [], samples => samples.Contains(7) ? Problem : null).Select(f => f.Index).Should().Equal(7);
    }

    private static long[] Numbers(long first, int count) => [.. Enumerable.Range(0, count).Select(i => first + i)];
}
