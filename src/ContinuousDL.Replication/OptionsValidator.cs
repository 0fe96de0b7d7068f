using System.ComponentModel.DataAnnotations;
using System.Diagnostics.CodeAnalysis;

namespace ContinuousDL.Replication;

/// <summary>Checks options against their data annotations, where they are used: a wrong value fails at construction.</summary>
public static class OptionsValidator
{
    /// <summary>Checks every property of the options.</summary>
    /// <param name="options">The options.</param>
    /// <param name="name">The name of the constructor's parameter that they were given as.</param>
    /// <returns>The options.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="options"/> is null.</exception>
    /// <exception cref="ArgumentException">A value is not allowed. The message names each one and says what would be right.</exception>
    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "The type's properties are kept, those of derived options since samplers read them; and every attribute that is used knows its types without reflection.")]
    public static T Validate<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.All)] T>(T options, string name)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(options, name);
        var errors = new List<ValidationResult>();
        var context = new ValidationContext(options, options.GetType().Name, serviceProvider: null, items: null);
        if (Validator.TryValidateObject(options, context, errors, validateAllProperties: true)) return options;
        throw new ArgumentException(string.Join(" ", errors.Select(error => Describe(options, error))), name);
    }

    [UnconditionalSuppressMessage("Trimming", "IL2075", Justification = "A property that was validated is there.")]
    private static string Describe(object options, ValidationResult error)
    {
        var type = options.GetType();
        var values = error.MemberNames.Select(member => $"{type.Name}.{member} is {type.GetProperty(member)?.GetValue(options) ?? "null"}");
        return $"{string.Join(", ", values)}: {error.ErrorMessage}";
    }
}
