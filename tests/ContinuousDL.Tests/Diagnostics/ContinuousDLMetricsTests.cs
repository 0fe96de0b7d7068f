using System.Diagnostics.Metrics;
using System.Text.RegularExpressions;
using ContinuousDL.Diagnostics;
using ContinuousDL.Failures;
using ContinuousDL.Replication.Replicas;

namespace ContinuousDL.Tests.Diagnostics;

public class ContinuousDLMetricsTests
{
    private TestMeters factory = null!;
    private ContinuousDLMetrics metrics = null!;
    private ReplicaMetrics replicaMetrics = null!;
    private List<(string Instrument, double Value, string Tag)> measurements = null!;
    private MeterListener listener = null!;

    [SetUp]
    public void Listen()
    {
        factory = new TestMeters();
        metrics = new ContinuousDLMetrics(factory);
        replicaMetrics = new ReplicaMetrics(factory);
        measurements = [];
        listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Scope == factory) l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((i, value, tags, _) => measurements.Add((i.Name, value, Describe(tags))));
        listener.SetMeasurementEventCallback<double>((i, value, tags, _) => measurements.Add((i.Name, value, Describe(tags))));
        listener.Start();
    }

    [TearDown]
    public void Stop()
    {
        listener.Dispose();
        metrics.Dispose();
        replicaMetrics.Dispose();
        factory.Dispose();
    }

    [Test]
    public void RecordStep_counts_the_step_its_samples_by_kind_its_loss_and_its_duration()
    {
        metrics.RecordStep(0.25, 8, 120, TimeSpan.FromMilliseconds(12.5));

        measurements.Should().BeEquivalentTo(new[]
        {
            ("continuousdl.steps", 1.0, ""),
            ("continuousdl.samples", 8, "kind=new"),
            ("continuousdl.samples", 120, "kind=historical"),
            ("continuousdl.loss", 0.25, ""),
            ("continuousdl.step.duration", 0.0125, ""),
        });
    }

    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    public void RecordStep_leaves_out_a_loss_that_is_no_number(double loss)
    {
        metrics.RecordStep(loss, 8, 120, TimeSpan.Zero);

        measurements.Select(m => m.Instrument).Should().Contain("continuousdl.steps").And.NotContain("continuousdl.loss");
    }

    [Test]
    public void RecordStep_without_historical_samples_records_none()
    {
        metrics.RecordStep(1, 8, 0, TimeSpan.Zero);

        measurements.Where(m => m.Instrument == "continuousdl.samples").Should().Equal(("continuousdl.samples", 8, "kind=new"));
    }

    [Test]
    public void RecordUpdate_records_coordinates_and_bytes()
    {
        metrics.RecordUpdate(6, 96);

        measurements.Should().Equal(("continuousdl.update.coordinates", 6, ""), ("continuousdl.update.size", 96, ""));
    }

    [Test]
    public void RecordPhase_names_every_phase()
    {
        foreach (var phase in Enum.GetValues<StepPhase>()) metrics.RecordPhase(phase, TimeSpan.FromSeconds(2));

        measurements.Should().OnlyContain(m => m.Instrument == "continuousdl.phase.duration" && m.Value == 2);
        measurements.Select(m => m.Tag).Should().Equal(
            "phase=gather", "phase=forward", "phase=backward", "phase=update", "phase=deploy", "phase=evaluate");
    }

    [Test]
    public void RecordSkippedStep_names_the_reason_and_counts_no_step()
    {
        metrics.RecordSkippedStep(SkipReason.NonFiniteLoss);
        metrics.RecordSkippedStep(SkipReason.NonFiniteGradient);
        metrics.RecordSkippedStep(SkipReason.NonFiniteState);

        measurements.Should().Equal(
            ("continuousdl.skipped_steps", 1, "reason=non_finite_loss"),
            ("continuousdl.skipped_steps", 1, "reason=non_finite_gradient"),
            ("continuousdl.skipped_steps", 1, "reason=non_finite_state"));
    }

    [Test]
    public void RecordQuarantinedSample_names_every_reason()
    {
        foreach (var reason in Enum.GetValues<SkipReason>()) metrics.RecordQuarantinedSample(reason);

        measurements.Should().OnlyContain(m => m.Instrument == "continuousdl.quarantined_samples" && m.Value == 1);
        measurements.Select(m => m.Tag).Should().Equal(
            "reason=non_finite_loss", "reason=non_finite_gradient", "reason=non_finite_state", "reason=failure", "reason=unreadable_sample");
    }

    [Test]
    public void What_replicas_do_is_recorded_with_their_name()
    {
        var replica = new KeyValuePair<string, object?>("replica", "eu-1");
        replicaMetrics.RecordLag(3, replica);
        replicaMetrics.RecordUpdate(TimeSpan.FromSeconds(2), replica);
        replicaMetrics.RecordUpdate(TimeSpan.FromSeconds(-2), replica);
        replicaMetrics.RecordResync(replica);
        foreach (var reason in Enum.GetValues<RefusalReason>()) replicaMetrics.RecordRefusal(reason, replica);
        replicaMetrics.RecordSilence(TimeSpan.FromSeconds(4.5), replica);

        measurements.Should().Equal(
            ("continuousdl.replica.lag", 3, "replica=eu-1"),
            ("continuousdl.replica.delay", 2, "replica=eu-1"),
            ("continuousdl.replica.delay", 0, "replica=eu-1"),
            ("continuousdl.replica.resyncs", 1, "replica=eu-1"),
            ("continuousdl.replica.refused", 1, "replica=eu-1,reason=damaged"),
            ("continuousdl.replica.refused", 1, "replica=eu-1,reason=signature"),
            ("continuousdl.replica.refused", 1, "replica=eu-1,reason=gap"),
            ("continuousdl.replica.refused", 1, "replica=eu-1,reason=diverged"),
            ("continuousdl.replica.refused", 1, "replica=eu-1,reason=rollback"),
            ("continuousdl.replica.silence", 4.5, "replica=eu-1"));
    }

    [Test]
    public void Recording_allocates_nothing_whether_anyone_listens_or_not([Values] bool listening)
    {
        var heard = 0;
        using var counting = new MeterListener();
        counting.InstrumentPublished = (instrument, l) =>
        {
            if (listening && instrument.Meter.Scope == factory) l.EnableMeasurementEvents(instrument);
        };
        counting.SetMeasurementEventCallback<long>((_, _, _, _) => heard++);
        counting.SetMeasurementEventCallback<double>((_, _, _, _) => heard++);
        listener.Dispose();
        counting.Start();
        Record(100);

        AllocatedBytes.OfRun(() => Record(1000)).Should().Be(0);
        heard.Should().Be(listening ? 3100 * 14 : 0);

        void Record(int times)
        {
            var replica = new KeyValuePair<string, object?>("replica", "a");
            for (var i = 0; i < times; i++)
            {
                metrics.RecordStep(0.5, 8, 120, TimeSpan.FromMilliseconds(3));
                metrics.RecordUpdate(6, 96);
                metrics.RecordPhase(StepPhase.Forward, TimeSpan.FromMilliseconds(1));
                metrics.RecordSkippedStep(SkipReason.NonFiniteGradient);
                replicaMetrics.RecordLag(3, replica);
                replicaMetrics.RecordUpdate(TimeSpan.FromMilliseconds(1), replica);
                replicaMetrics.RecordRefusal(RefusalReason.Gap, replica);
                replicaMetrics.RecordResync(replica);
                replicaMetrics.RecordSilence(TimeSpan.FromSeconds(1), replica);
            }
        }
    }

    [Test]
    public void Dispose_leaves_the_meter_of_a_factory_alive()
    {
        metrics.Dispose();

        metrics.RecordUpdate(1, 8);

        measurements.Should().HaveCount(2);
    }

    [Test]
    public void Without_a_factory_the_meter_is_its_own_and_ends_with_it()
    {
        var published = new List<Instrument>();
        var ended = new List<Instrument>();
        using var names = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Name != "ContinuousDL" || instrument.Meter.Scope is not null) return;
                published.Add(instrument);
                l.EnableMeasurementEvents(instrument);
            },
            MeasurementsCompleted = (instrument, _) => ended.Add(instrument),
        };
        names.Start();
        published.Clear();

        new ContinuousDLMetrics().Dispose();
        new ReplicaMetrics().Dispose();

        published.Should().HaveCount(14);
        ended.Should().Contain(published);
    }

    [Test]
    public void The_documentation_lists_every_instrument_with_its_unit()
    {
        var published = new List<string>();
        using var names = new MeterListener
        {
            InstrumentPublished = (instrument, _) =>
            {
                if (instrument.Meter.Scope != factory) return;
                var kind = instrument.GetType().Name.Split('`')[0].ToLowerInvariant();
                published.Add($"{instrument.Name} {kind} {instrument.Unit}");
            },
        };
        names.Start();

        var table = Regex.Matches(File.ReadAllText(DocumentationPath()), @"^\| `(\S+)` \| (\w+) \| `(\S+)` \|", RegexOptions.Multiline);

        table.Select(row => $"{row.Groups[1]} {row.Groups[2]} {row.Groups[3]}").Should().BeEquivalentTo(published);
    }

    private static string DocumentationPath()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "ContinuousDL.sln"))) folder = folder.Parent;
        return Path.Combine(folder!.FullName, "docs", "metrics.md");
    }

    private static string Describe(ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        return string.Join(",", tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}"));
    }
}
