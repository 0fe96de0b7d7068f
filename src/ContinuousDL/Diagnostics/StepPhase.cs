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

    /// <summary>What the optimizer makes of the gradients.</summary>
    Update,

    /// <summary>Choosing what is sent, and the residual memory.</summary>
    Compress,

    /// <summary>Applying the update to the deployed model, and the digest.</summary>
    Deploy,

    /// <summary>Testing the deployed model on the arrivals, before they are trained on.</summary>
    Evaluate,
}
