using ContinuousDL.Evaluation;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Evaluation;

public class LogitScoresTests
{
    private delegate void Scores(Tensor logits, ReadOnlySpan<long> labels, int k, Span<int> predicted, Span<bool> amongTopK);

    [Test]
    public void Both_ways_agree_with_a_stable_sort([Range(1, 20)] int seed, [Values] bool byTensorOperations)
    {
        var random = new Random(seed);
        var (n, classes) = (random.Next(1, 20), random.Next(1, 15));
        var k = random.Next(1, classes + 2);
        // Few distinct values, so that most rows have equal logits in them; both zeros among them.
        float[] few = [-1, -0f, 0, 0.5f, float.PositiveInfinity, float.NegativeInfinity];
        var logits = Enumerable.Range(0, n * classes)
            .Select(_ => seed % 2 == 0 ? few[random.Next(few.Length)] : random.NextSingle()).ToArray();
        var labels = Enumerable.Range(0, n).Select(_ => (long)random.Next(classes)).ToArray();

        using var batch = tensor(logits).reshape(n, classes);
        var (predicted, amongTopK) = Score(batch, labels, k, byTensorOperations);

        for (var i = 0; i < n; i++)
        {
            // OrderByDescending is stable: of equal logits, the one of the lower class comes first.
            var order = Enumerable.Range(0, classes).OrderByDescending(c => logits[i * classes + c] + 0f).ToList();
            predicted[i].Should().Be(order[0]);
            amongTopK[i].Should().Be(order.IndexOf((int)labels[i]) < k);
        }
    }

    [Test]
    public void A_row_with_a_NaN_has_no_prediction([Values] bool byTensorOperations)
    {
        using var batch = tensor(new[] { 1f, float.NaN, 0f, 3f, 2f, 1f, float.NaN, float.NaN, float.NaN }).reshape(3, 3);

        var (predicted, amongTopK) = Score(batch, [0, 0, 0], 3, byTensorOperations);

        predicted.Should().Equal(LogitScores.NoPrediction, 0, LogitScores.NoPrediction);
        amongTopK.Should().Equal(false, true, false);
    }

    [TestCase(ScalarType.Float16)]
    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float64)]
    public void Other_dtypes_are_scored_as_float32_is(ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        // Multiples of 1/8 below 16 are exact in all of them.
        var random = new Random(5);
        var values = Enumerable.Range(0, 16 * 10).Select(_ => random.Next(-128, 128) / 8f).ToArray();
        var labels = Enumerable.Range(0, 16).Select(_ => (long)random.Next(10)).ToArray();
        var batch = tensor(values).reshape(16, 10);

        var expected = Score(batch, labels, 3, byTensorOperations: false);

        Score(batch.to(dtype), labels, 3, byTensorOperations: false).Should().BeEquivalentTo(expected);
        Score(batch.to(dtype), labels, 3, byTensorOperations: true).Should().BeEquivalentTo(expected);
    }

    [Test]
    public void Logits_of_float64_that_float32_cannot_tell_apart_are_told_apart([Values] bool contiguous)
    {
        using var scope = NewDisposeScope();
        var batch = tensor(new[] { 1.0, 1.0 + 1e-12, 1.0, 1.0 + 1e-12 }).reshape(2, 2);

        Score(contiguous ? batch : batch.t().contiguous().t(), [0, 0], 1, byTensorOperations: false).Predicted.Should().Equal(1, 1);
    }

    [Test]
    public void Non_contiguous_logits_are_read_in_their_order()
    {
        using var scope = NewDisposeScope();
        var batch = tensor(new[] { 0f, 1f, 2f, 9f, 8f, 7f }).reshape(3, 2).t();

        batch.is_contiguous().Should().BeFalse();
        Score(batch, [0, 0], 1, byTensorOperations: false).Predicted.Should().Equal(2, 1);
    }

    [Test]
    public void A_slice_is_read_from_where_it_starts()
    {
        using var scope = NewDisposeScope();
        var batch = tensor(new[] { 9f, 0f, 0f, 1f, 9f, 0f }).reshape(3, 2)[TensorIndex.Slice(1, 3)];

        batch.is_contiguous().Should().BeTrue();
        Score(batch, [0, 0], 1, byTensorOperations: false).Predicted.Should().Equal(1, 0);
    }

    private static (int[] Predicted, bool[] AmongTopK) Score(Tensor logits, long[] labels, int k, bool byTensorOperations)
    {
        Scores compute = byTensorOperations ? LogitScores.ComputeByTensorOperations : LogitScores.Compute;
        var (predicted, amongTopK) = (new int[labels.Length], new bool[labels.Length]);
        compute(logits, labels, k, predicted, amongTopK);
        return (predicted, amongTopK);
    }
}
