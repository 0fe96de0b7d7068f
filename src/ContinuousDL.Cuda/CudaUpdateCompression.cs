using System.Runtime.InteropServices;
using ContinuousDL.Compression;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Deployment;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.State;
using ContinuousDL.Vectors;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda;

/// <summary>
/// <see cref="UpdateCompression"/> with error feedback for models on a CUDA device: weights, moments and residual stay there, and
/// only the coordinates that are sent cross to main memory. Sends an exact top-k of the whole model, or coordinates drawn at random.
/// </summary>
/// <remarks>
/// <para>
/// On a CUDA device of compute capability 7.0 or higher, kernels of the library's own take the update back, add it up, look ahead
/// and select, in torch's context and stream: one pass over trained weights, deployed weights and residual. What a top-k selects is
/// added to the deployed weights there; the host waits once, for what changed. Elsewhere, or where the driver can't be loaded,
/// plain TorchSharp operations do the same in some passes more; the log says so once. The kernels are for contiguous parameters of
/// float32, bfloat16 or float16; for others, plain operations take the update back.
/// </para>
/// <para>
/// Works on any device; on the CPU the result is bit for bit that of <see cref="UpdateCompression"/> with the same compressor,
/// look-ahead and TorchSharp optimizer, which is faster there. The library's own optimizers work, but keep their moments in main
/// memory.
/// </para>
/// <para>
/// Memory on the device, with or without look-ahead: a second copy of the parameters (the deployed ones with a look-ahead, otherwise
/// one of the trainable ones that is the strategy's own) and 4 bytes for each trainable coordinate. The trained weights are always
/// w + α·e, so that nobody keeps them from before the optimizer's step. With the kernels, 50 bytes more for each coordinate that a
/// top-k sends, 8 for each that is drawn, and a little.
/// </para>
/// </remarks>
public sealed class CudaUpdateCompression : IDeploymentStrategy
{
    /// <summary>How many floats of the residual are written or read at a time: a span of bytes can't hold all that a tensor can.</summary>
    private const int Chunk = 1 << 20;

    /// <summary>The factor of sums. The one that TorchSharp makes for each sum can be finalized while native code still reads it; this one stays.</summary>
    private static readonly Scalar One = 1.ToScalar();

    private readonly IGradientCompressor compressor;
    private readonly float lookahead;
    private readonly CompressedGradient sent = new();
    private readonly ILogger logger;
    private readonly QueueSource source;
    private Tensor[] copies = [];
    private Tensor[] weights = [];
    private bool[] direct = [];
    private Tensor?[] parked = [];
    private bool[] owes = [];
    private Tensor? residual;
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;
    private DeviceSelector? selector;
    private SelectionDeployer? deployer;
    private LookAheadWriter? writer;
    private string? deployerProblem;
    private bool disposed;

    /// <summary>Makes the strategy with an exact top-k of the whole model.</summary>
    /// <param name="density">The share of the trainable coordinates that a step changes at most, in (0, 1]; at least one coordinate.</param>
    /// <param name="lookahead">α: how far towards what is owed the gradient is taken, in [0, 1]. Default: 0, at the deployed weights. <see cref="UpdateCompression.LookaheadFor"/> gives a good one for a density.</param>
    /// <param name="logger">The logger of why the kernels can't be used. Default: none.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="density"/> is not in (0, 1], or <paramref name="lookahead"/> not in [0, 1].</exception>
    public CudaUpdateCompression(double density, double lookahead = 0, ILogger<CudaUpdateCompression>? logger = null)
        : this(new TopKCompressor(density), lookahead, logger)
    {
    }

    /// <summary>Makes the strategy with a compressor.</summary>
    /// <param name="compressor">Picks what is applied: a <see cref="TopKCompressor"/> of the whole model, or a <see cref="RandomKCompressor"/>.</param>
    /// <param name="lookahead">α: how far towards what is owed the gradient is taken, in [0, 1]. Default: 0, at the deployed weights.</param>
    /// <param name="logger">The logger of why the kernels can't be used. Default: none.</param>
    /// <exception cref="ArgumentException"><paramref name="compressor"/> is another one.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="lookahead"/> is not in [0, 1].</exception>
    public CudaUpdateCompression(IGradientCompressor compressor, double lookahead = 0, ILogger<CudaUpdateCompression>? logger = null)
        : this(compressor, lookahead, logger, FindQueue)
    {
    }

    internal CudaUpdateCompression(IGradientCompressor compressor, double lookahead, ILogger? logger, QueueSource source)
    {
        if (!(lookahead is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(lookahead), lookahead, "lookahead must be from 0 to 1.");
        ArgumentNullException.ThrowIfNull(compressor);
        if (compressor is not (TopKCompressor { Scope: CompressionScope.WholeModel } or RandomKCompressor))
        {
            throw new ArgumentException(
                $"A {compressor.GetType().Name}{(compressor is TopKCompressor ? " of each tensor" : string.Empty)} does not work on a device: "
                + $"a {nameof(TopKCompressor)} of the whole model and a {nameof(RandomKCompressor)} do; with others use {nameof(UpdateCompression)}.",
                nameof(compressor));
        }

        (this.compressor, this.lookahead, this.logger, this.source) = (compressor, (float)lookahead, logger ?? NullLogger.Instance, source);
    }

    /// <summary>Finds what runs the kernels on a device.</summary>
    /// <param name="device">The device of the parameters.</param>
    /// <param name="problem">Why there is nothing; null where nothing was to be expected.</param>
    internal delegate IKernelQueue? QueueSource(Device device, out string? problem);

    /// <summary>Whether the kernels are used. Known once attached.</summary>
    internal bool UsesKernels => selector is not null;

    /// <inheritdoc />
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        ArgumentNullException.ThrowIfNull(trainable);
        if (vector is not null) throw new InvalidOperationException($"This {nameof(CudaUpdateCompression)} serves a trainer already; make a new one for each.");
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        residual = zeros(trainable.Layout.Length, dtype: ScalarType.Float32, device: trainable.Parameters[0].device).DetachFromDisposeScope();
        (vector, optimizer, model) = (trainable, rule, deployed);
        (parked, owes) = (new Tensor?[trainable.Parameters.Count], new bool[trainable.Parameters.Count]);
        if (lookahead > 0) deployed.SeparateParameters();
        else copies = [.. trainable.Parameters.Select(p => p.detach().clone().DetachFromDisposeScope())];
        weights = lookahead > 0 ? [.. trainable.Parameters.Select((_, t) => deployed.Parameter(t))] : copies;
        if (FindQueue(trainable) is not { } queue) return;
        selector = new DeviceSelector(queue, residual, trainable.Layout);
        direct = [.. trainable.Parameters.Select(p => DeviceSelector.Supports(p.dtype) && p.is_contiguous())];
        var others = trainable.Slots.Select((slot, t) => TensorSlot.Of(slot.Entry, weights[t]));
        writer = lookahead > 0
            ? LookAheadWriter.TryMake(queue, trainable.Layout, trainable.Slots, others, lookahead)
            : LookAheadWriter.TryMake(queue, trainable.Layout, others, trainable.Slots, 0);
    }

    /// <inheritdoc />
    public void Step()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        for (var t = 0; t < copies.Length; t++)
        {
            // Without a look-ahead, what a forward pass moves is deployed as it is: it is no update of the optimizer's.
            if (vector!.HasMoved[t]) Follow(t);
        }

        for (var t = 0; t < weights.Length; t++) Park(t);
        RunOptimizer();
        var k = compressor is TopKCompressor topK ? topK.NextCount(vector!.Layout.Length) : 0;
        if (selector is not null)
        {
            StepWithKernels(selector, k);
            return;
        }

        for (var t = 0; t < weights.Length; t++)
        {
            if (!vector!.HasGradient[t]) continue;
            var owed = Owed(t).add_(Update(t).to(residual!.device), One);

            // Selecting the largest brings it to light by itself.
            if (k == 0 && !owed.isfinite().all().item<bool>()) throw model!.NotFinite(t);
            GoAhead(t);
        }

        Send(k);
        FollowSent(sent.Indices);
    }

    /// <inheritdoc />
    public void Reset()
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        _ = residual!.zero_();
        ForgetParked();
        Array.Clear(owes);
        for (var t = 0; t < copies.Length; t++) Follow(t);
    }

    string IStateful.StateKind => FormattableString.Invariant($"{nameof(CudaUpdateCompression)} with look-ahead {lookahead}");

    void IStateful.WriteState(BinaryWriter writer)
    {
        using var whole = WithParked();
        using var host = whole.cpu();
        writer.Write(host.numel());
        for (var rest = DeviceMemory.Floats(host); !rest.IsEmpty; rest = rest[Math.Min(Chunk, rest.Length)..])
        {
            writer.Write(MemoryMarshal.AsBytes(rest[..Math.Min(Chunk, rest.Length)]));
        }

        compressor.SaveState(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var length = reader.ReadInt64();
        if (length != residual!.numel()) throw new InvalidDataException($"The state has {length} residuals, the model {residual.numel()}.");
        var loaded = empty(length, dtype: ScalarType.Float32).DetachFromDisposeScope();
        try
        {
            for (var rest = DeviceMemory.Floats(loaded); !rest.IsEmpty; rest = rest[Math.Min(Chunk, rest.Length)..])
            {
                reader.ReadExactly(MemoryMarshal.AsBytes(rest[..Math.Min(Chunk, rest.Length)]));
            }

            var takeRandomState = compressor.ReadState(reader);
            return () =>
            {
                takeRandomState();
                Take(loaded);
            };
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <inheritdoc />
    public void Dispose()
    {
        disposed = true;
        writer?.Dispose();
        deployer?.Dispose();
        selector?.Dispose();
        ForgetParked();
        residual?.Dispose();
        foreach (var copy in copies) copy.Dispose();
    }

    /// <summary>Finds what runs the kernels on a device of this machine; a <see cref="QueueSource"/>.</summary>
    internal static IKernelQueue? FindQueue(Device device, out string? problem)
    {
        problem = null;
        return device.type == DeviceType.CUDA ? CudaDevices.Default.Find(Math.Max(0, device.index), out problem) : null;
    }

    /// <summary>What runs the kernels where the parameters are, or null; then the log says why, if they could have been expected.</summary>
    private IKernelQueue? FindQueue(TrainableVector trainable)
    {
        var device = trainable.Parameters[0].device;
        string? problem;
        if (trainable.Parameters.All(p => (p.device_type, p.device_index) == (device.type, device.index)))
        {
            if (source(device, out problem) is { } queue) return queue;
        }
        else
        {
            problem = "the parameters are on several devices";
        }

        if (problem is not null) CudaLog.KernelsNotUsed(logger, device.ToString(), problem);
        return null;
    }

    /// <summary>
    /// Takes what a tensor without a gradient is owed out of the residual, so that nothing of it is sent, and puts it back when the
    /// tensor has one again.
    /// </summary>
    private void Park(int t)
    {
        if (vector!.HasGradient[t])
        {
            owes[t] = true;
            if (parked[t] is not { } waiting) return;
            _ = Owed(t).copy_(waiting);
            waiting.Dispose();
            parked[t] = null;
        }
        else if (owes[t] && vector.OwedWhenFrozen == OwedWhenFrozen.Drop && vector.IsFrozen(t))
        {
            owes[t] = false;
            parked[t]?.Dispose();
            parked[t] = null;
            _ = Owed(t).zero_();
            GoAhead(t);
        }
        else if (owes[t] && parked[t] is null)
        {
            parked[t] = Owed(t).clone().DetachFromDisposeScope();
            _ = Owed(t).zero_();
        }
    }

    /// <summary>The residual with all that is owed, owned by the caller.</summary>
    private Tensor WithParked()
    {
        if (parked.All(waiting => waiting is null)) return residual!.detach();
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var whole = residual!.clone();
        for (var t = 0; t < parked.Length; t++)
        {
            if (parked[t] is { } waiting) _ = whole.narrow(0, vector!.Layout.Offsets[t], waiting.numel()).copy_(waiting);
        }

        return whole.MoveToOuterDisposeScope().DetachFromDisposeScope();
    }

    /// <summary>Takes over residuals that were read, and disposes them.</summary>
    private void Take(Tensor loaded)
    {
        using (loaded) _ = residual!.copy_(loaded);
        ForgetParked();
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        for (var t = 0; t < weights.Length; t++)
        {
            owes[t] = Owed(t).count_nonzero().item<long>() > 0;
            Follow(t);
        }
    }

    private void ForgetParked()
    {
        foreach (var waiting in parked) waiting?.Dispose();
        Array.Clear(parked);
    }

    /// <summary>Lets the optimizer move the trained weights.</summary>
    private void RunOptimizer()
    {
        try
        {
            optimizer!.BeginStep(vector!.ForRule(vector.HasGradient));
            optimizer.ApplyUpdate();
        }
        catch
        {
            // Without a look-ahead the trained weights are the deployed ones, which must stay as the replicas are.
            for (var t = 0; t < weights.Length; t++)
            {
                if (vector!.HasGradient[t]) GoAhead(t);
            }

            throw;
        }
    }

    private void StepWithKernels(DeviceSelector kernels, int k)
    {
        kernels.Begin(k);
        for (var t = 0; t < weights.Length; t++) Accumulate(kernels, t);
        Send(kernels, k);
        if (writer is not null) writer.Write(kernels);
        else FollowSent(kernels.Indices);
    }

    /// <summary>Picks what is sent, changes the deployed model by it, and keeps what rounding left of it.</summary>
    private void Send(DeviceSelector kernels, int k)
    {
        if (k > 0 && FindDeployer(kernels) is { } onDevice)
        {
            onDevice.Deploy(kernels, k);
            return;
        }

        if (compressor is RandomKCompressor randomK)
        {
            Draw(randomK);
            kernels.Gather(sent.Indices, sent.Values);
            if (!kernels.IsFinite) throw model!.NotFinite(kernels.FindNonFinite());
        }
        else
        {
            kernels.Select(release: false);
        }

        sent.SetSparse(vector!.Layout.Length, kernels.Count);
        kernels.Indices.CopyTo(sent.Indices);
        kernels.Values.CopyTo(sent.Values);
        model!.Add(sent);
        kernels.Subtract(sent.Values);
    }

    /// <summary>Draws the coordinates that are sent, of which those without a gradient stay still.</summary>
    private void Draw(RandomKCompressor randomK)
    {
        randomK.Draw(vector!.Layout, sent);
        vector.ExcludeWithoutGradient(sent);
    }

    /// <summary>What adds the selection to the deployed parameters on their device; null where kernels can't address them.</summary>
    private SelectionDeployer? FindDeployer(DeviceSelector kernels)
    {
        if (deployer is not null || deployerProblem is not null) return deployer;
        deployer = SelectionDeployer.TryMake(kernels.Queue, model!, out deployerProblem);
        if (deployerProblem is not null) CudaLog.SumsInMainMemory(logger, deployerProblem);
        return deployer;
    }

    /// <summary>Takes the update of a tensor back, adds it to what is owed, and moves the trained weights ahead by that.</summary>
    private void Accumulate(DeviceSelector kernels, int t)
    {
        if (!vector!.HasGradient[t])
        {
            kernels.Accumulate(t, null);
        }
        else if (direct[t])
        {
            kernels.TakeBack(t, vector.Parameters[t], weights[t], lookahead);
        }
        else
        {
            // Torch gives the memory of the update to others at once, but in the order of the stream that the kernel is in, too.
            using var scope = NewDisposeScope();
            kernels.Accumulate(t, Update(t));
            GoAhead(t);
        }
    }

    /// <summary>Follows, with plain operations, in all tensors of which something was sent.</summary>
    /// <param name="coordinates">What was sent, ascending.</param>
    private void FollowSent(ReadOnlySpan<int> coordinates)
    {
        for (var t = 0; t < weights.Length; t++)
        {
            var end = CoordinateSearch.CountBelow(coordinates, vector!.Layout.Offsets[t + 1]);
            if (end > 0) Follow(t);
            coordinates = coordinates[end..];
        }
    }

    /// <summary>
    /// What was sent has changed w and e: puts the trained weights of a tensor right there or, without a look-ahead, the copy of what
    /// is trained and deployed in one.
    /// </summary>
    private void Follow(int t)
    {
        using var scope = NewDisposeScope();
        if (lookahead > 0) GoAhead(t);
        else _ = weights[t].copy_(vector!.Parameters[t].detach());
    }

    /// <summary>What is owed of a tensor, a view of the residual.</summary>
    private Tensor Owed(int t) => residual!.narrow(0, vector!.Layout.Offsets[t], vector.Parameters[t].numel());

    /// <summary>What the optimizer's step has added to a tensor; float32, flat, contiguous, of the caller's scope.</summary>
    private Tensor Update(int t) => vector!.Parameters[t].detach().sub(Ahead(t)).to(ScalarType.Float32).flatten().contiguous();

    /// <summary>Moves the trained weights of a tensor to where the next gradient is to be taken.</summary>
    private void GoAhead(int t) => _ = vector!.Parameters[t].detach().copy_(Ahead(t));

    /// <summary>Where the gradient is taken: y = w + α·e, in the parameter's own dtype, as far as it is finer than float32.</summary>
    private Tensor Ahead(int t)
    {
        if (lookahead == 0) return weights[t];
        using var factor = lookahead.ToScalar();
        return weights[t].add(Owed(t).mul(factor).view(weights[t].shape).to(weights[t].device), One).to(weights[t].dtype);
    }

    /// <summary>Picks what is sent, changes the deployed model by it, and keeps what rounding left of it; with plain operations.</summary>
    private void Send(int k)
    {
        if (compressor is RandomKCompressor randomK) Draw(randomK);
        else Select(k);
        if (sent.Count == 0)
        {
            model!.Add(sent);
            return;
        }

        var indices = OnDevice(sent.Indices.ToArray()).to(ScalarType.Int64);
        using var values = residual!.index_select(0, indices).mul(OnDevice(sent.Values.ToArray())).cpu();
        values.data<float>().CopyTo(sent.Values);
        model!.Add(sent);
        _ = residual.index_copy_(0, indices, residual.index_select(0, indices).sub(OnDevice(sent.Values.ToArray())));
    }

    /// <summary>The coordinates of the k largest, and 1 in the place of each value: as <see cref="RandomKCompressor"/> draws them.</summary>
    private void Select(int k)
    {
        using var indices = DeviceTopK.Select(residual!, k).cpu();
        sent.SetSparse(vector!.Layout.Length, (int)indices.numel());
        sent.Values.Fill(1);
        if (sent.Count == 0) return;
        var source = indices.data<long>();
        for (var j = 0; j < sent.Count; j++) sent.Indices[j] = (int)source[j];
    }

    /// <summary>A tensor on the device, of the caller's scope.</summary>
    private Tensor OnDevice<T>(T[] values)
        where T : unmanaged
    {
        // Made on the CPU, a tensor may show the array itself.
        using var host = from_array(values);
        return host.to(residual!.device, copy: true);
    }
}
