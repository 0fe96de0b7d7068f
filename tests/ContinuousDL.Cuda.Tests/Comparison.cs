using System.Runtime.InteropServices;
using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Residuals;
using ContinuousDL.Vectors;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Takes the same steps with the kernels and with the CPU's memory and compressor, and compares everything after each.</summary>
internal sealed class Comparison : IDisposable
{
    private readonly VectorLayout layout;
    private readonly ErrorFeedbackMemory memory = new();
    private readonly CompressedGradient expected = new();
    private readonly Tensor storage;
    private readonly Tensor residual;
    private readonly ScalarType dtype;
    private readonly DeviceSelector selector;

    /// <param name="queue">Where the kernels run.</param>
    /// <param name="layout">The tensors of the vector.</param>
    /// <param name="shift">By how many elements residual and gradients are off 16 bytes.</param>
    /// <param name="device">The queue's device. Default: main memory.</param>
    /// <param name="dtype">What gradients are rounded to.</param>
    public Comparison(IKernelQueue queue, VectorLayout layout, int shift = 0, Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        (this.layout, Shift, this.dtype) = (layout, shift, dtype);
        memory.Attach(layout);
        storage = zeros(layout.Length + shift, device: device ?? CPU);
        residual = storage.narrow(0, shift, layout.Length);
        selector = new DeviceSelector(queue, residual, layout);
    }

    public bool LookedAtAll => selector.LookedAtAll;

    private int Shift { get; }

    /// <summary>One step.</summary>
    /// <param name="gradient">The gradient of the whole vector.</param>
    /// <param name="k">How many to select.</param>
    /// <param name="release">Whether the kernel zeroes what is selected; otherwise what was sent is subtracted, as the memory does.</param>
    /// <param name="absent">A tensor that has no gradient in this step.</param>
    public void Step(float[] gradient, int k, bool release, int absent = -1)
    {
        selector.Begin(k);
        for (var t = 0; t < layout.TensorCount; t++)
        {
            if (t == absent)
            {
                selector.Accumulate(t, null);
                continue;
            }

            // A tensor made of an array may lie in the array, anywhere; its clone is aligned.
            var part = gradient[layout[t]];
            using var array = tensor([.. new float[Shift], .. part]);
            using var rounded = array.to(dtype);
            using var padded = rounded.to(storage.device, copy: true);
            using var added = padded.narrow(0, Shift, part.Length);
            selector.Accumulate(t, added);
            using var values = rounded.to(ScalarType.Float32);
            _ = memory.Accumulate(values.data<float>().ToArray().AsSpan(Shift), layout.Offsets[t]);
        }

        TopKCompressor.OfCount(k).Compress(memory.Accumulated, layout, expected);
        AreEqual(Residual(), memory.Accumulated, "accumulated");
        selector.Select(release);
        AreEqual(selector.Indices, expected.Indices, "the coordinates");
        AreEqual(selector.Values, expected.Values, "the values");

        memory.Release(expected);
        if (!release) selector.Subtract(expected.Values);
        AreEqual(Residual(), memory.Accumulated, "what is owed");
    }

    public void Dispose()
    {
        selector.Dispose();
        residual.Dispose();
        storage.Dispose();
        memory.Dispose();
    }

    private float[] Residual()
    {
        using var host = residual.cpu();
        return host.data<float>().ToArray();
    }

    /// <summary>In bits, so that NaN and the sign of zero count; and first as a whole, since there may be a million.</summary>
    public static void AreEqual<T>(ReadOnlySpan<T> actual, ReadOnlySpan<T> expected, string what)
        where T : unmanaged
    {
        var left = MemoryMarshal.Cast<T, int>(actual);
        var right = MemoryMarshal.Cast<T, int>(expected);
        if (left.SequenceEqual(right)) return;
        left.Length.Should().Be(right.Length, what);
        var first = left.CommonPrefixLength(right);
        Assert.Fail($"{what}: at {first} of {left.Length} there is {actual[first]} in place of {expected[first]}");
    }
}
