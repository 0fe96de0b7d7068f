using System.ComponentModel.DataAnnotations;

namespace ContinuousDL;

/// <summary>Checks options against their data annotations, where they are used: a wrong value fails at construction.</summary>
internal static class OptionsValidator
{
    /// <summary>Checks every property of the options.</summary>
    /// <param name="options">The options.</param>
    /// <param name="name">The name of the constructor's parameter that they were given as.</param>
    /// <returns>The options.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="options"/> is null.</exception>
    /// <exception cref="ArgumentException">A value is not allowed. The message names each such property, its value and what would be right.</exception>
    public static T Validate<T>(T options, string name)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(options, name);
        var errors = new List<ValidationResult>();
        if (Validator.TryValidateObject(options, new ValidationContext(options), errors, validateAllProperties: true)) return options;
        throw new ArgumentException(string.Join(" ", errors.Select(error => Describe(options, error))), name);
    }

    private static string Describe(object options, ValidationResult error)
    {
        var type = options.GetType();
        var values = error.MemberNames.Select(member => $"{type.Name}.{member} is {type.GetProperty(member)?.GetValue(options) ?? "null"}");
        return $"{string.Join(", ", values)}: {error.ErrorMessage}";
    }
}
