using ContinuousDL.Evaluation;
using ContinuousDL.State;

namespace ContinuousDL.Tests.Evaluation;

/// <summary>Saves the state of evaluators to bytes, and loads it from them.</summary>
internal static class EvaluatorState
{
    public static byte[] Save(Action<BinaryWriter> save)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        save(writer);
        return stream.ToArray();
    }

    public static void Load(Action<BinaryReader> load, byte[] state)
    {
        using var reader = new BinaryReader(new MemoryStream(state));
        load(reader);
    }

    public static byte[] Saved(this IPrequentialEvaluator evaluator) => Save(evaluator.SaveState);

    public static void Load(this IPrequentialEvaluator evaluator, byte[] state) => Load(evaluator.LoadState, state);

    /// <summary>Compares whole states at once; an assertion on every byte takes seconds.</summary>
    public static void ShouldBe(this byte[] state, byte[] expected)
    {
        state.AsSpan().SequenceEqual(expected).Should().BeTrue("the states are to be equal");
    }
}
