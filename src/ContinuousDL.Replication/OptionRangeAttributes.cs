using System.ComponentModel.DataAnnotations;
using System.Globalization;

namespace ContinuousDL.Replication;

/// <summary>The range of an option of type <see cref="TimeSpan"/>, both ends included; null is allowed.</summary>
/// <remarks><see cref="RangeAttribute"/> finds the converter of such a type by reflection, which trimming may break.</remarks>
/// <param name="minimum">The shortest, such as <c>00:00:00.001</c>.</param>
/// <param name="maximum">The longest.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class DurationRangeAttribute(string minimum, string maximum) : ValidationAttribute
{
    /// <inheritdoc/>
    public override bool IsValid(object? value) =>
        value is null || (value is TimeSpan duration && duration >= Parse(minimum) && duration <= Parse(maximum));

    private static TimeSpan Parse(string text) => TimeSpan.Parse(text, CultureInfo.InvariantCulture);
}

/// <summary>The range of an option of type <see cref="long"/>, both ends included; null is allowed.</summary>
/// <remarks><see cref="RangeAttribute"/> knows 64-bit numbers by reflection alone, or as <see cref="double"/>, which is not exact.</remarks>
/// <param name="minimum">The smallest.</param>
/// <param name="maximum">The largest.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class LongRangeAttribute(long minimum, long maximum) : ValidationAttribute
{
    /// <inheritdoc/>
    public override bool IsValid(object? value) => value is null || (value is long number && number >= minimum && number <= maximum);

    /// <inheritdoc/>
    public override string FormatErrorMessage(string name) => string.Create(CultureInfo.InvariantCulture, $"The field {name} must be between {minimum} and {maximum}.");
}
