using ContinuousDL.Memory;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Replicas;

/// <summary>Recognises modules that write to their own tensors whenever they are called, in eval mode too.</summary>
internal static class SelfWritingModules
{
    /// <summary>
    /// Whether there are embeddings with a <c>max_norm</c>, or instance normalisation with running statistics, in a module.
    /// Embeddings are given an index to look up, since they don't tell how they were made; this may change a row.
    /// </summary>
    /// <param name="module">The module. Stays the caller's.</param>
    public static bool Any(nn.Module module) => module.modules().Prepend(module).Any(Writes);

    private static bool Writes(nn.Module module) => module switch
    {
        InstanceNorm norm => norm.track_running_stats,
        Embedding embedding => Writes(embedding.weight, index => embedding.call(index)),
        EmbeddingBag bag => Writes(bag.weight, index => bag.call(index, index)),
        _ => false,
    };

    /// <summary>Whether looking up the first row of a table writes to it.</summary>
    private static bool Writes(Tensor? table, Func<Tensor, Tensor> lookUp)
    {
        if (table is null || table.IsInvalid || table.shape[0] == 0 || !TensorVersion.IsCounted(table)) return false;
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var before = TensorVersion.Of(table);
        _ = lookUp(zeros(1, dtype: ScalarType.Int64, device: table.device));
        return TensorVersion.Of(table) != before;
    }
}
