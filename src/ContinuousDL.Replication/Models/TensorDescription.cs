namespace ContinuousDL.Replication.Models;

/// <summary>One tensor of a model, as a layout describes it.</summary>
/// <param name="Name">The name that the model gives it, such as <c>conv1.weight</c>.</param>
/// <param name="Kind">Parameter or buffer.</param>
/// <param name="DType">The type of its elements.</param>
/// <param name="Shape">Its shape.</param>
public readonly record struct TensorDescription(string Name, CoordinateKind Kind, DType DType, long[] Shape);
