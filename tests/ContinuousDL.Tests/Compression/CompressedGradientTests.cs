using ContinuousDL.Vectors;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class CompressedGradientTests
{
    [Test]
    public void A_quantized_vector_adds_and_subtracts_level_times_scale() =>
        Gen.Select(Lengths, Gen.Int).Sample(
            (n, seed) =>
            {
                var random = new Random(seed);
                var (layout, gradient) = (new VectorLayout(Cut(n, seed)), new CompressedGradient());
                gradient.SetQuantized(layout, 16);
                for (var i = 0; i < n; i++) gradient.Levels[i] = (short)random.Next(short.MinValue, short.MaxValue + 1);
                for (var t = 0; t < layout.TensorCount; t++) gradient.Scales[t] = random.NextSingle();

                var (before, expected) = (Create(VectorKind.Normal, n, seed), new float[n]);
                for (var t = 0; t < layout.TensorCount; t++)
                {
                    for (var i = layout.Offsets[t]; i < layout.Offsets[t + 1]; i++) expected[i] = gradient.Levels[i] * gradient.Scales[t];
                }

                return HasValues(gradient, before, expected);
            },
            iter: 200);

    [Test]
    public void A_sparse_vector_is_its_values_and_zero_elsewhere()
    {
        var gradient = new CompressedGradient();
        gradient.SetSparse(6, 3);
        new[] { 0, 3, 5 }.CopyTo(gradient.Indices);
        new[] { 1f, -2f, 3f }.CopyTo(gradient.Values);
        HasValues(gradient, [1, 2, 3, 4, 5, 6], [1, 0, 0, -2, 0, 3]).Should().BeTrue();
        gradient.SizeInBits.Should().Be(3 * 64);
    }

    [Test]
    public void A_dense_vector_is_its_values()
    {
        var gradient = new CompressedGradient();
        gradient.SetDense(3);
        new[] { 1f, -2f, 3f }.CopyTo(gradient.Values);
        HasValues(gradient, [5, 6, 7], [1, -2, 3]).Should().BeTrue();
        gradient.SizeInBits.Should().Be(3 * 32);
    }

    [Test]
    public void SetSparse_again_keeps_what_was_filled_in()
    {
        var gradient = new CompressedGradient();
        gradient.SetSparse(100, 2);
        (gradient.Indices[1], gradient.Values[1]) = (7, 0.5f);
        gradient.SetSparse(100, 60);
        gradient.SetSparse(100, 2);
        (gradient.Indices[1], gradient.Values[1]).Should().Be((7, 0.5f));
    }

    [Test]
    public void A_dense_vector_of_another_length_throws()
    {
        var gradient = new CompressedGradient();
        gradient.SetDense(3);
        foreach (var use in new Action<float[]>[] { x => gradient.AddTo(x), x => gradient.SubtractFrom(x), x => gradient.CopyTo(x) })
        {
            use.Invoking(u => u(new float[4])).Should().Throw<ArgumentException>().WithParameterName("destination");
        }
    }

    [Test]
    public void Arguments_out_of_range_throw()
    {
        var gradient = new CompressedGradient();
        gradient.Invoking(g => g.SetSparse(3, 4)).Should().Throw<ArgumentOutOfRangeException>();
        gradient.Invoking(g => g.SetSparse(3, -1)).Should().Throw<ArgumentOutOfRangeException>();
        gradient.Invoking(g => g.SetDense(-1)).Should().Throw<ArgumentOutOfRangeException>();
        gradient.Invoking(g => g.SetQuantized(new VectorLayout(1), 0)).Should().Throw<ArgumentOutOfRangeException>();
        gradient.Invoking(g => g.SetQuantized(new VectorLayout(1), 17)).Should().Throw<ArgumentOutOfRangeException>();
    }

    private static bool HasValues(CompressedGradient gradient, float[] vector, float[] expected)
    {
        var (copied, added, subtracted) = (vector.ToArray(), vector.ToArray(), vector.ToArray());
        gradient.CopyTo(copied);
        gradient.AddTo(added);
        gradient.SubtractFrom(subtracted);
        return copied.SequenceEqual(expected)
            && added.SequenceEqual(vector.Zip(expected, (x, y) => x + y))
            && subtracted.SequenceEqual(vector.Zip(expected, (x, y) => x - y));
    }
}
