using System.Runtime.ExceptionServices;
using System.Text;
using ContinuousDL.Memory;
using ContinuousDL.Replication.Models;
using ContinuousDL.State;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.optim;

namespace ContinuousDL.Optimization;

/// <summary>
/// Makes an update rule of any TorchSharp optimizer: lets it step, takes the difference, and puts the weights back.
/// </summary>
/// <remarks>
/// Costs three passes over the parameters beside the optimizer's own (copy, difference and restore, hand over) and 4 bytes per
/// float32 parameter. For selected elements the optimizer sees a gradient that is zero elsewhere, and only the selected
/// elements' updates are used; its moments still decay everywhere.
/// <para>
/// TorchSharp's optimizers keep their moments in the parameters' dtype. <c>Adam</c> and its kin divide by zero on float16
/// parameters whatever the learning rate: an epsilon of 1e-8 is 0 there, and so is the second moment of a gradient below about
/// 5e-3. <see cref="FusedAdam"/> keeps float32 moments.
/// </para>
/// </remarks>
public sealed class TorchOptimizerRule : IUpdateRule
{
    private readonly Optimizer optimizer;
    private readonly Parameter[] parameters;
    private readonly int groupCount;
    private readonly Difference[] differences;
    private bool disposed;

    /// <summary>Adapts an optimizer.</summary>
    /// <param name="optimizer">The optimizer. It stays the caller's: disposing the rule does not dispose it.</param>
    /// <exception cref="ArgumentException">The optimizer needs a closure (LBFGS), or has a parameter that cannot be trained.</exception>
    public TorchOptimizerRule(Optimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        if (optimizer is LBFGS) throw new ArgumentException("LBFGS evaluates the loss several times in a step; use an optimizer that steps once.", nameof(optimizer));
        this.optimizer = optimizer;
        parameters = [.. optimizer.parameters()];
        foreach (var parameter in parameters)
        {
            if (!Scalars.IsTrainable((DType)parameter.dtype)) throw new ArgumentException($"A parameter of dtype {parameter.dtype} cannot be trained.", nameof(optimizer));
        }

        groupCount = optimizer.ParamGroups.Count();
        differences = [.. parameters.Select(p => new Difference(p))];
    }

    /// <inheritdoc />
    public IReadOnlyList<Parameter> Parameters => optimizer.ParamGroups.Count() == groupCount ? parameters : [.. optimizer.parameters()];

    /// <inheritdoc />
    public bool ReadsParameterGradients => true;

    /// <inheritdoc />
    /// <remarks>The optimizer itself steps when the first update is asked for, or at <see cref="ApplyUpdate"/>.</remarks>
    public void BeginStep(ReadOnlySpan<bool> hasGradient)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (hasGradient.Length != differences.Length)
        {
            throw new ArgumentException($"{hasGradient.Length} flags for {differences.Length} parameters.", nameof(hasGradient));
        }

        if (optimizer.parameters().Count() != differences.Length)
        {
            throw new InvalidOperationException("Parameters were added to the optimizer after the rule was made of it; make a new trainer.");
        }

        for (var p = 0; p < differences.Length; p++) differences[p].Pending = hasGradient[p];
    }

    /// <inheritdoc />
    public void ApplyUpdate()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var loss = optimizer.step();
    }

    /// <inheritdoc />
    public void ComputeUpdate(int parameter, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update)
    {
        EnsureStepped(parameter);
        differences[parameter].Update.Slice(start, update.Length).CopyTo(update);
    }

    /// <inheritdoc />
    public void ComputeUpdateAt(int parameter, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update)
    {
        EnsureStepped(parameter);
        var all = differences[parameter].Update;
        for (var j = 0; j < elements.Length; j++) update[j] = all[elements[j]];
    }

    /// <inheritdoc />
    /// <exception cref="NotSupportedException">The optimizer does not offer its state.</exception>
    public void Reset()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        var state = Stateful().state_dict();
        OutsideOfScopes(() =>
        {
            for (var group = 0; group < state.Options.Count; group++)
            {
                foreach (var index in state.StateIndexRef[group]) state.State[index].Initialize(state.Options[group]);
            }
        });
    }

    string IStateful.StateKind => $"{nameof(TorchOptimizerRule)} of {optimizer.GetType().Name}";

    /// <exception cref="NotSupportedException">The optimizer does not offer its state.</exception>
    void IStateful.WriteState(BinaryWriter writer) => Save(Stateful(), writer);

    /// <remarks>The optimizer can't read a state without taking it over, so that it does for a try and goes back.</remarks>
    /// <exception cref="NotSupportedException">The optimizer does not offer its state.</exception>
    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var stateful = Stateful();
        var (before, read) = (new MemoryStream(), new MemoryStream());
        using (var writer = new BinaryWriter(before, Encoding.UTF8, leaveOpen: true)) Save(stateful, writer);
        reader.BaseStream.CopyTo(read);
        OutsideOfScopes(() =>
        {
            try
            {
                Load(stateful, read);
                if (read.Position < read.Length) throw new InvalidDataException($"{read.Length - read.Position} bytes of it are too many.");
            }
            catch (Exception e) when (e is EndOfStreamException or ArgumentException or FormatException or InvalidDataException)
            {
                throw new InvalidDataException($"The state is not one of this {optimizer.GetType().Name}: {e.Message}", e);
            }
            finally
            {
                Load(stateful, before);
            }
        });
        return () => OutsideOfScopes(() => Load(stateful, read));
    }

    /// <inheritdoc />
    public void Dispose()
    {
        if (disposed) return;
        foreach (var difference in differences) difference.Dispose();
        disposed = true;
    }

    /// <summary>
    /// Does something on a thread of its own, where no dispose scope is open: TorchSharp leaves some of the state that it loads to
    /// the scope around it, and the optimizer needs it for longer.
    /// </summary>
    private static void OutsideOfScopes(Action action)
    {
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
    }

    private static void Save(OptimizerHelper optimizer, BinaryWriter writer)
    {
        using var state = new RowMajorOptimizerState(optimizer);
        optimizer.save_state_dict(writer);
    }

    private static void Load(OptimizerHelper optimizer, MemoryStream saved)
    {
        saved.Position = 0;
        using var reader = new BinaryReader(saved, Encoding.UTF8, leaveOpen: true);
        using var state = new RowMajorOptimizerState(optimizer);
        optimizer.load_state_dict(reader);
    }

    private OptimizerHelper Stateful() =>
        optimizer as OptimizerHelper ?? throw new NotSupportedException($"{optimizer.GetType().Name} does not offer its state.");

    private void EnsureStepped(int parameter)
    {
        if (!differences[parameter].Pending) return;
        foreach (var difference in differences) difference.TakeSnapshot();
        try
        {
            using var loss = optimizer.step();
        }
        finally
        {
            foreach (var difference in differences) difference.Restore();
        }
    }

    /// <summary>A parameter's values before the step, then what the step would have added to them.</summary>
    private sealed class Difference(Parameter parameter) : IDisposable
    {
        private NativeBuffer<float>? buffer;
        private Tensor? snapshot;

        /// <summary>Whether the parameter has a gradient in this step and the optimizer has not stepped yet.</summary>
        public bool Pending { get; set; }

        public ReadOnlySpan<float> Update => buffer!.Span;

        public void TakeSnapshot()
        {
            if (!Pending) return;
            buffer ??= new NativeBuffer<float>(checked((int)parameter.numel()));
            if (OwnMemory(out var weights))
            {
                weights.CopyTo(buffer.Span);
                return;
            }

            using var guard = no_grad();
            using var weight = parameter.detach();
            snapshot ??= empty_like(weight).DetachFromDisposeScope();
            _ = snapshot.copy_(weight);
        }

        public void Restore()
        {
            if (!Pending) return;
            Pending = false;
            if (OwnMemory(out var weights))
            {
                var before = buffer!.Span;
                for (var i = 0; i < weights.Length; i++)
                {
                    var old = before[i];
                    before[i] = weights[i] - old;
                    weights[i] = old;
                }

                return;
            }

            using var guard = no_grad();
            using var weight = parameter.detach();
            using var change = weight.sub(snapshot!);
            using var view = FloatView.Of(change);
            view.Span.CopyTo(buffer!.Span);
            _ = weight.copy_(snapshot!);
        }

        public void Dispose()
        {
            buffer?.Dispose();
            snapshot?.Dispose();
        }

        /// <summary>The parameter's own memory, where it is contiguous float32 on the CPU.</summary>
        private unsafe bool OwnMemory(out Span<float> weights)
        {
            var own = parameter.dtype == ScalarType.Float32 && parameter.device_type == DeviceType.CPU && parameter.is_contiguous();
            weights = own ? new Span<float>(TensorMemory.AddressOf(parameter), checked((int)parameter.numel())) : default;
            return own;
        }
    }
}
