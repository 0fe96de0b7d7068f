using ContinuousDL.Residuals;
using ContinuousDL.Vectors;
using CsCheck;

namespace ContinuousDL.Tests.Residuals;

public class NoResidualMemoryTests
{
    [Test]
    public void Accumulated_is_the_parts_of_this_step_and_zero_between_them()
    {
        var part = Gen.Select(Gen.Int[0, 40], Gen.Int[0, 12]);
        part.Array[0, 6].Array[1, 6].Sample(steps =>
        {
            using var memory = new NoResidualMemory();
            memory.Attach(new VectorLayout(30, 22));
            var sent = new CompressedGradient();
            sent.SetSparse(52, 0);
            for (var step = 0; step < steps.Length; step++)
            {
                var expected = new float[52];
                foreach (var (start, length) in steps[step])
                {
                    // A coordinate is accumulated at most once in a step.
                    if (expected.AsSpan(start, length).ContainsAnyExcept(0f)) continue;
                    var values = Enumerable.Range(1, length).Select(i => (step * 1000f) + start + i).ToArray();
                    memory.Accumulate(values, start);
                    values.CopyTo(expected, start);
                }

                if (!memory.Accumulated.SequenceEqual(expected)) return false;
                memory.Release(sent);
            }

            return true;
        });
    }

    [Test]
    public void Accumulated_before_the_last_part_is_completed_by_it()
    {
        using var memory = new NoResidualMemory();
        memory.Attach(new VectorLayout(4));
        memory.Accumulate([1, 2], 2);
        memory.Accumulated.ToArray().Should().Equal(0, 0, 1, 2);
        memory.Accumulate([3], 0);
        memory.Accumulated.ToArray().Should().Equal(3, 0, 1, 2);
    }
}
