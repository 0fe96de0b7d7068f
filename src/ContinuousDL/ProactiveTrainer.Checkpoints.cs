using ContinuousDL.Checkpoints;
using ContinuousDL.Diagnostics;
using ContinuousDL.History;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Sampling;
using ContinuousDL.State;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.optim;

namespace ContinuousDL;

/// <content>What lets a trainer outlive its process: checkpoints, and going on with replicas that have other states.</content>
public sealed partial class ProactiveTrainer
{
    /// <summary>Puts a trainer together again from a checkpoint: its next steps are, bit for bit, those that would have followed it.</summary>
    /// <param name="path">The checkpoint.</param>
    /// <param name="model">A model of the same architecture. Its values are replaced by the checkpoint's. It stays the caller's.</param>
    /// <param name="loss">The same loss. It stays the caller's.</param>
    /// <param name="optimizer">An optimizer of the same kind over the model's parameters; learning rates and other options become the checkpoint's. It stays the caller's.</param>
    /// <param name="options">The same options: they are not part of a checkpoint.</param>
    /// <param name="components">
    /// The same parts, newly made, and the history that the trainer had (see <see cref="SaveCheckpointAsync"/>): what the parts
    /// are made with is not part of a checkpoint, what they have gathered since is.
    /// </param>
    /// <returns>The trainer.</returns>
    /// <remarks>
    /// Sets TorchSharp's random state on the CPU, which dropout and the like draw from; that of other devices can't be had from
    /// TorchSharp, so that with dropout on a GPU the steps that follow are as good, but not the same. A learning-rate scheduler is the
    /// caller's: its own count of steps is not part of the checkpoint, the learning rates that it set are. When this throws, model
    /// and optimizer are as they were, the history stays the caller's, and the other components are used up.
    /// </remarks>
    /// <exception cref="CheckpointException">The checkpoint is damaged, or of a trainer with another model, other parts, or a history that this one does not reach; the message says which.</exception>
    /// <exception cref="FileNotFoundException">There is no checkpoint.</exception>
    /// <exception cref="IOException">It could not be read.</exception>
    /// <exception cref="ArgumentException">As the constructor's.</exception>
    public static ProactiveTrainer Restore(
        string path,
        nn.Module<Tensor, Tensor> model,
        nn.Module<Tensor, Tensor, Tensor> loss,
        Optimizer optimizer,
        ProactiveTrainerOptions? options = null,
        ProactiveTrainerComponents? components = null) =>
        Restore(path, model, () => new ProactiveTrainer(model, loss, optimizer, options, components));

    /// <summary>Puts a trainer of any model together again from a checkpoint: its next steps are, bit for bit, those that would have followed it.</summary>
    /// <param name="path">The checkpoint.</param>
    /// <param name="model">A model of the same architecture. Its values are replaced by the checkpoint's. It stays the caller's.</param>
    /// <param name="batchLoss">Computes the same loss.</param>
    /// <param name="optimizer">An optimizer of the same kind over the model's parameters; learning rates and other options become the checkpoint's. It stays the caller's.</param>
    /// <param name="options">The same options: they are not part of a checkpoint.</param>
    /// <param name="components">The same parts, newly made, and the history that the trainer had.</param>
    /// <param name="predict">Computes the model's outputs for inputs, as for the constructor. Default: none.</param>
    /// <returns>The trainer.</returns>
    /// <remarks>As <see cref="Restore(string, nn.Module{Tensor, Tensor}, nn.Module{Tensor, Tensor, Tensor}, Optimizer, ProactiveTrainerOptions, ProactiveTrainerComponents)"/>.</remarks>
    /// <exception cref="CheckpointException">The checkpoint is damaged, or of a trainer with another model, other parts, or a history that this one does not reach; the message says which.</exception>
    /// <exception cref="FileNotFoundException">There is no checkpoint.</exception>
    /// <exception cref="IOException">It could not be read.</exception>
    /// <exception cref="ArgumentException">As the constructor's.</exception>
    public static ProactiveTrainer Restore(
        string path,
        nn.Module model,
        Func<Tensor, Tensor, Tensor> batchLoss,
        Optimizer optimizer,
        ProactiveTrainerOptions? options = null,
        ProactiveTrainerComponents? components = null,
        Func<Tensor, Tensor>? predict = null) =>
        Restore(path, model, () => new ProactiveTrainer(model, batchLoss, optimizer, options, components, predict));

    /// <summary>Saves everything that decides the next steps, and waits until it is on disk.</summary>
    /// <param name="path">The file; one that is there is replaced, at once and as a whole.</param>
    /// <exception cref="IOException">It could not be written. What was there is still there.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written. What was there is still there.</exception>
    /// <exception cref="NotSupportedException">The optimizer does not offer its state.</exception>
    /// <remarks>As <see cref="SaveCheckpointAsync"/>.</remarks>
    public void SaveCheckpoint(string path) => SaveCheckpointAsync(path).GetAwaiter().GetResult();

    /// <summary>Saves everything that decides the next steps: copies it before it returns, and writes it while the trainer goes on.</summary>
    /// <param name="path">The file; one that is there is replaced, at once and as a whole.</param>
    /// <param name="cancellationToken">Gives up writing. What was there is still there.</param>
    /// <returns>
    /// Ends when the checkpoint survives a power loss; fails with an <see cref="IOException"/> or
    /// <see cref="UnauthorizedAccessException"/> when it could not be written, which is logged as well.
    /// </returns>
    /// <remarks>
    /// <para>
    /// A checkpoint has the trained model, all persistent buffers included; the deployed model, its run and sequence; optimizer, residuals
    /// and compressor; the sampler and which samples are new or in quarantine; the evaluator; TorchSharp's random state on the CPU. The samples
    /// are not part of it: a <see cref="MappedSampleHistory"/> has them anyway, and is flushed first; an
    /// <see cref="InMemorySampleHistory"/> has to be filled again, in the same order, before a trainer is restored with it.
    /// </para>
    /// <para>
    /// Save one before the first arrivals, too: a trainer that is made anew over a history that is there takes all of it as
    /// trained on. Nothing has to be kept of older checkpoints.
    /// </para>
    /// <para>
    /// Takes the memory of a copy until it is written. Saves are written one after the other, in the order of the calls: await
    /// one before the next where the disk is slow. Disposing the trainer waits for them.
    /// </para>
    /// </remarks>
    /// <exception cref="InvalidOperationException">Something else than the trainer has written to a parameter since the last step; the message names it.</exception>
    /// <exception cref="NotSupportedException">The optimizer does not offer its state.</exception>
    public Task SaveCheckpointAsync(string path, CancellationToken cancellationToken = default)
    {
        ThrowIfUnusable();
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (cancellationToken.IsCancellationRequested) return Task.FromCanceled(cancellationToken);
        deployed.ThrowIfMoved(state);
        var copy = CopyState();
        return saving = WriteAsync(saving, Path.GetFullPath(path), copy, deployed.Sequence, cancellationToken);
    }

    /// <summary>
    /// Makes the replicas follow this trainer from the state that they have, as after a restore: the state of the updates that
    /// were made after the checkpoint.
    /// </summary>
    /// <param name="replicas">The state that the replicas have: that after the last update that was published.</param>
    /// <returns>
    /// The update that brings them to the trainer's state, to be published before any other; null where they have it and the
    /// trainer goes on from there. Dispose it when it has been sent.
    /// </returns>
    /// <remarks>
    /// <para>
    /// No sequence is ever used for two states: where the replicas' sequence is the trainer's or a later one, the trainer's
    /// state becomes the one after it. Where it is an earlier one (updates were made, but never published), the update leads to
    /// the trainer's sequence.
    /// </para>
    /// <para>
    /// A trainer that has made no update yet takes over the replicas' run, and so can go on where all else was lost. One that has
    /// refuses another run than its own, which most likely is a mistake: its sequences say nothing in that run.
    /// </para>
    /// </remarks>
    /// <exception cref="ModelMismatchException">The snapshot is of a model of another architecture.</exception>
    /// <exception cref="RunMismatchException">The snapshot is of another run.</exception>
    public ModelUpdate? ContinueFrom(ModelSnapshot replicas)
    {
        ThrowIfUnusable();
        CheckArchitecture(replicas);
        if (replicas.RunId != Guid.Empty && replicas.RunId != deployed.RunId && deployed.Sequence > 0) throw new RunMismatchException(deployed.RunId, replicas);
        var runId = replicas.RunId == Guid.Empty ? deployed.RunId : replicas.RunId;
        var isSame = replicas.StateDigest == deployed.Digest;
        if (isSame && replicas.Sequence >= deployed.Sequence)
        {
            deployed.Renumber(runId, replicas.Sequence);
            return null;
        }

        var sequence = replicas.Sequence < deployed.Sequence ? deployed.Sequence : replicas.Sequence + 1;
        var update = ModelUpdate.Between(replicas, deployed.CreateSnapshot(), sequence, runId);
        deployed.Renumber(runId, sequence);
        metrics.RecordUpdate(update.Count, update.SizeInBytes);
        Log.Continued(logger, sequence, update.Count);
        return update;
    }

    /// <summary>
    /// Goes back to an older state: trained and deployed model take its values, as the next sequence. What was owed is forgotten,
    /// and so are the optimizer's moments, since both belong to the state that is given up; learning rates, sampler and
    /// evaluator go on as they are.
    /// </summary>
    /// <param name="older">The state to go back to, of whatever run and sequence: only its values count.</param>
    /// <returns>The update for the replicas, with the coordinates that differ. Dispose it when it has been sent.</returns>
    /// <exception cref="ModelMismatchException">The snapshot is of a model of another architecture.</exception>
    /// <exception cref="NotSupportedException">The optimizer does not offer its state, so that it can't be reset. Nothing has changed.</exception>
    public ModelUpdate RollBackTo(ModelSnapshot older)
    {
        ThrowIfUnusable();
        CheckArchitecture(older);
        var update = ModelUpdate.Between(deployed.CreateSnapshot(), older, deployed.Sequence + 1);
        rule.Reset();
        try
        {
            deployed.Take(older);
            strategy.Reset();
            state.Settle();
        }
        catch (Exception e)
        {
            fault = e;
            throw;
        }

        metrics.RecordUpdate(update.Count, update.SizeInBytes);
        Log.RolledBack(logger, deployed.Sequence, older.Sequence);
        return update;
    }

    private static ProactiveTrainer Restore(string path, nn.Module model, Func<ProactiveTrainer> create)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(model);
        using var checkpoint = CheckpointFile.Open(path);
        checkpoint.Read(Section.Model, reader => CheckLayout(reader, ModelLayout.Of(model)));
        var trainer = create();
        try
        {
            trainer.Load(checkpoint);
            return trainer;
        }
        catch
        {
            trainer.DisposeAllButHistory();
            throw;
        }
    }

    private static void CheckLayout(BinaryReader reader, ModelLayout layout)
    {
        for (var (i, count) = (0, reader.ReadInt32()); i < Math.Max(count, layout.Entries.Count); i++)
        {
            var saved = i < count ? reader.ReadString() : "missing";
            var present = i < layout.Entries.Count ? layout.Entries[i].ToString() : "missing";
            if (saved != present) throw new InvalidDataException($"it is of another architecture, in which tensor {i} is {saved} and not {present}");
        }
    }

    private void CheckArchitecture(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        if (snapshot.Layout.FirstDifference(deployed.Layout) is { } difference)
        {
            throw new ModelMismatchException($"The snapshot is of a model of another architecture. {difference}");
        }
    }

    private async Task WriteAsync(Task earlier, string path, StateCopy state, long sequence, CancellationToken cancellationToken)
    {
        using (state)
        {
            await earlier.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            try
            {
                await Task.Run(
                    () =>
                    {
                        // The checkpoint counts on the samples, so they come first.
                        history.Flush();
                        CheckpointFile.Write(path, state, cancellationToken);
                    },
                    cancellationToken).ConfigureAwait(false);
                Log.CheckpointSaved(logger, sequence, path);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                Log.CheckpointFailed(logger, sequence, path, e);
                throw;
            }
        }
    }

    /// <summary>Copies everything that a checkpoint has: all that saving one holds the trainer up for.</summary>
    internal StateCopy CopyState()
    {
        var state = new StateCopy();
        try
        {
            state.Add(Section.Model, SaveLayout);
            state.Add(Section.Trainer, SaveBooks);
            state.Add(Section.Quarantine, SaveQuarantine);
            state.Add(Section.Trained, writer => tensors.Save(writer));
            state.Add(Section.Deployed, deployed.SaveOwn);
            state.Add(Section.Strategy, strategy.SaveState);
            state.Add(Section.Sampler, sampler.SaveState);
            state.Add(Section.Evaluator, Evaluator.SaveState);
            state.Add(Section.Optimizer, rule.SaveState);
            state.Add(Section.Random, SaveRandomState);
            return state;
        }
        catch
        {
            state.Dispose();
            throw;
        }
    }

    private void SaveLayout(BinaryWriter writer)
    {
        writer.Write(tensors.Layout.Entries.Count);
        foreach (var entry in tensors.Layout.Entries) writer.Write(entry.ToString());
    }

    private void SaveBooks(BinaryWriter writer)
    {
        writer.Write(deployed.RunId.ToByteArray());
        writer.Write(deployed.Sequence);
        writer.Write(deployed.Digest);
        writer.Write(firstNew);
        writer.Write(history.FirstIndex);
        writer.Write(history.EndIndex);
        writer.Write(deployed.HasOwnParameters);
        foreach (var (_, name) in Parts()) writer.Write(name);
    }

    /// <summary>The parts that have a state, each with the name of its type.</summary>
    private (string Part, string Type)[] Parts() =>
    [
        (Section.Strategy, strategy.GetType().ToString()), (Section.Sampler, sampler.GetType().ToString()),
        (Section.Evaluator, Evaluator.GetType().ToString()), (Section.Optimizer, rule.GetType().ToString()),
    ];

    private static void SaveRandomState(BinaryWriter writer)
    {
        using var state = random.get_rng_state();
        var bytes = state.bytes;
        writer.Write(bytes.Length);
        writer.Write(bytes);
    }

    private static void LoadRandomState(BinaryReader reader)
    {
        using var current = random.get_rng_state();
        var length = reader.ReadInt32();
        if (length != current.numel()) throw new InvalidDataException($"it has {length} bytes, this version of libtorch has {current.numel()}");
        using var state = empty(length, dtype: ScalarType.Byte);
        reader.ReadExactly(state.bytes);
        random.set_rng_state(state);
    }

    private void Load(CheckpointFile checkpoint)
    {
        var (runId, sequence, digest, savedFirstNew) = (Guid.Empty, 0L, 0ul, 0L);
        checkpoint.Read(Section.Trainer, reader =>
        {
            runId = new Guid(reader.ReadBytes(16));
            (sequence, digest, savedFirstNew) = (reader.ReadInt64(), reader.ReadUInt64(), reader.ReadInt64());
            CheckHistory(reader.ReadInt64(), reader.ReadInt64());
            var hasOwnParameters = reader.ReadBoolean();
            foreach (var (part, type) in Parts())
            {
                if (reader.ReadString() is var saved && saved != type) throw new InvalidDataException($"the {part} was a {saved}, and is now a {type}");
            }

            if (hasOwnParameters != deployed.HasOwnParameters) throw new InvalidDataException("the strategy was made with another look-ahead");
        });

        checkpoint.Read(Section.Quarantine, LoadQuarantine);
        var before = ModelSnapshot.Of(tensors);
        try
        {
            checkpoint.Read(Section.Trained, reader => tensors.Load(reader));
            checkpoint.Read(Section.Deployed, reader =>
            {
                deployed.LoadOwn(reader);
                deployed.Identify(runId, sequence, digest);
            });
            checkpoint.Read(Section.Strategy, strategy.LoadState);
            checkpoint.Read(Section.Sampler, sampler.LoadState);
            checkpoint.Read(Section.Evaluator, Evaluator.LoadState);
            checkpoint.Read(Section.Random, LoadRandomState);

            // Last: what fails here leaves the optimizer as it was, and nothing can fail after it.
            checkpoint.Read(Section.Optimizer, rule.LoadState);
        }
        catch
        {
            before.CopyTo(tensors);
            throw;
        }

        state.Settle();
        firstNew = savedFirstNew;
        Log.Restored(logger, sequence, PendingSamples);
    }

    private void CheckHistory(long savedFirst, long savedEnd)
    {
        if (history.EndIndex < savedEnd)
        {
            throw new InvalidDataException(
                $"the trainer had seen {savedEnd} samples, and the history ends at {history.EndIndex}; restore with the history that it had, or fill one again first");
        }

        if (history.FirstIndex < savedFirst)
        {
            throw new InvalidDataException($"the trainer had forgotten the samples before {savedFirst}, and the history begins at {history.FirstIndex}");
        }
    }

    /// <summary>The names of the sections of a checkpoint, as messages have them.</summary>
    private static class Section
    {
        public const string Model = "model";
        public const string Trainer = "trainer's books";
        public const string Quarantine = "quarantine";
        public const string Trained = "trained model";
        public const string Deployed = "deployed model";
        public const string Strategy = "deployment strategy";
        public const string Sampler = "sampler";
        public const string Evaluator = "evaluator";
        public const string Optimizer = "optimizer";
        public const string Random = "random state";
    }
}
