namespace ContinuousDL.Diagnostics;

/// <summary>The parts that the time of an iteration goes into; the values of the tag <c>phase</c>.</summary>
internal enum StepPhase
{
    /// <summary>Choosing the samples of the mini-batch and copying them together.</summary>
    Gather,

    /// <summary>The model's outputs and the loss.</summary>
    Forward,

    /// <summary>The gradients.</summary>
    Backward,

    /// <summary>The optimizer, the residual memory, choosing what is sent, and changing the deployed model by it.</summary>
    Update,

    /// <summary>Deploying buffers, and making the update.</summary>
    Deploy,

    /// <summary>Testing the deployed model on the arrivals, before they are trained on.</summary>
    Evaluate,
}
