using System.Diagnostics;
using System.Runtime.InteropServices;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Diagnostics;
using ContinuousDL.Evaluation;
using ContinuousDL.Failures;
using ContinuousDL.History;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Sampling;
using ContinuousDL.Vectors;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using static TorchSharp.torch;
using static TorchSharp.torch.optim;

namespace ContinuousDL;

/// <summary>
/// Keeps a model fresh: each step trains it on newly arrived and historical samples together (proactive training) and changes
/// a few coordinates of the deployed model, which are all that its replicas need to be sent (sparse deployment).
/// </summary>
/// <remarks>
/// <para>The caller owns the loop; nothing runs behind its back:</para>
/// <code>
/// if (trainer.Observe(inputs, targets).IsStepDue)
/// {
///     using var result = trainer.Step();
///     replica.Apply(result.Update!);
/// }
/// </code>
/// <para>
/// What survives a crash, when it is put together again by <see cref="Restore(string, nn.Module{Tensor, Tensor}, nn.Module{Tensor, Tensor, Tensor}, Optimizer, ProactiveTrainerOptions, ProactiveTrainerComponents)"/>:
/// a sample that <see cref="Observe"/> has returned for, with a history on disk (<see cref="MappedSampleHistory"/>); the model
/// with all that belongs to it, as of the last checkpoint (<see cref="SaveCheckpointAsync"/>). Which samples are new is part of the
/// checkpoint: those that were trained on after it count as new again and are trained on again, so that none is lost, and none
/// that the restored model has learned from is learned from twice. Updates that were made after the checkpoint are on the
/// replicas already, and the steps that follow may differ from those that made them: <see cref="ContinueFrom"/> brings the replicas to the
/// restored state under a sequence of its own.
/// </para>
/// <para>
/// After Prapas, Derakhshan, Rezaei Mahdiraji and Markl, "Continuous Training and Deployment of Deep Learning Models",
/// Datenbank-Spektrum 2021. Deterministic: the same arrivals, options, seeds (TorchSharp's too) and number of threads give
/// bit-identical weights. Not thread-safe.
/// </para>
/// </remarks>
public sealed partial class ProactiveTrainer : IDisposable
{
    private readonly nn.Module model;
    private readonly Func<Tensor, Tensor>? predict;
    private readonly Func<Tensor, Tensor, Tensor>? predictionLoss;
    private readonly Func<Tensor, Tensor, Tensor> batchLoss;
    private readonly ProactiveTrainerOptions options;
    private readonly ISampleHistory history;
    private readonly ISampler sampler;
    private readonly IUpdateRule rule;
    private readonly IDeploymentStrategy strategy;
    private readonly ILogger logger;
    private readonly ContinuousDLMetrics metrics;
    private readonly ModelTensors tensors;
    private readonly TrainableVector trainable;
    private readonly DeployedModel deployed;
    private readonly StateGuard state;
    private readonly StateGuard evaluated;
    private readonly Device device;
    private readonly TrainingMode trainingMode;
    private readonly SampleQuarantine quarantine = new();
    private readonly QuarantineFilter batches;
    private long[] indices;
    private long[] lastGood;
    private int lastGoodCount;
    private long firstNew;
    private Task saving = Task.CompletedTask;
    private bool hasStepped;
    private bool hasEvaluated;
    private bool disposed;
    private Exception? fault;

    /// <summary>Makes a trainer of a model with one input and one output.</summary>
    /// <param name="model">The model, as it is: its current state is the deployed state at sequence 0. It stays the caller's.</param>
    /// <param name="loss">Computes the scalar loss of (outputs, targets), such as <c>nn.CrossEntropyLoss()</c>. It stays the caller's.</param>
    /// <param name="optimizer">Any TorchSharp optimizer over the model's parameters; the library's own (<see cref="FusedSgd"/>, <see cref="FusedAdam"/>, <see cref="FusedAdamW"/>) are the fastest. Parameters that it doesn't have are not trained. It stays the caller's.</param>
    /// <param name="options">Batch size, trigger and so on. Default: as the options say.</param>
    /// <param name="components">The parts to use instead of the default ones.</param>
    /// <exception cref="ArgumentException">An option is out of range (the message names it), or the optimizer doesn't fit the model. The components stay the caller's.</exception>
    public ProactiveTrainer(
        nn.Module<Tensor, Tensor> model,
        nn.Module<Tensor, Tensor, Tensor> loss,
        Optimizer optimizer,
        ProactiveTrainerOptions? options = null,
        ProactiveTrainerComponents? components = null)
        : this(
            model ?? throw new ArgumentNullException(nameof(model)),
            Combine(model, loss ?? throw new ArgumentNullException(nameof(loss))),
            optimizer,
            options,
            components,
            model.call)
    {
        predictionLoss = loss.call;
    }

    /// <summary>Makes a trainer of any model.</summary>
    /// <param name="model">The model, as it is: its current state is the deployed state at sequence 0. It stays the caller's.</param>
    /// <param name="batchLoss">Computes the scalar loss of the model on a batch of (inputs, targets); disposes of nothing it is given.</param>
    /// <param name="optimizer">Any TorchSharp optimizer over the model's parameters. Parameters that it doesn't have are not trained. It stays the caller's.</param>
    /// <param name="options">Batch size, trigger and so on. Default: as the options say.</param>
    /// <param name="components">The parts to use instead of the default ones.</param>
    /// <param name="predict">Computes the model's outputs for inputs; needed where an evaluator wants predictions, and for <see cref="Predict"/>. Default: none.</param>
    /// <exception cref="ArgumentException">An option is out of range (the message names it), or the optimizer doesn't fit the model. The components stay the caller's.</exception>
    public ProactiveTrainer(
        nn.Module model,
        Func<Tensor, Tensor, Tensor> batchLoss,
        Optimizer optimizer,
        ProactiveTrainerOptions? options = null,
        ProactiveTrainerComponents? components = null,
        Func<Tensor, Tensor>? predict = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(batchLoss);
        ArgumentNullException.ThrowIfNull(optimizer);
        this.model = model;
        this.batchLoss = batchLoss;
        this.predict = predict;
        this.options = (options ?? new ProactiveTrainerOptions()).Validate().Copy();

        components ??= new ProactiveTrainerComponents();
        history = components.History ?? new InMemorySampleHistory();
        this.options.CheckCapacity(history);
        sampler = components.Sampler ?? new UniformSampler(new SamplerOptions { Seed = this.options.Seed });
        batches = new QuarantineFilter(sampler, quarantine);
        rule = components.UpdateRule ?? optimizer as IUpdateRule ?? new TorchOptimizerRule(optimizer);
        strategy = components.Strategy ?? new UpdateCompression(
            new TopKCompressor(this.options.Density), lookahead: UpdateCompression.LookaheadFor(this.options.Density));
        if (!strategy.Allows(this.options.DeployedValuePrecision))
        {
            throw new ArgumentException(
                $"{nameof(ProactiveTrainerOptions)}.{nameof(ProactiveTrainerOptions.DeployedValuePrecision)} is {this.options.DeployedValuePrecision}: "
                + $"{strategy.GetType().Name} does not allow it. Leave it at Float32, or choose another strategy.",
                nameof(options));
        }

        Evaluator = components.Evaluator ?? new LossEvaluator();
        if (predict is null && Evaluator.NeedsPredictions && this.options.EvaluateArrivals)
        {
            throw new ArgumentException($"A {Evaluator.GetType().Name} needs predictions: give the trainer a function that predicts.", nameof(predict));
        }

        logger = components.Logger ?? NullLogger<ProactiveTrainer>.Instance;
        tensors = ModelTensors.Of(model);
        trainable = new TrainableVector(tensors, rule.Parameters, this.options.OwedWhenFrozen);
        metrics = new ContinuousDLMetrics(components.MeterFactory);
        deployed = new DeployedModel(tensors, trainable, this.options.Buffers, this.options.DeployedValuePrecision);
        try
        {
            strategy.Attach(trainable, rule, deployed);
            TensorSlot[] watched = [.. tensors.Slots, .. NonPersistentBuffers.Of(model, tensors.Slots)];
            (state, evaluated) = (new StateGuard(watched), new StateGuard(watched));
            trainingMode = new TrainingMode(model);
            device = trainable.Parameters[0].device;
            indices = new long[this.options.BatchSize];
            lastGood = new long[this.options.BatchSize];
            firstNew = history.EndIndex;
        }
        catch
        {
            deployed.Dispose();
            metrics.Dispose();
            if (components.Strategy is null) strategy.Dispose();
            throw;
        }

        Log.Started(logger, tensors.Layout.Count, trainable.Layout.Length, strategy.GetType().Name);
    }

    /// <summary>The state that the replicas have after the last step: its sequence and digest.</summary>
    public IDeployedState Deployed => deployed;

    /// <summary>What was measured of the deployed model on the arrivals, before they were trained on.</summary>
    public IPrequentialEvaluator Evaluator { get; }

    /// <summary>How many samples are new: kept, but not trained on yet. Those in quarantine don't count.</summary>
    public long PendingSamples
    {
        get
        {
            var first = Math.Max(firstNew, history.FirstIndex);
            return history.EndIndex - first - quarantine.CountFrom(first);
        }
    }

    /// <summary>How many samples are kept.</summary>
    public long SampleCount => history.Count;

    /// <summary>Adds samples that the model has been trained on already, such as those of its initial training: they are history, neither evaluated nor new.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>. Copied; it stays the caller's.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c>. Copied; it stays the caller's.</param>
    /// <exception cref="ArgumentException">The batch is empty, the counts differ, or shape or dtype is not that of the samples before.</exception>
    /// <exception cref="InvalidOperationException">There are new samples, which would lie before these: take a step first.</exception>
    public void AddHistory(Tensor inputs, Tensor targets)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (PendingSamples > 0) throw new InvalidOperationException($"{PendingSamples} samples are new; take a step before adding older ones.");
        Keep(inputs, targets);
        firstNew = history.EndIndex;
    }

    /// <summary>Takes in arrivals: evaluates the deployed model on them (test-then-train), then keeps them as new samples.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>. Copied; it stays the caller's.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c>. Copied; it stays the caller's.</param>
    /// <returns>The loss on them, and whether a step is due.</returns>
    /// <remarks>
    /// Kept before counted: when the process ends in between, the samples are in a history on disk and not in the evaluator. When
    /// this returns, a <see cref="MappedSampleHistory"/> has them for good, as it says there.
    /// </remarks>
    /// <exception cref="ArgumentException">
    /// The batch is empty, the counts differ, shape or dtype is not that of the samples before, a label is out of range, or the
    /// model or the loss does not accept them. Nothing was kept or counted.
    /// </exception>
    /// <exception cref="UnusableLossException">The loss is not a single real number. Nothing was kept or counted.</exception>
    /// <exception cref="ObjectDisposedException">The trainer, or one of the tensors, is disposed.</exception>
    public ObserveResult Observe(Tensor inputs, Tensor targets)
    {
        ThrowIfUnusable();
        CheckArrivals(inputs, targets);
        using var scope = NewDisposeScope();
        var (predictions, loss) = options.EvaluateArrivals ? Evaluate(inputs, targets) : (null, null);
        Keep(inputs, targets);
        if (loss is not null) Evaluator.Observe(predictions, targets, loss);
        TellSampler(arrivals: (int)inputs.shape[0], loss);
        return new ObserveResult((int)inputs.shape[0], loss, PendingSamples, PendingSamples >= options.TriggerSize);
    }

    /// <summary>Takes one step: trains on a mini-batch of new and historical samples, and moves the deployed model.</summary>
    /// <returns>What it did. Dispose it when its update has been sent.</returns>
    /// <exception cref="InvalidOperationException">
    /// There are no samples to train on; or a parameter group was added to the optimizer after the trainer was made.
    /// </exception>
    /// <exception cref="UnusableLossException">The loss is not a single real number, or does not depend on a parameter that requires a gradient.</exception>
    /// <exception cref="NonFiniteException">The loss, a gradient, or what the forward pass left in the model is not finite, and the options say to throw; or the update is not, although the gradient was.</exception>
    /// <exception cref="BatchFailedException">
    /// The model, the loss or the history threw on the batch. An exception of the caller's own code that no sample is the reason
    /// of is thrown as it is.
    /// </exception>
    /// <exception cref="NonPersistentStateException">The forward pass changed a non-persistent buffer, and the options say to refuse that.</exception>
    /// <exception cref="ObjectDisposedException">The trainer or the model is disposed.</exception>
    /// <remarks>
    /// <para>
    /// Nothing of a step is on disk before the next checkpoint. After a crash the samples it trained on are new again, and the
    /// sampler draws as it did after the last checkpoint.
    /// </para>
    /// <para>
    /// When a batch can't be trained on, everything is as it was before the step, and the samples that are the reason go into
    /// quarantine (<see cref="QuarantinedSamples"/>). The new samples beside them stay new; where no sample is the reason, the
    /// batch's new samples count as seen. Looking for them tries parts of the batch, so that model and loss are called some
    /// more times. On a CUDA device a label out of range leaves the whole device context unusable, which nothing can mend but a
    /// new process: check labels before, as a <see cref="ClassificationEvaluator"/> does.
    /// </para>
    /// <para>
    /// When the optimizer, the strategy or one of its parts throws, the deployed model is what the replicas have, but the trainer can't go on: it says so at every later call.
    /// </para>
    /// </remarks>
    public StepResult Step()
    {
        ThrowIfUnusable();
        ThrowIfParametersWereAdded();
        var clock = new PhaseClock();
        using var scope = NewDisposeScope();
        var sampled = batches.Sample(new SampleRange(history.FirstIndex, Math.Max(firstNew, history.FirstIndex), history.EndIndex), indices);
        if (sampled.Count == 0) throw NoSamples();

        trainingMode.Enter();
        state.Save(hasStepped ? null : static _ => true);
        ModelUpdate? update = null;
        StepProblem? problem;
        double loss;
        try
        {
            (loss, problem) = Train(indices.AsSpan(0, sampled.Count), ref clock);
            if (problem is null)
            {
                update = Deploy(ref clock);
                state.Settle();
            }
        }
        catch (Exception e) when (IsOfTheBatch(e))
        {
            firstNew = sampled.FirstNew;
            throw;
        }
        finally
        {
            if (update is null) state.Restore();
            trainable.Clear();
        }

        var quarantined = problem is null ? Count(sampled, loss) : SetAside(sampled, problem);
        var result = new StepResult(loss, sampled.NewCount, sampled.HistoricalCount, update, problem?.Message, clock.Timings, quarantined);
        Report(result, problem?.Reason);
        return result;
    }

    /// <summary>Takes in arrivals, then takes a step, whether or not one is due: <see cref="Observe"/> and <see cref="Step()"/>.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>. Copied; it stays the caller's.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c>. Copied; it stays the caller's.</param>
    /// <returns>What the step did. Dispose it when its update has been sent.</returns>
    /// <exception cref="ArgumentException">As <see cref="Observe"/>.</exception>
    /// <exception cref="NonFiniteException">As <see cref="Step()"/>. The arrivals were kept.</exception>
    /// <exception cref="BatchFailedException">As <see cref="Step()"/>. The arrivals were kept.</exception>
    public StepResult Step(Tensor inputs, Tensor targets)
    {
        Observe(inputs, targets);
        return Step();
    }

    /// <summary>Predicts with the deployed model, in eval mode and without gradients: what a replica would answer.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>. It stays the caller's.</param>
    /// <returns>The outputs, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The model does not accept them.</exception>
    /// <exception cref="InvalidOperationException">The trainer was made without a way to predict.</exception>
    public Tensor Predict(Tensor inputs)
    {
        ThrowIfUnusable();
        ArgumentNullException.ThrowIfNull(inputs);
        if (inputs.IsInvalid) throw new ObjectDisposedException(nameof(inputs));
        if (predict is null) throw new InvalidOperationException("The trainer was made without a function that predicts.");
        try
        {
            return WithDeployed(() =>
            {
                using var scope = NewDisposeScope();
                return predict(inputs.to(device)).MoveToOuterDisposeScope();
            });
        }
        catch (ExternalException e)
        {
            throw new ArgumentException($"The model does not accept inputs {Shape(inputs)}: {FirstLine(e)}", nameof(inputs), e);
        }
    }

    /// <summary>Copies the deployed model's state: where a replica starts.</summary>
    public ModelSnapshot CreateSnapshot()
    {
        ThrowIfUnusable();
        return deployed.CreateSnapshot();
    }

    /// <summary>Disposes history, strategy and update rule, and what the trainer made itself; not the model, the loss and the optimizer. Waits for checkpoints that are being written.</summary>
    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        Task.WhenAny(saving).Wait();
        DisposeAllButHistory();
        history.Dispose();
    }

    /// <summary>Gives everything back but the history, which holds what can't be had again.</summary>
    private void DisposeAllButHistory()
    {
        strategy.Dispose();
        deployed.Dispose();
        state.Dispose();
        evaluated.Dispose();
        metrics.Dispose();
        if (rule is not Optimizer) rule.Dispose();
    }

    /// <summary>A tensor on the model's device: itself where it is there already.</summary>
    private Tensor OnDevice(Tensor tensor) =>
        tensor.device_type == device.type && tensor.device_index == device.index ? tensor : tensor.to(device);

    private void ThrowIfUnusable()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (fault is not null)
        {
            throw new InvalidOperationException("An earlier step failed half way, so that the optimizer's moments and the residuals may not fit the deployed model any more. Make a new trainer.", fault);
        }

        if (trainable.Parameters[0].IsInvalid)
        {
            throw new ObjectDisposedException(nameof(model), "The model's parameters are gone: it was disposed, or moved to another device or dtype after the trainer was made.");
        }
    }

    private static Func<Tensor, Tensor, Tensor> Combine(nn.Module<Tensor, Tensor> model, nn.Module<Tensor, Tensor, Tensor> loss) =>
        (inputs, targets) => loss.call(model.call(inputs), targets);

    private static void CheckArrivals(Tensor inputs, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(targets);
        if (inputs.IsInvalid) throw new ObjectDisposedException(nameof(inputs));
        if (targets.IsInvalid) throw new ObjectDisposedException(nameof(targets));
        if (inputs.dim() == 0 || inputs.shape[0] == 0) throw new ArgumentException($"A batch of samples has the shape [N, ...] with N above 0; this one has {Shape(inputs)}.", nameof(inputs));
        if (targets.dim() == 0 || targets.shape[0] != inputs.shape[0])
        {
            throw new ArgumentException($"There must be a target for each of the {inputs.shape[0]} inputs; the targets have the shape {Shape(targets)}.", nameof(targets));
        }
    }

    private static string Shape(Tensor tensor) => $"[{string.Join(", ", tensor.shape)}] {tensor.dtype}";

    /// <summary>Moves the trained and the deployed model.</summary>
    private ModelUpdate Deploy(ref PhaseClock clock)
    {
        try
        {
            using (no_grad())
            {
                deployed.TakeMoves(state);
                strategy.Step();
            }

            clock.Lap(ref clock.Update);
            var update = deployed.Commit();
            clock.Lap(ref clock.Deploy);
            return update;
        }
        catch (Exception e)
        {
            // Moments and residuals may have moved while the deployed model has not: going on would break the books.
            deployed.Abandon();
            fault = e;
            if (e is not ExternalException) throw;
            throw new InvalidOperationException($"The optimizer or the strategy failed: {FirstLine(e)}", e);
        }
    }

    /// <summary>Tells logger and meter of a step. What listens there must not make a caller lose the update.</summary>
    private void Report(StepResult result, SkipReason? skipped)
    {
        try
        {
            Tell(result, skipped);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Debug.WriteLine(e);
        }
    }

    private void Tell(StepResult result, SkipReason? skipped)
    {
        var timings = result.Timings;
        metrics.RecordPhase(StepPhase.Gather, timings.Gather);
        metrics.RecordPhase(StepPhase.Forward, timings.Forward);
        metrics.RecordPhase(StepPhase.Backward, timings.Backward);
        if (skipped is not null)
        {
            metrics.RecordSkippedStep(skipped.Value);
            Log.StepSkipped(logger, Deployed.Sequence, result.SkipReason!);
            return;
        }

        metrics.RecordPhase(StepPhase.Update, timings.Update);
        metrics.RecordPhase(StepPhase.Deploy, timings.Deploy);
        metrics.RecordStep(result.Loss, result.NewSamples, result.HistoricalSamples, timings.Total);
        metrics.RecordUpdate(result.CoordinatesChanged, result.Update!.SizeInBytes);
        Log.Stepped(logger, Deployed.Sequence, result.Loss, result.NewSamples, result.HistoricalSamples, result.CoordinatesChanged);
    }

    /// <summary>The gradients of a batch; and where it can't be trained on, why.</summary>
    private (double Loss, StepProblem? Problem) ComputeGradients(Tensor inputs, Tensor targets, ref PhaseClock clock)
    {
        using var recording = enable_grad();
        Tensor loss;
        double value;
        try
        {
            loss = batchLoss(inputs, targets);
            value = ToScalar(loss);
        }
        catch (Exception e) when (IsOfTheBatch(e) && e is not UnusableLossException)
        {
            return (double.NaN, Failure("The model or its loss", inputs, targets, e));
        }

        clock.Lap(ref clock.Forward);
        if (!double.IsFinite(value)) return (value, new StepProblem(SkipReason.NonFiniteLoss, $"The loss is {value}.") { Loss = value });
        ThrowIfConstant(loss);
        try
        {
            loss.backward();
        }
        catch (Exception e) when (IsOfTheBatch(e))
        {
            return (value, Failure("The backward pass", inputs, targets, e));
        }

        var problem = trainable.Collect(out var parameter)
            ? CheckState(value)
            : new StepProblem(SkipReason.NonFiniteGradient, $"The gradient of '{parameter}' is not finite.") { Loss = value, Parameter = parameter };
        clock.Lap(ref clock.Backward);
        return (value, problem);
    }

    /// <summary>
    /// Looks at what the forward pass did to the model's own tensors. A value that is not finite would spoil every replica, and
    /// itself for good where it is averaged: the step is refused then, as for a gradient.
    /// </summary>
    /// <param name="loss">The loss of the batch.</param>
    /// <returns>What is wrong; null where nothing is.</returns>
    /// <exception cref="NonPersistentStateException">A non-persistent buffer was changed, and the options say to refuse that.</exception>
    private StepProblem? CheckState(double loss)
    {
        state.Look();
        hasStepped = true;
        if (state.FirstNonFinite(tensors.Slots.Count) is { } tensor)
        {
            return new StepProblem(
                SkipReason.NonFiniteState,
                $"The forward pass left a value in '{tensor}' that is not finite, though the loss and the gradients are.")
            { Loss = loss, Parameter = tensor };
        }

        for (var i = tensors.Slots.Count; options.NonPersistentBuffers == NonPersistentBufferHandling.Refuse && i < state.Count; i++)
        {
            if (state.IsTouched(i)) throw new NonPersistentStateException(state.NameOf(i));
        }

        return null;
    }

    /// <summary>Evaluates the deployed model on arrivals, and checks them, without counting anything yet.</summary>
    private (Tensor? Predictions, double? Loss) Evaluate(Tensor inputs, Tensor targets)
    {
        var start = Stopwatch.GetTimestamp();
        try
        {
            var (input, target) = (OnDevice(inputs), OnDevice(targets));
            var result = WithDeployed(() =>
            {
                var predictions = predict?.Invoke(input);
                Evaluator.Validate(predictions, target);
                return (predictions, ToScalar(predictions is not null && predictionLoss is not null ? predictionLoss(predictions, target) : batchLoss(input, target)));
            });
            metrics.RecordPhase(StepPhase.Evaluate, Stopwatch.GetElapsedTime(start));
            return result;
        }
        catch (ExternalException e)
        {
            throw new ArgumentException(
                $"The model or its loss does not accept inputs {Shape(inputs)} with targets {Shape(targets)}: {FirstLine(e)}", e);
        }
    }

    /// <summary>
    /// Does something with the model as the replicas have it, in eval mode and without gradients. Afterwards the model has its
    /// trained values, and whatever a forward pass wrote to the model's own tensors is put back.
    /// </summary>
    private T WithDeployed<T>(Func<T> evaluate)
    {
        state.Note();
        try
        {
            using var mode = trainingMode.Evaluate();
            using var guard = no_grad();
            using var swap = deployed.Enter(state);
            evaluated.Settle();
            evaluated.Save(hasEvaluated ? null : i => i >= tensors.Slots.Count || !deployed.IsApart(i));
            try
            {
                var result = evaluate();
                hasEvaluated = true;
                return result;
            }
            finally
            {
                evaluated.Look();
                evaluated.Restore();
            }
        }
        finally
        {
            SettleAfterEvaluation();
        }
    }

    /// <summary>
    /// What evaluating wrote to the model has been put back, so that it is no change for the next step; except for what was not
    /// known to change and is trained and deployed in one: that is deployed with the next update.
    /// </summary>
    private void SettleAfterEvaluation()
    {
        for (var i = 0; i < state.Count; i++)
        {
            var isPutBack = !evaluated.IsTouched(i) || evaluated.Before(i) is not null || (i < tensors.Slots.Count && deployed.IsApart(i));
            if (isPutBack && !state.WasTouched(i)) state.Settle(i);
        }
    }

    private static double ToScalar(Tensor loss)
    {
        if (loss is null || loss.IsInvalid) throw new UnusableLossException("The loss must be a single number; it is null, or disposed of.");
        if (loss.is_complex()) throw new UnusableLossException($"The loss must be a real number; it is {Shape(loss)}. Take its absolute value.");
        if (loss.numel() != 1) throw new UnusableLossException($"The loss must be a single number; it has the shape {Shape(loss)}. Take its mean.");
        return loss.SingleNumber();
    }

    /// <summary>Times the phases of a step, one after the other.</summary>
    private struct PhaseClock()
    {
        public TimeSpan Gather, Forward, Backward, Update, Deploy;
        private long last = Stopwatch.GetTimestamp();

        public readonly StepTimings Timings => new(Gather, Forward, Backward, Update, Deploy);

        public void Lap(ref TimeSpan phase)
        {
            var now = Stopwatch.GetTimestamp();
            phase = Stopwatch.GetElapsedTime(last, now);
            last = now;
        }
    }
}
