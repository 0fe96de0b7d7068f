using System.Runtime.CompilerServices;

namespace ContinuousDL.Replication.Wire;

/// <summary>A change that does not shrink.</summary>
/// <param name="Old">The old value as it is stored.</param>
/// <param name="Code">The new value's code.</param>
/// <param name="Start">Where the old value lies, rounded to the format.</param>
/// <param name="Target">Where the new value lies: not below <paramref name="Start"/>.</param>
/// <param name="Sign">1 where the signs of both have been changed, otherwise 0.</param>
internal readonly record struct FloatChange<TFormat>(ulong Old, ulong Code, ulong Start, ulong Target, ulong Sign)
    where TFormat : struct, IFloatFormat
{
    /// <summary>The size of the change, rounded.</summary>
    public float Distance
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => TFormat.Distance(Old, Code);
    }

    /// <summary>What a model is fitted to. What selected a change by its size was not above the largest that leads to the same value.</summary>
    public ChangeSize Size
    {
        get
        {
            var half = TFormat.HalfStep(Code);
            return new(BitConverter.SingleToUInt32Bits(Math.Clamp(Distance + half, 0, float.MaxValue)), ChangeSize.Log2(BitConverter.SingleToUInt32Bits(half)) + 1);
        }
    }

    /// <summary>Makes a value's change one that does not shrink, by changing signs where needed.</summary>
    /// <returns>False when a value is not finite.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TryOrient(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, int index, out FloatChange<TFormat> change)
    {
        var a = old.IsEmpty ? 0 : FloatOrder<TFormat>.Load(old, index);
        var code = TFormat.Narrow(FloatOrder<TFormat>.Load(values, index));
        change = default;
        if ((code & TFormat.Exponent) == TFormat.Exponent || !TFormat.IsFinite(a)) return false;
        var start = FloatOrder<TFormat>.Order(TFormat.Round(a));
        var target = FloatOrder<TFormat>.Order(code);

        // Without branches, since signs can't be predicted.
        var sign = target < start ? 1ul : 0;
        var all = 0 - sign;
        change = new FloatChange<TFormat>(a ^ (TFormat.Sign & all), code ^ (FloatOrder<TFormat>.SignBit & all), start ^ (FloatOrder<TFormat>.Mask & all), target ^ (FloatOrder<TFormat>.Mask & all), sign);
        return true;
    }
}
