using System.Numerics;
using ContinuousDL.History;
using CsCheck;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.History;

/// <summary>What every history keeps, for how long, and what it refuses.</summary>
public abstract class SampleHistoryContractTests
{
    /// <summary>How large the pieces are that a history takes memory or room on disk in, when nothing else is said.</summary>
    protected const long DefaultChunk = 32L << 20;

    /// <summary>The sizes of such pieces to try.</summary>
    protected virtual long[] ChunkSizes => [1, 100, 1000, DefaultChunk];

    /// <summary>How many random histories to try.</summary>
    protected virtual int Runs => 200;

    /// <summary>Makes an empty history.</summary>
    protected abstract ISampleHistory Create(long? capacity = null, long chunkBytes = DefaultChunk);

    protected static readonly ScalarType[] Dtypes =
    [
        float32, float64, bfloat16, float16, int8, int16, int32, int64, uint8, ScalarType.Bool, complex64, complex128,
    ];

    [Test]
    public void New_history_is_empty()
    {
        using var history = Create();

        (history.FirstIndex, history.EndIndex, history.Count).Should().Be((0, 0, 0));
    }

    [TestCase(null)]
    [TestCase(7L)]
    public void Capacity_is_told(long? capacity)
    {
        using var history = Create(capacity);

        history.Capacity.Should().Be(capacity);
    }

    [Test]
    public void Append_gives_indices_in_the_order_of_arrival()
    {
        using var history = Create();

        HistorySamples.AppendNumbers(history, 0, 3).Should().Be(0);
        HistorySamples.AppendNumbers(history, 3, 1).Should().Be(3);
        HistorySamples.AppendNumbers(history, 4, 2).Should().Be(4);

        (history.FirstIndex, history.EndIndex, history.Count).Should().Be((0, 6, 6));
    }

    [Test]
    public void Gather_gives_the_samples_in_the_order_of_the_indices_and_repeats_them()
    {
        using var history = Create();
        HistorySamples.AppendNumbers(history, 0, 10);

        using var batch = history.Gather([7, 0, 7, 9]);

        batch.Count.Should().Be(4);
        batch.Inputs.data<float>().Should().Equal(7, 0, 7, 9);
        batch.Targets.data<long>().Should().Equal(-7, 0, -7, -9);
    }

    /// <summary>Random appends of random shapes, over chunk sizes and capacities, against a list of rows.</summary>
    [Test]
    [Category("Slow")]
    public void Gather_after_any_appends_gives_the_bytes_that_were_appended()
    {
        var runs =
            from shape in Gen.Long[0, 3].Array[0, 3]
            from dtype in Gen.Int[0, Dtypes.Length - 1]
            from batchSizes in Gen.Int[1, 40].Array[1, 8]
            from capacity in Gen.OneOf(Gen.Const(0L), Gen.Long[1, 60])
            from chunkBytes in Gen.OneOf([.. ChunkSizes.Select(size => Gen.Const(size))])
            from seed in Gen.Int
            select (shape, dtype: Dtypes[dtype], batchSizes, capacity, chunkBytes, seed);

        runs.Sample(
            run =>
            {
                using var scope = NewDisposeScope();
                using var history = Create(run.capacity == 0 ? null : run.capacity, run.chunkBytes);
                var rows = new List<(byte[] Input, byte[] Target)>();
                var random = new Random(run.seed);
                foreach (var batchSize in run.batchSizes)
                {
                    var inputs = HistorySamples.RandomBits(random, [batchSize, .. run.shape], run.dtype);
                    var targets = HistorySamples.RandomBits(random, [batchSize], int64);
                    history.Append(inputs, targets).Should().Be(rows.Count);
                    for (var i = 0; i < batchSize; i++) rows.Add((HistorySamples.Bytes(inputs[i]), HistorySamples.Bytes(targets[i])));
                }

                history.EndIndex.Should().Be(rows.Count);
                history.FirstIndex.Should().Be(run.capacity == 0 ? 0 : Math.Max(0, rows.Count - run.capacity));
                var indices = Enumerable.Range(0, 50).Select(_ => random.NextInt64(history.FirstIndex, history.EndIndex)).ToArray();
                using var batch = history.Gather(indices);
                batch.Inputs.shape.Should().Equal([50, .. run.shape]);
                batch.Inputs.dtype.Should().Be(run.dtype);
                HistorySamples.Bytes(batch.Inputs).Should().Equal(indices.SelectMany(index => rows[(int)index].Input));
                HistorySamples.Bytes(batch.Targets).Should().Equal(indices.SelectMany(index => rows[(int)index].Target));
            },
            iter: Runs,
            seed: "0000dGqgr0W5",
            threads: 1);
    }

    [TestCaseSource(nameof(Dtypes))]
    public void Every_dtype_is_kept_bit_by_bit_as_input_and_as_target(ScalarType dtype)
    {
        using var history = Create();
        using var inputs = HistorySamples.RandomBits(new Random(1), [5, 2, 3], dtype);
        using var targets = HistorySamples.RandomBits(new Random(2), [5], dtype);

        history.Append(inputs, targets);
        using var batch = history.Gather([0, 1, 2, 3, 4]);

        (batch.Inputs.dtype, batch.Targets.dtype).Should().Be((dtype, dtype));
        HistorySamples.Bytes(batch.Inputs).Should().Equal(HistorySamples.Bytes(inputs));
        HistorySamples.Bytes(batch.Targets).Should().Equal(HistorySamples.Bytes(targets));
    }

    [Test]
    public void Append_of_a_view_keeps_what_the_view_shows()
    {
        using var scope = NewDisposeScope();
        using var history = Create();
        var memory = arange(60, dtype: float32).reshape(3, 4, 5);
        Tensor[] views =
        [
            memory.permute(2, 1, 0),
            memory.transpose(0, 1)[TensorIndex.Slice(1, 4)].transpose(1, 2)[TensorIndex.Colon, TensorIndex.Slice(0, 4)],
            arange(4, dtype: float32).reshape(1, 4, 1).expand(2, 4, 3),
            memory.permute(2, 1, 0)[TensorIndex.Slice(0, null, 2)],
        ];
        var expected = new List<float>();

        foreach (var view in views)
        {
            history.Append(view, zeros(view.shape[0]));
            expected.AddRange(view.contiguous().data<float>());
        }

        using var batch = history.Gather(HistorySamples.Indices(0, history.EndIndex));
        batch.Inputs.data<float>().Should().Equal(expected);
    }

    [Test]
    public void Append_of_a_lazily_conjugated_tensor_keeps_its_values()
    {
        using var scope = NewDisposeScope();
        using var history = Create();
        var values = tensor(new Complex[] { new(1, 2), new(3, -4) });

        history.Append(values.conj(), zeros(2));

        using var batch = history.Gather([0, 1]);
        batch.Inputs.data<Complex>().ToArray().Should().Equal(new Complex[] { new(1, -2), new(3, 4) });
    }

    [Test]
    public void Append_of_inputs_that_require_a_gradient_keeps_them_without_their_graph()
    {
        using var scope = NewDisposeScope();
        using var history = Create();
        var weights = ones(2, 3, requires_grad: true);

        history.Append(weights * 2, zeros(2));
        history.Append(weights, zeros(2));

        using var batch = history.Gather([0, 3]);
        batch.Inputs.requires_grad.Should().BeFalse();
        batch.Inputs.data<float>().Should().Equal(2, 2, 2, 1, 1, 1);
    }

    [Test]
    public void History_filled_and_read_in_inference_mode_can_be_trained_on_outside_of_it()
    {
        using var scope = NewDisposeScope();
        using var history = Create();
        SampleBatch batch;
        using (inference_mode())
        {
            history.Append(ones(2, 3), zeros(2));
            batch = history.Gather([0]);
        }

        history.Append(ones(2, 3), zeros(2));

        using (batch)
        {
            var weights = ones(3, requires_grad: true);
            (batch.Inputs * weights).sum().backward();
            weights.grad!.data<float>().Should().Equal(1, 1, 1);
        }
    }

    [Test]
    public void History_and_batch_outlive_a_dispose_scope_around_the_calls()
    {
        using var history = Create();
        SampleBatch batch;
        using (NewDisposeScope())
        {
            HistorySamples.AppendNumbers(history, 0, 4);
            batch = history.Gather([1]);
        }

        using (batch)
        {
            batch.Inputs.data<float>().Should().Equal(1);
        }

        using var later = history.Gather([3]);
        later.Inputs.data<float>().Should().Equal(3);
    }

    [Test]
    public void Samples_are_copies_in_both_directions()
    {
        using var history = Create();
        using var inputs = ones(2, 2);
        using var targets = zeros(2);
        history.Append(inputs, targets);

        using Scalar five = 5, seven = 7;
        inputs.fill_(five);
        using (var changed = history.Gather([0])) changed.Inputs.fill_(seven);

        using var batch = history.Gather([0, 1]);
        batch.Inputs.data<float>().Should().Equal(1, 1, 1, 1);
    }

    [Test]
    public void Batch_outlives_the_history()
    {
        var history = Create();
        HistorySamples.AppendNumbers(history, 0, 4);
        using var batch = history.Gather([2]);

        history.Dispose();

        batch.Inputs.data<float>().Should().Equal(2);
    }

    [Test]
    public void Batch_owns_its_tensors()
    {
        using var history = Create();
        HistorySamples.AppendNumbers(history, 0, 4);
        var batch = history.Gather([2]);

        batch.Dispose();

        (batch.Inputs.IsInvalid, batch.Targets.IsInvalid).Should().Be((true, true));
    }

    [Test]
    public void Capacity_lets_the_oldest_go_and_the_others_keep_their_indices()
    {
        using var history = Create(5);
        for (var i = 0; i < 12; i += 3) HistorySamples.AppendNumbers(history, i, 3);

        (history.FirstIndex, history.EndIndex, history.Count).Should().Be((7, 12, 5));
        using var batch = history.Gather([7, 11]);
        batch.Inputs.data<float>().Should().Equal(7, 11);
    }

    [Test]
    public void Append_of_more_than_the_capacity_keeps_the_newest()
    {
        using var history = Create(4);
        HistorySamples.AppendNumbers(history, 0, 2);

        HistorySamples.AppendNumbers(history, 2, 10).Should().Be(2);

        (history.FirstIndex, history.EndIndex).Should().Be((8, 12));
        using var batch = history.Gather([8, 9, 10, 11]);
        batch.Inputs.data<float>().Should().Equal(8, 9, 10, 11);
    }

    [TestCase(1, "Sample 1 was forgotten; the history holds [2, 6).")]
    [TestCase(6, "Sample 6 does not exist; the history holds [2, 6).")]
    [TestCase(-1, "Sample -1 does not exist; the history holds [2, 6).")]
    [TestCase(long.MaxValue, "Sample 9223372036854775807 does not exist; the history holds [2, 6).")]
    public void Gather_of_a_sample_that_is_not_kept_fails_and_names_it(long index, string message)
    {
        using var history = Create(4);
        HistorySamples.AppendNumbers(history, 0, 6);

        var gather = () => history.Gather([3, index]);

        gather.Should().Throw<ArgumentOutOfRangeException>().WithMessage(message + "*").Which.ActualValue.Should().Be(index);
    }

    [Test]
    public void Gather_from_an_empty_history_fails()
    {
        using var history = Create();

        var gather = () => history.Gather([0]);

        gather.Should().Throw<ArgumentOutOfRangeException>().WithMessage("Sample 0 does not exist; the history holds [0, 0).*");
    }

    [Test]
    public void Gather_of_nothing_fails()
    {
        using var history = Create();
        HistorySamples.AppendNumbers(history, 0, 6);

        var gather = () => history.Gather([]);

        gather.Should().Throw<ArgumentException>().WithParameterName("indices");
    }

    protected static IEnumerable<TestCaseData> BadBatches()
    {
        yield return Case("too few targets", () => ones(3, 2), () => zeros(2, dtype: int64), "targets");
        yield return Case("another input shape", () => ones(3, 3), () => zeros(3, dtype: int64), "inputs");
        yield return Case("another input rank", () => ones(3, 2, 1), () => zeros(3, dtype: int64), "inputs");
        yield return Case("another target shape", () => ones(3, 2), () => zeros(3, 1, dtype: int64), "targets");
        yield return Case("another input dtype", () => ones(3, 2, dtype: float64), () => zeros(3, dtype: int64), "inputs");
        yield return Case("another target dtype", () => ones(3, 2), () => zeros(3), "targets");
        yield return Case("no samples", () => ones(0, 2), () => zeros(0, dtype: int64), "inputs");
        yield return Case("inputs without dimensions", () => tensor(1f), () => zeros(1, dtype: int64), "inputs");
        yield return Case("targets without dimensions", () => ones(1, 2), () => tensor(1L), "targets");
        yield return Case("sparse inputs", () => ones(3, 2).to_sparse(), () => zeros(3, dtype: int64), "inputs");
        yield return Case("inputs without data", () => ones(3, 2, device: META), () => zeros(3, dtype: int64), "inputs");

        static TestCaseData Case(string name, Func<Tensor> inputs, Func<Tensor> targets, string parameter) =>
            new TestCaseData(inputs, targets, parameter).SetArgDisplayNames(name);
    }

    [TestCaseSource(nameof(BadBatches))]
    public void Append_of_a_batch_that_does_not_fit_fails_and_keeps_nothing(Func<Tensor> inputs, Func<Tensor> targets, string parameter)
    {
        using var scope = NewDisposeScope();
        using var history = Create();
        history.Append(ones(4, 2), zeros(4, dtype: int64));

        var append = () => history.Append(inputs(), targets());

        append.Should().Throw<ArgumentException>().WithParameterName(parameter);
        history.EndIndex.Should().Be(4);
        history.Append(ones(1, 2), ones(1, dtype: int64)).Should().Be(4);
    }

    [Test]
    public void Failed_first_append_does_not_fix_the_format()
    {
        using var scope = NewDisposeScope();
        using var history = Create();
        var append = () => history.Append(ones(3, 2), zeros(2));
        append.Should().Throw<ArgumentException>();

        history.Append(ones(3, 7, dtype: int32), zeros(3, 4)).Should().Be(0);
    }

    [Test]
    public void Append_of_null_fails()
    {
        using var history = Create();
        using var batch = ones(1);

        var inputs = () => history.Append(null!, batch);
        var targets = () => history.Append(batch, null!);

        inputs.Should().Throw<ArgumentNullException>().WithParameterName("inputs");
        targets.Should().Throw<ArgumentNullException>().WithParameterName("targets");
    }

    [Test]
    public void Append_of_a_disposed_tensor_fails_and_keeps_nothing([Values] bool disposeInputs)
    {
        using var history = Create();
        using var inputs = ones(1, 2);
        using var targets = ones(1);
        (disposeInputs ? inputs : targets).Dispose();

        var append = () => history.Append(inputs, targets);

        append.Should().Throw<ObjectDisposedException>().Which.ObjectName.Should().Be(disposeInputs ? "inputs" : "targets");
        history.Count.Should().Be(0);
    }

    [Test]
    public void Disposed_history_refuses_everything_and_can_be_disposed_again()
    {
        using var scope = NewDisposeScope();
        var history = Create();
        HistorySamples.AppendNumbers(history, 0, 3);
        history.Dispose();
        history.Dispose();

        var append = () => HistorySamples.AppendNumbers(history, 3, 1);
        var gather = () => history.Gather([0]);

        append.Should().Throw<ObjectDisposedException>();
        gather.Should().Throw<ObjectDisposedException>();
    }
}
