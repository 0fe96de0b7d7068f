namespace ContinuousDL.Compression;

/// <summary>What a compressor regards as one: the whole model, or each tensor by itself.</summary>
public enum CompressionScope
{
    /// <summary>All coordinates of the model compete with one another.</summary>
    WholeModel,

    /// <summary>Each tensor is compressed by itself, whatever the others hold.</summary>
    PerTensor,
}
