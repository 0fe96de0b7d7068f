using ContinuousDL.Deployment;
using ContinuousDL.Parameters;

namespace ContinuousDL.Wire;

/// <summary>The tensors of one dtype and one kind: their changes look alike.</summary>
/// <param name="layout">The model's tensors.</param>
/// <param name="first">One of the group.</param>
/// <param name="isRelative">Whether values are changes of those before.</param>
internal readonly struct ChangeGroup(ModelLayout layout, LayoutEntry first, bool isRelative)
{
    /// <summary>Whether a tensor belongs to it.</summary>
    public bool Has(int entry) => layout.Entries[entry].DType == first.DType && layout.Entries[entry].Kind == first.Kind;

    /// <summary>The old values of a section, packed; empty where they count as 0.</summary>
    public ReadOnlySpan<byte> Old(in ModelUpdate.Sections sections) => isRelative ? sections.Previous : [];

    /// <summary>How many values the group has from a section on.</summary>
    public int Count(ModelUpdate.Sections sections)
    {
        var count = 0;
        do
        {
            if (Has(sections.Entry)) count += sections.Values.Length / first.ElementSize;
        }
        while (sections.MoveNext());

        return count;
    }
}
