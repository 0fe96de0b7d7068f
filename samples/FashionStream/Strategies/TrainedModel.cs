using ContinuousDL.Optimization;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.State;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>A model fresh from its training, and what its optimizer had learnt about the gradients by then. It owns the model.</summary>
internal sealed class TrainedModel : IDisposable
{
    private readonly byte[] optimizerState;

    /// <param name="model">The model. It is taken over.</param>
    /// <param name="optimizer">Its optimizer. It stays the caller's.</param>
    /// <param name="steps">The number of steps that the training took.</param>
    public TrainedModel(LeNet5 model, FusedAdam optimizer, int steps)
    {
        using var state = new MemoryStream();
        using (var writer = new BinaryWriter(state)) optimizer.SaveState(writer);
        optimizerState = state.ToArray();
        (Model, Steps) = (model, steps);
    }

    /// <summary>The model.</summary>
    public LeNet5 Model { get; }

    /// <summary>The number of steps that the training took.</summary>
    public int Steps { get; }

    /// <summary>Makes an optimizer go on where this model's optimizer left off.</summary>
    /// <param name="optimizer">An optimizer over a copy of the model.</param>
    public void Restore(FusedAdam optimizer)
    {
        using var reader = new BinaryReader(new MemoryStream(optimizerState));
        optimizer.LoadState(reader);
    }

    /// <inheritdoc />
    public void Dispose() => Model.Dispose();
}
