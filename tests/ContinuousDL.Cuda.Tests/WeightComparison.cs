using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Memory;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Vectors;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>
/// Takes the same steps over weights with the kernels and, as <see cref="Deployment.UpdateCompression"/> takes them over tensors that
/// it can't see into, with torch's operations on the CPU; and compares everything after each.
/// </summary>
internal sealed class WeightComparison : IDisposable
{
    private readonly VectorLayout layout;
    private readonly float lookahead;
    private readonly int shift;
    private readonly DisposeScope scope = NewDisposeScope();
    private readonly CompressedGradient expected = new();
    private readonly Tensor deployed, residual, deviceTrained, deviceDeployed, deviceResidual;
    private readonly DeviceSelector selector;
    private readonly LookAheadWriter writer;
    private Tensor trained;

    /// <param name="queue">Where the kernels run.</param>
    /// <param name="layout">The tensors of the vector.</param>
    /// <param name="dtype">The weights' dtype.</param>
    /// <param name="lookahead">α.</param>
    /// <param name="values">The weights to begin with, as many as the layout has; they are rounded.</param>
    /// <param name="shift">By how many elements everything is off 16 bytes.</param>
    /// <param name="device">The queue's device. Default: main memory.</param>
    public WeightComparison(IKernelQueue queue, VectorLayout layout, ScalarType dtype, double lookahead, float[] values, int shift = 0, Device? device = null)
    {
        (this.layout, this.lookahead, this.shift) = (layout, (float)lookahead, shift);
        deployed = from_array(values).to(dtype).clone();
        trained = deployed.clone();
        residual = zeros(layout.Length);
        Tensor OnDevice(Tensor whole) => cat([zeros(shift, dtype: whole.dtype), whole]).to(device ?? CPU, copy: true).narrow(0, shift, whole.numel());
        (deviceTrained, deviceDeployed, deviceResidual) = (OnDevice(trained), OnDevice(deployed), OnDevice(residual));
        selector = new DeviceSelector(queue, deviceResidual, layout);
        writer = LookAheadWriter.TryMake(queue, layout, Slots(deviceTrained), Slots(deviceDeployed), (float)lookahead)!;

        TensorSlot[] Slots(Tensor whole) => [.. Enumerable.Range(0, layout.TensorCount).Select(t =>
        {
            var part = Part(whole, layout[t]);
            return TensorSlot.Of(new LayoutEntry($"{t}", CoordinateKind.Parameter, (DType)dtype, part.shape, layout.Offsets[t], (int)part.numel()), part);
        })];
    }

    /// <summary>One step.</summary>
    /// <param name="change">What the optimizer adds to the weights; the sum is rounded.</param>
    /// <param name="k">How many to select.</param>
    /// <param name="absent">A tensor that has no gradient in this step.</param>
    public void Step(float[] change, int k, int absent = -1)
    {
        using var inner = NewDisposeScope();
        using (var moved = trained.Plus(from_array(change)).to(trained.dtype)) ForAll(absent, (t, part) => _ = Part(trained, part).copy_(Part(moved, part)));
        _ = deviceTrained.copy_(trained);

        selector.Begin(k);
        for (var t = 0; t < layout.TensorCount; t++)
        {
            if (t == absent) selector.Accumulate(t, null);
            else selector.TakeBack(t, Part(deviceTrained, layout[t]), Part(deviceDeployed, layout[t]), lookahead);
        }

        ForAll(absent, (t, part) =>
        {
            var update = Part(trained, part).sub(Ahead(part)).to(ScalarType.Float32);
            _ = Part(residual, part).AddInPlace(update);
            _ = Part(trained, part).copy_(Ahead(part));
        });
        AreEqual(deviceResidual, residual, "what is owed");
        AreEqual(deviceTrained, trained, "the weights that are trained");

        // Of the device's sums, whose NaN may have other bits than torch's, and another order with them.
        TopKCompressor.OfCount(k).Compress(deviceResidual.cpu().data<float>().ToArray(), layout, expected);
        selector.Select(release: false);
        Comparison.AreEqual(selector.Indices, expected.Indices, "the coordinates");

        // Sent as a deployed model would: rounded to what its weights can be.
        var places = from_array(expected.Indices.ToArray().Select(i => (long)i).ToArray());
        var before = deployed.index_select(0, places);
        var after = before.Plus(from_array(expected.Values.ToArray())).to(deployed.dtype);
        var applied = after.to(ScalarType.Float32).sub(before.to(ScalarType.Float32));
        _ = deployed.index_copy_(0, places, after);
        _ = deviceDeployed.copy_(deployed);
        _ = residual.index_copy_(0, places, residual.index_select(0, places).sub(applied));
        selector.Subtract(applied.data<float>().ToArray());
        writer.Write(selector);
        _ = trained.index_copy_(0, places, Ahead(..layout.Length).index_select(0, places));
        AreEqual(deviceResidual, residual, "what is owed after sending");
        AreEqual(deviceTrained, trained, "the weights that are trained after sending");
    }

    public void Dispose()
    {
        writer.Dispose();
        selector.Dispose();
        scope.Dispose();
    }

    private static Tensor Part(Tensor whole, Range part) => whole.narrow(0, part.Start.Value, part.End.Value - part.Start.Value);

    /// <summary>In bits; but what is not a number may have any that say so.</summary>
    private static void AreEqual(Tensor actual, Tensor expected, string what)
    {
        using var scope = NewDisposeScope();
        var host = actual.cpu();
        var same = host.isnan().logical_and(expected.isnan());
        using Scalar zero = 0;
        var (left, right) = (host.masked_fill(same, zero).clone(), expected.masked_fill(same, zero).clone());
        if (left.bytes.SequenceEqual(right.bytes)) return;
        var first = left.to(ScalarType.Float32).ne(right.to(ScalarType.Float32)).nonzero().flatten();
        Assert.Fail($"{what}: {first.numel()} of {left.numel()} differ in more than the sign of zero, the first at {(first.numel() == 0 ? -1 : first[0].item<long>())}");
    }

    private Tensor Ahead(Range part)
    {
        if (lookahead == 0) return Part(deployed, part);
        using Scalar factor = lookahead;
        return Part(deployed, part).Plus(Part(residual, part).mul(factor)).to(deployed.dtype);
    }

    private void ForAll(int absent, Action<int, Range> action)
    {
        for (var t = 0; t < layout.TensorCount; t++)
        {
            if (t != absent) action(t, layout[t]);
        }
    }
}
