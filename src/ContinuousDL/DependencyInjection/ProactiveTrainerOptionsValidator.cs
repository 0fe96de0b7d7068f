using Microsoft.Extensions.Options;

namespace ContinuousDL.DependencyInjection;

/// <summary>Validates options as the trainer's constructor does, so that a host finds out at its start.</summary>
internal sealed class ProactiveTrainerOptionsValidator : IValidateOptions<ProactiveTrainerOptions>
{
    public ValidateOptionsResult Validate(string? name, ProactiveTrainerOptions options)
    {
        try
        {
            options.Validate();
            return ValidateOptionsResult.Success;
        }
        catch (ArgumentException e)
        {
            return ValidateOptionsResult.Fail(e.Message);
        }
    }
}
