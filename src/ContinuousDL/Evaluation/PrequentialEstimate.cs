namespace ContinuousDL.Evaluation;

/// <summary>One measure of a model on a stream, looking back in the three ways of Gama et al. 2013, section 3.</summary>
/// <param name="Cumulative">The mean over all samples. Early mistakes weigh as much as late ones.</param>
/// <param name="Fading">
/// The mean in which the weight of a sample shrinks by α with every sample after it:
/// Sᵢ/Bᵢ with Sᵢ = xᵢ + α·Sᵢ₋₁ and Bᵢ = 1 + α·Bᵢ₋₁.
/// </param>
/// <param name="Window">The mean over the newest W samples, or all where there are fewer.</param>
public readonly record struct PrequentialEstimate(double Cumulative, double Fading, double Window);
