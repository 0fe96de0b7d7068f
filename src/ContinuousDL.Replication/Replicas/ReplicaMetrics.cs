using System.Diagnostics.Metrics;

namespace ContinuousDL.Replication.Replicas;

/// <summary>The measurements of replicas that a monitoring system can collect: instruments of the meter <c>ContinuousDL</c>, which docs/metrics.md describes.</summary>
/// <remarks>Recording allocates nothing, and where nobody listens it comes down to a test for each instrument. Thread-safe.</remarks>
internal sealed class ReplicaMetrics : IDisposable
{
    /// <summary>The meter's name, to be given to <c>AddMeter</c>.</summary>
    public const string MeterName = "ContinuousDL";

    // Made once: a tag's value is an object, so making it at each measurement would allocate.
    private static readonly KeyValuePair<string, object?>[] Refusals = Tags<RefusalReason>("reason", reason => reason switch
    {
        RefusalReason.Damaged => "damaged",
        RefusalReason.Signature => "signature",
        RefusalReason.Gap => "gap",
        RefusalReason.Diverged => "diverged",
        RefusalReason.Rollback => "rollback",
        _ => throw new ArgumentOutOfRangeException(nameof(reason), reason, "The reason has no name."),
    });

    private readonly Meter? ownMeter;
    private readonly Gauge<long> replicaLag;
    private readonly Histogram<double> replicaDelay;
    private readonly Counter<long> replicaRefusals;
    private readonly Counter<long> replicaResyncs;
    private readonly Gauge<double> replicaSilence;

    /// <summary>Makes the instruments.</summary>
    /// <param name="meterFactory">Makes the meter and keeps it, as in an application with dependency injection; null to make one that this owns.</param>
    public ReplicaMetrics(IMeterFactory? meterFactory = null)
    {
        var options = new MeterOptions(MeterName) { Version = typeof(ReplicaMetrics).Assembly.GetName().Version?.ToString(3) };
        var meter = meterFactory is null ? ownMeter = new Meter(options) : meterFactory.Create(options);

        replicaLag = meter.CreateGauge<long>("continuousdl.replica.lag", "{update}", "Updates that a replica is behind the newest state that it knows of.");
        replicaDelay = meter.CreateHistogram("continuousdl.replica.delay", "s", "Time from an update's publication to its use by a replica.",
            advice: Boundaries<double>(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600));
        replicaRefusals = meter.CreateCounter<long>("continuousdl.replica.refused", "{message}", "Messages that a replica did not apply, by reason.");
        replicaResyncs = meter.CreateCounter<long>("continuousdl.replica.resyncs", "{snapshot}", "Snapshots that a replica took over.");
        replicaSilence = meter.CreateGauge<double>("continuousdl.replica.silence", "s", "Time since the last sign that a replica's source tells of the newest state.");
    }

    /// <summary>Records how far a replica is behind.</summary>
    /// <param name="updates">By how many updates, as far as it knows.</param>
    /// <param name="replica">The tag with the replica's name.</param>
    public void RecordLag(long updates, KeyValuePair<string, object?> replica) => replicaLag.Record(updates, replica);

    /// <summary>Records an update that a replica applied.</summary>
    /// <param name="delay">The time since it was published. Clocks may differ: less than nothing counts as nothing.</param>
    /// <param name="replica">The tag with the replica's name.</param>
    public void RecordUpdate(TimeSpan delay, KeyValuePair<string, object?> replica) => replicaDelay.Record(Math.Max(0, delay.TotalSeconds), replica);

    /// <summary>Records a message that a replica did not apply.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="replica">The tag with the replica's name.</param>
    public void RecordRefusal(RefusalReason reason, KeyValuePair<string, object?> replica) => replicaRefusals.Add(1, replica, Refusals[(int)reason]);

    /// <summary>Records that a replica took over a snapshot.</summary>
    /// <param name="replica">The tag with the replica's name.</param>
    public void RecordResync(KeyValuePair<string, object?> replica) => replicaResyncs.Add(1, replica);

    /// <summary>Records for how long there was no sign that a replica's source tells it of the newest state.</summary>
    /// <param name="silence">For how long.</param>
    /// <param name="replica">The tag with the replica's name.</param>
    public void RecordSilence(TimeSpan silence, KeyValuePair<string, object?> replica) => replicaSilence.Record(silence.TotalSeconds, replica);

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
