using System.Diagnostics;
using System.Runtime.InteropServices;
using ContinuousDL.Diagnostics;
using ContinuousDL.Failures;
using ContinuousDL.History;
using ContinuousDL.Sampling;
using static TorchSharp.torch;

namespace ContinuousDL;

/// <content>What becomes of a batch that can't be trained on: the samples that are the reason are found, and never drawn again.</content>
public sealed partial class ProactiveTrainer
{
    /// <summary>
    /// The samples that batches could not be trained on with, in the order of their indices: they stay in the history as long as
    /// any other sample, and are never drawn again, by whatever sampler. Goes along with the trainer, checkpoints included;
    /// copy it to keep it.
    /// </summary>
    public IReadOnlyList<QuarantinedSample> QuarantinedSamples => quarantine.Samples;

    /// <summary>Keeps samples in the history.</summary>
    private void Keep(Tensor inputs, Tensor targets)
    {
        history.Append(inputs, targets);
        quarantine.Forget(history.FirstIndex);
    }

    /// <summary>Computes the gradients of a batch; or says why it can't be trained on. Buffers may have moved in either case.</summary>
    private (double Loss, StepProblem? Problem) Train(ReadOnlySpan<long> samples, ref PhaseClock clock)
    {
        trainable.Clear();
        SampleBatch batch;
        try
        {
            batch = history.Gather(samples);
        }
        catch (SampleHistoryException e) when (e.SampleIndex is not null)
        {
            return (double.NaN, new StepProblem(SkipReason.UnreadableSample, e.Message) { Cause = e });
        }

        using (batch)
        {
            var (inputs, targets) = (OnDevice(batch.Inputs), OnDevice(batch.Targets));
            clock.Lap(ref clock.Gather);
            return ComputeGradients(inputs, targets, ref clock);
        }
    }

    /// <summary>Notes that a batch was trained on.</summary>
    /// <returns>What it brought into quarantine: nothing.</returns>
    private IReadOnlyList<QuarantinedSample> Count(BatchSelection sampled, double loss)
    {
        TellSampler(indices.AsSpan(0, sampled.Count), loss);
        firstNew = sampled.FirstNew;
        (indices, lastGood, lastGoodCount) = (lastGood, indices, sampled.Count);
        return [];
    }

    /// <summary>Tells the sampler of a step. The update is made, and must not be lost because of what the sampler makes of it.</summary>
    private void TellSampler(ReadOnlySpan<long> batch, double loss)
    {
        try
        {
            batches.OnTrained(batch, loss);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Log.SamplerFailed(logger, deployed.Sequence, e);
        }
    }

    /// <summary>Tells the sampler of the newest samples. They are kept, and must not be added once more because of what the sampler makes of them.</summary>
    private void TellSampler(int arrivals, double? loss)
    {
        try
        {
            batches.OnArrived(history.EndIndex - arrivals, arrivals, loss);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Log.SamplerFailed(logger, deployed.Sequence, e);
        }
    }

    /// <summary>Puts the samples into quarantine because of which a batch could not be trained on.</summary>
    /// <returns>Those samples. Throws instead where the options say so, or where the problem is an exception and no sample's.</returns>
    private IReadOnlyList<QuarantinedSample> SetAside(BatchSelection sampled, StepProblem problem)
    {
        var batch = indices.AsSpan(0, sampled.Count);
        var offenders = problem.Reason == SkipReason.UnreadableSample ? FindUnreadable(batch) : FindOffenders(batch);
        var found = new QuarantinedSample[offenders.Count];
        for (var i = 0; i < found.Length; i++)
        {
            var (index, own) = offenders[i];
            found[i] = new QuarantinedSample(index, own.Reason, own.Message, deployed.Sequence);
            quarantine.Add(found[i]);
        }

        Report(found);

        // Without a sample to blame, taking the same new samples again would fail again, for ever.
        if (found.Length == 0) firstNew = sampled.FirstNew;
        if (options.NonFinite == NonFiniteHandling.Throw || (problem.Cause is not null && found.Length == 0)) problem.Throw(found);
        return found;
    }

    /// <summary>Tells logger and meter of samples that went into quarantine.</summary>
    private void Report(QuarantinedSample[] found)
    {
        try
        {
            foreach (var sample in found)
            {
                metrics.RecordQuarantinedSample(sample.Reason);
                Log.SampleQuarantined(logger, sample.Index, sample.Sequence, sample.Message);
            }
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Debug.WriteLine(e);
        }
    }

    private List<(long Index, StepProblem Problem)> FindUnreadable(ReadOnlySpan<long> batch)
    {
        var unreadable = new List<(long, StepProblem)>();
        foreach (var index in batch.ToArray().Distinct())
        {
            try
            {
                history.Gather([index]).Dispose();
            }
            catch (SampleHistoryException e) when (e.SampleIndex == index)
            {
                unreadable.Add((index, new StepProblem(SkipReason.UnreadableSample, e.Message)));
            }
        }

        return unreadable;
    }

    private IReadOnlyList<(long Index, StepProblem Problem)> FindOffenders(ReadOnlySpan<long> batch)
    {
        var control = Array.FindAll(lastGood[..lastGoodCount], index => index >= history.FirstIndex && !quarantine.Contains(index));
        using var randomState = random.get_rng_state();
        try
        {
            return OffenderSearch.Find(batch, control, samples => Attempt(samples, randomState));
        }
        finally
        {
            random.set_rng_state(randomState);
        }
    }

    /// <summary>Tries to train on samples, and changes nothing. Every attempt draws the same random numbers, so that dropout is no source of chance.</summary>
    private StepProblem? Attempt(long[] samples, Tensor randomState)
    {
        using var scope = NewDisposeScope();
        random.set_rng_state(randomState);
        state.Save(hasStepped ? null : static _ => true);
        try
        {
            var clock = new PhaseClock();
            return Train(samples, ref clock).Problem;
        }
        catch (Exception e) when (IsOfTheBatch(e))
        {
            return new StepProblem(SkipReason.Failure, FirstLine(e)) { Cause = e };
        }
        finally
        {
            state.Restore();
            trainable.Clear();
        }
    }

    /// <summary>Whether an exception may come of what is in the batch: not when memory, disk or somebody's wish is the reason.</summary>
    private static bool IsOfTheBatch(Exception e) => e is not (OutOfMemoryException or IOException or OperationCanceledException);

    private static StepProblem Failure(string part, Tensor inputs, Tensor targets, Exception e) =>
        new(SkipReason.Failure, $"{part} failed on a batch of inputs {Shape(inputs)} with targets {Shape(targets)}: {FirstLine(e)}") { Cause = e };

    private static string FirstLine(Exception e) => e.Message.Split('\n')[0];

    private static void ThrowIfConstant(Tensor loss)
    {
        if (loss.requires_grad) return;
        throw new UnusableLossException(
            $"The loss, {Shape(loss)}, does not depend on any parameter that requires a gradient, so that there is nothing to learn from it: "
            + "it may have been computed under no_grad, detached, rounded, or made of numbers. Nothing has changed.");
    }

    private void ThrowIfParametersWereAdded()
    {
        var count = rule.Parameters.Count;
        if (count == trainable.RuleCount) return;
        throw new InvalidOperationException(
            $"Parameters were added to the optimizer after the trainer was made of it: it had {trainable.RuleCount}, and has {count}. "
            + "Nothing has changed. Make a new trainer of the model and the optimizer as they are now.");
    }

    private InvalidOperationException NoSamples() => new(quarantine.IsEmpty
        ? "There are no samples to train on: call Observe or AddHistory first."
        : $"There are no samples to train on beside the {quarantine.Samples.Count} in quarantine: call Observe or AddHistory first.");

    private void SaveQuarantine(BinaryWriter writer)
    {
        quarantine.Save(writer);
        writer.Write(lastGoodCount);
        writer.Write(MemoryMarshal.AsBytes(lastGood.AsSpan(0, lastGoodCount)));
    }

    private void LoadQuarantine(BinaryReader reader)
    {
        quarantine.Load(reader, history.EndIndex);
        quarantine.Forget(history.FirstIndex);
        var count = reader.ReadInt32();
        if (count is < 0 or > ProactiveTrainerOptions.MostSamples) throw new InvalidDataException($"the last batch had {count} samples");
        var samples = new long[count];
        reader.ReadExactly(MemoryMarshal.AsBytes(samples.AsSpan()));
        if (samples.AsSpan().ContainsAnyExceptInRange(0, history.EndIndex - 1)) throw new InvalidDataException("the last batch had samples that are not in the history");

        // The batch size is an option, and so may have become smaller.
        lastGoodCount = Math.Min(count, lastGood.Length);
        samples.AsSpan(0, lastGoodCount).CopyTo(lastGood);
    }
}
