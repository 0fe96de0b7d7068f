namespace ContinuousDL.Optimization;

/// <summary>Checks of numeric options, with the option's name in the message.</summary>
internal static class OptionChecks
{
    public static void AtLeastZero(double value, string name)
    {
        Finite(value, name);
        ArgumentOutOfRangeException.ThrowIfNegative(value, name);
    }

    public static void Above0(double value, string name)
    {
        Finite(value, name);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(value, name);
    }

    public static void InUnitInterval(double value, string name)
    {
        if (!(value >= 0 && value < 1)) throw new ArgumentOutOfRangeException(name, value, $"{name} must be at least 0 and below 1.");
    }

    public static void Finite(double value, string name)
    {
        if (!double.IsFinite(value)) throw new ArgumentOutOfRangeException(name, value, $"{name} must be a finite number.");
    }
}
