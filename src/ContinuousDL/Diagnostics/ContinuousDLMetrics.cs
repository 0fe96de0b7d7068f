using System.Diagnostics.Metrics;
using ContinuousDL.Failures;

namespace ContinuousDL.Diagnostics;

/// <summary>
/// The measurements of training and deployment that a monitoring system can collect: the instruments of the meter
/// <c>ContinuousDL</c>, which docs/metrics.md describes.
/// </summary>
/// <remarks>
/// Recording allocates nothing, and where nobody listens it comes down to a test for each instrument. Thread-safe.
/// </remarks>
internal sealed class ContinuousDLMetrics : IDisposable
{
    /// <summary>The meter's name, to be given to <c>AddMeter</c>.</summary>
    public const string MeterName = "ContinuousDL";

    private static readonly KeyValuePair<string, object?> New = new("kind", "new");
    private static readonly KeyValuePair<string, object?> Historical = new("kind", "historical");

    // Made once: a tag's value is an object, so making it at each measurement would allocate.
    private static readonly KeyValuePair<string, object?>[] Phases = Tags<StepPhase>("phase", phase => phase switch
    {
        StepPhase.Gather => "gather",
        StepPhase.Forward => "forward",
        StepPhase.Backward => "backward",
        StepPhase.Update => "update",
        StepPhase.Deploy => "deploy",
        StepPhase.Evaluate => "evaluate",
        _ => throw new ArgumentOutOfRangeException(nameof(phase), phase, "The phase has no name."),
    });

    private static readonly KeyValuePair<string, object?>[] Reasons = Tags<SkipReason>("reason", reason => reason switch
    {
        SkipReason.NonFiniteLoss => "non_finite_loss",
        SkipReason.NonFiniteGradient => "non_finite_gradient",
        SkipReason.NonFiniteState => "non_finite_state",
        SkipReason.Failure => "failure",
        SkipReason.UnreadableSample => "unreadable_sample",
        _ => throw new ArgumentOutOfRangeException(nameof(reason), reason, "The reason has no name."),
    });

    private readonly Meter? ownMeter;
    private readonly Counter<long> steps;
    private readonly Counter<long> skippedSteps;
    private readonly Counter<long> quarantinedSamples;
    private readonly Counter<long> samples;
    private readonly Histogram<double> loss;
    private readonly Histogram<double> stepDuration;
    private readonly Histogram<double> phaseDuration;
    private readonly Histogram<long> updateCoordinates;
    private readonly Histogram<long> updateSize;

    /// <summary>Makes the instruments.</summary>
    /// <param name="meterFactory">
    /// Makes the meter and keeps it, as in an application with dependency injection; null to make one that this owns.
    /// </param>
    public ContinuousDLMetrics(IMeterFactory? meterFactory = null)
    {
        var options = new MeterOptions(MeterName) { Version = typeof(ContinuousDLMetrics).Assembly.GetName().Version?.ToString(3) };
        var meter = meterFactory is null ? ownMeter = new Meter(options) : meterFactory.Create(options);

        steps = meter.CreateCounter<long>("continuousdl.steps", "{step}", "Iterations that trained the model.");
        skippedSteps = meter.CreateCounter<long>("continuousdl.skipped_steps", "{step}", "Iterations that changed nothing, by reason.");
        quarantinedSamples = meter.CreateCounter<long>("continuousdl.quarantined_samples", "{sample}", "Samples that are never drawn again, by reason.");
        samples = meter.CreateCounter<long>("continuousdl.samples", "{sample}", "Samples trained on, by kind: new or historical.");
        loss = meter.CreateHistogram("continuousdl.loss", "1", "Mean loss of a mini-batch.",
            advice: Boundaries<double>(0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100));
        stepDuration = meter.CreateHistogram("continuousdl.step.duration", "s", "Duration of an iteration.",
            advice: Boundaries<double>(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30));
        phaseDuration = meter.CreateHistogram("continuousdl.phase.duration", "s", "Duration of a part of an iteration, by phase.",
            advice: Boundaries<double>(0.00001, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10));
        updateCoordinates = meter.CreateHistogram("continuousdl.update.coordinates", "{coordinate}", "Coordinates that an update changes.",
            advice: Boundaries<long>(0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000));
        updateSize = meter.CreateHistogram("continuousdl.update.size", "By", "Size of an update.",
            advice: Boundaries<long>(64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28));
    }

    /// <summary>Records an iteration that trained the model.</summary>
    /// <param name="meanLoss">The mean loss of its mini-batch. NaN and infinities are left out: a sum would never recover.</param>
    /// <param name="newSamples">The number of new samples in the mini-batch.</param>
    /// <param name="historicalSamples">The number of historical samples in the mini-batch.</param>
    /// <param name="duration">How long the iteration took.</param>
    public void RecordStep(double meanLoss, int newSamples, int historicalSamples, TimeSpan duration)
    {
        steps.Add(1);
        if (newSamples > 0) samples.Add(newSamples, New);
        if (historicalSamples > 0) samples.Add(historicalSamples, Historical);
        if (double.IsFinite(meanLoss)) loss.Record(meanLoss);
        stepDuration.Record(duration.TotalSeconds);
    }

    /// <summary>Records an iteration that changed nothing.</summary>
    /// <param name="reason">Why.</param>
    public void RecordSkippedStep(SkipReason reason) => skippedSteps.Add(1, Reasons[(int)reason]);

    /// <summary>Records a sample that was put into quarantine.</summary>
    /// <param name="reason">The outcome of a batch with it.</param>
    public void RecordQuarantinedSample(SkipReason reason) => quarantinedSamples.Add(1, Reasons[(int)reason]);

    /// <summary>Records a part of an iteration.</summary>
    /// <param name="phase">Which part.</param>
    /// <param name="duration">How long it took.</param>
    public void RecordPhase(StepPhase phase, TimeSpan duration) => phaseDuration.Record(duration.TotalSeconds, Phases[(int)phase]);

    /// <summary>Records an update of the deployed model.</summary>
    /// <param name="coordinates">How many coordinates it changes, k.</param>
    /// <param name="bytes">Its size.</param>
    public void RecordUpdate(long coordinates, long bytes)
    {
        updateCoordinates.Record(coordinates);
        updateSize.Record(bytes);
    }

    /// <summary>Ends the measurements. A meter that a factory made is the factory's, and stays.</summary>
    public void Dispose() => ownMeter?.Dispose();

    private static KeyValuePair<string, object?>[] Tags<T>(string name, Func<T, string> value)
        where T : struct, Enum
    {
        return Array.ConvertAll(Enum.GetValues<T>(), v => new KeyValuePair<string, object?>(name, value(v)));
    }

    private static InstrumentAdvice<T> Boundaries<T>(params T[] boundaries)
        where T : struct
    {
        return new InstrumentAdvice<T> { HistogramBucketBoundaries = boundaries };
    }
}
