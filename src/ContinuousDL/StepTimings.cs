namespace ContinuousDL;

/// <summary>How long the phases of a step took.</summary>
/// <param name="Gather">Picking the samples and copying them into a batch on the model's device.</param>
/// <param name="Forward">The forward pass and the loss.</param>
/// <param name="Backward">The backward pass, and taking the gradients.</param>
/// <param name="Update">The optimizer, the residual memory, the compressor, and changing the deployed model.</param>
/// <param name="Deploy">Deploying buffers and making the update.</param>
public readonly record struct StepTimings(TimeSpan Gather, TimeSpan Forward, TimeSpan Backward, TimeSpan Update, TimeSpan Deploy)
{
    /// <summary>All phases together.</summary>
    public TimeSpan Total => Gather + Forward + Backward + Update + Deploy;
}
