using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>The tensors of one dtype and one kind: their changes look alike.</summary>
/// <param name="first">One of the group, or a run of them.</param>
/// <param name="isRelative">Whether values are changes of those before.</param>
internal readonly struct ChangeGroup(LayoutEntry first, bool isRelative)
{
    /// <summary>Whether a run belongs to it.</summary>
    public bool Has(LayoutEntry run) => run.DType == first.DType && run.Kind == first.Kind;

    /// <summary>The old values of a run, packed; empty where they count as 0.</summary>
    public ReadOnlySpan<byte> Old(in ModelUpdate.Sections runs) => isRelative ? runs.Previous : [];

    /// <summary>How many values the group has from a run on.</summary>
    public int Count(ModelUpdate.Sections runs)
    {
        var count = 0;
        do
        {
            if (Has(runs.Entry)) count += runs.Values.Length / first.ElementSize;
        }
        while (runs.MoveNext());

        return count;
    }
}
