using System.Diagnostics.Metrics;

namespace ContinuousDL.Tests.Diagnostics;

/// <summary>Meters of one test: their scope says whose they are.</summary>
internal sealed class TestMeters : IMeterFactory
{
    private readonly List<Meter> meters = [];

    public Meter Create(MeterOptions options)
    {
        options.Scope = this;
        meters.Add(new Meter(options));
        return meters[^1];
    }

    public void Dispose() => meters.ForEach(meter => meter.Dispose());
}
