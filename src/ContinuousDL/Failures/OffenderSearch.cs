using System.Numerics;

namespace ContinuousDL.Failures;

/// <summary>Finds the samples that make a batch fail, by group testing against a control group.</summary>
/// <remarks>
/// <para>
/// A sample is to blame where a control group is fine without it and fails with it. That it fails alone says nothing: batch
/// normalisation fails on any single sample, and the mean over one whose label is ignored is 0/0. Where no control group is
/// fine, the model itself is to blame, and no sample is; where the control group fails with one of its own once more, it is the
/// number of samples, as when memory runs out.
/// </para>
/// <para>
/// The control group is half of the last batch that could be trained on, or a quarter; before there was one, a part of the failed
/// batch that is fine. Suspects are halved as long as they fail together with it (Dorfman 1943; adaptive splitting as in Du and Hwang,
/// "Combinatorial Group Testing and Its Applications"): for b offenders in a batch of n about 2·b·log2(n) trials, each of a
/// batch of n at most.
/// </para>
/// </remarks>
internal sealed class OffenderSearch
{
    /// <summary>Trials per level of halving: enough for 8 offenders that lie apart, and for any number that lie together.</summary>
    private const int TrialsPerLevel = 16;

    private readonly Func<long[], StepProblem?> attempt;
    private readonly List<(long Index, StepProblem Problem)> offenders = [];
    private int trialsLeft;
    private bool? isNumberToBlame;

    private OffenderSearch(Func<long[], StepProblem?> attempt, int suspects)
    {
        this.attempt = attempt;
        trialsLeft = TrialsPerLevel * (1 + BitOperations.Log2((uint)suspects));
    }

    /// <summary>Searches a batch that failed.</summary>
    /// <param name="batch">Its samples.</param>
    /// <param name="lastGood">The samples of the last batch that could be trained on, as far as they are still there; may be empty.</param>
    /// <param name="attempt">Tries to train on samples, without changing anything; says what the problem is, or null.</param>
    /// <returns>The samples to blame, each with the problem that a batch had because of it. None where the batch does not fail again.</returns>
    public static IReadOnlyList<(long Index, StepProblem Problem)> Find(ReadOnlySpan<long> batch, long[] lastGood, Func<long[], StepProblem?> attempt)
    {
        var suspects = batch.ToArray().Distinct().ToArray();
        var search = new OffenderSearch(attempt, suspects.Length);
        if (search.Fails(batch.ToArray()) is null) return [];
        search.Run(suspects, lastGood);
        return search.offenders;
    }

    private void Run(long[] suspects, long[] lastGood)
    {
        if (lastGood.Length > 0)
        {
            var (one, other) = Halves(lastGood);
            var control = ControlAmong([one, other]) ?? ControlAmong(lastGood.Chunk((one.Length + 1) / 2));
            if (control is not null)
            {
                BlameHalves(suspects, control);
                return;
            }

            // What was fine a step ago is not fine now: the model is to blame.
            if (Fails(lastGood) is not null) return;
        }

        RunWithin(suspects);
    }

    /// <summary>Looks for a control group in the batch itself, in parts of it that get smaller.</summary>
    private void RunWithin(long[] suspects)
    {
        for (var size = (suspects.Length + 1) / 2; size > 0 && suspects.Length / size <= trialsLeft; size = size == 1 ? 0 : (size + 1) / 2)
        {
            var failing = new List<long[]>();
            long[]? control = null;
            foreach (var part in suspects.Chunk(size))
            {
                if (Fails(part) is not null) failing.Add(part);
                else control ??= part;
            }

            if (control is null) continue;
            foreach (var part in failing) Blame(part, control);
            return;
        }
    }

    private long[]? ControlAmong(IEnumerable<long[]> groups) => groups.FirstOrDefault(group => group.Length > 0 && Fails(group) is null);

    /// <summary>Finds the offenders among suspects that may be innocent.</summary>
    private void Blame(long[] suspects, long[] control)
    {
        if (suspects.Length == 0 || trialsLeft <= 0 || Fails([.. suspects, .. control]) is not { } problem) return;
        if (suspects.Length > 1) BlameHalves(suspects, control);
        else if (!IsNumberToBlame(control)) offenders.Add((suspects[0], problem));
    }

    /// <summary>Whether the control group fails with any one sample more. There is one control group in a search.</summary>
    private bool IsNumberToBlame(long[] control)
    {
        isNumberToBlame ??= Fails([.. control, control[0]]) is not null;
        if (isNumberToBlame.Value) trialsLeft = 0;
        return isNumberToBlame.Value;
    }

    private void BlameHalves(long[] suspects, long[] control)
    {
        var (one, other) = Halves(suspects);
        Blame(one, control);
        Blame(other, control);
    }

    private StepProblem? Fails(long[] samples)
    {
        trialsLeft--;
        return attempt(samples);
    }

    private static (long[] One, long[] Other) Halves(long[] samples)
    {
        var middle = (samples.Length + 1) / 2;
        return (samples[..middle], samples[middle..]);
    }
}
