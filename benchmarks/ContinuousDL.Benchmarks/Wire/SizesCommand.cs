using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Samples.FashionStream.Data;
using Spectre.Console;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Wire;

/// <summary>The <c>sizes</c> command: what updates of real training take on the wire, ours and others', and how fast ours are coded.</summary>
internal static class SizesCommand
{
    private const int WidthOfFiles = 200;
    private const int LeastRounds = 15;

    /// <summary>How long a recording's messages are coded: long enough for the runtime to optimize, and to meet a quiet moment.</summary>
    private static readonly TimeSpan SpeedTime = TimeSpan.FromSeconds(4);

    /// <summary>How much smaller than the smallest of the others ours is to be, by density.</summary>
    private static readonly (double Density, double Bar)[] Bars = [(1e-2, 0.10), (1e-3, 0.20), (1e-4, 0.30)];

    /// <summary>Runs the command.</summary>
    /// <param name="args">The arguments, <c>sizes</c> itself first.</param>
    /// <returns>The exit code: 0 when it has measured, whether or not the bars hold.</returns>
    public static int Run(string[] args)
    {
        var json = new Option<FileInfo?>("--json") { Description = "Writes the results as JSON." };
        var quick = new Option<bool>("--quick") { Description = "LeNet-5 only, and fewer updates." };
        var sizes = new Command("sizes", "Sizes of updates on the wire, and how fast they are coded.") { json, quick };
        sizes.SetAction(parsed => Measure(parsed.GetValue(json), parsed.GetValue(quick)));
        return new RootCommand("Benchmarks of ContinuousDL.") { sizes }.Parse(args).Invoke();
    }

    private static int Measure(FileInfo? json, bool quick)
    {
        if (Console.IsOutputRedirected) AnsiConsole.Profile.Width = WidthOfFiles;
        var data = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist);
        var sizes = new List<SizeResult>();
        var speeds = new List<SpeedResult>();
        foreach (var precision in (DeployedValuePrecision[])[DeployedValuePrecision.Float32, DeployedValuePrecision.BFloat16])
        {
            foreach (var (density, bar) in Bars)
            {
                using (var recording = Recording.OfLeNet(data, density, precision, quick ? 20 : 200)) sizes.Add(SizeResult.Of(recording, bar));
                if (quick) continue;
                using (var recording = Recording.OfResNet(data, density, precision, 10))
                {
                    sizes.Add(SizeResult.Of(recording, bar));
                    speeds.Add(SpeedResult.Of(recording));
                }
            }
        }

        Print(sizes);
        if (!quick) Print(speeds);
        if (json is not null)
        {
            using var stream = json.Create();
            JsonSerializer.Serialize(stream, new { sizes, speeds }, new JsonSerializerOptions { WriteIndented = true });
        }

        return 0;
    }

    private static void Print(List<SizeResult> results)
    {
        var table = new Table().Border(TableBorder.Rounded).AddColumns("model", "d", "values", "coordinates");
        foreach (var peer in PeerFormats.Names) table.AddColumn(peer);
        table.AddColumns("ours", "without frame", "below the best", "without frame", "bar", "message", "of the float32 model");
        foreach (var column in table.Columns.Skip(3)) column.RightAligned();
        foreach (var r in results)
        {
            table.AddRow(
                [
                    r.Model, Format(r.Density, "0.####"), r.Precision, Format(r.Coordinates, "0.#"), .. r.Peers.Select(p => Format(p, "0.00")),
                    Format(r.Ours, "0.00"), Format(r.Payload, "0.00"), Format(100 * r.Saving, "0") + " %", Format(100 * r.PayloadSaving, "0") + " %",
                    Format(100 * r.Bar, "0") + " %", Format(r.MessageBytes, "0") + " B", $"1/{Format(1 / r.ShareOfModel, "0")}",
                ]);
        }

        AnsiConsole.MarkupLine("Bytes for each coordinate, mean of the recorded updates. Ours carries sequences, tags of run and model, the state's digest and a checksum; the others none of these.");
        AnsiConsole.Write(table);
    }

    private static void Print(List<SpeedResult> results)
    {
        var table = new Table().Border(TableBorder.Rounded).AddColumns("model", "d", "values", "encode", "decode", "apply");
        foreach (var r in results)
        {
            table.AddRow(r.Model, Format(r.Density, "0.####"), r.Precision, Format(r.Encode / 1e6, "0.0"), Format(r.Decode / 1e6, "0.0"), Format(r.Apply / 1e6, "0.0"));
        }

        AnsiConsole.MarkupLine("Million coordinates a second, one thread, each update in the fastest of several rounds. Applying includes decoding, the digest, and the replica's second copy.");
        AnsiConsole.Write(table);
    }

    private static string Format(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    /// <summary>What the updates of a recording take.</summary>
    /// <param name="Model">The model.</param>
    /// <param name="Density">The density.</param>
    /// <param name="Precision">What values are rounded to.</param>
    /// <param name="Coordinates">The mean number of coordinates in an update.</param>
    /// <param name="Peers">Bytes for each coordinate in the formats of <see cref="PeerFormats.Names"/>.</param>
    /// <param name="Ours">Bytes for each coordinate in ours.</param>
    /// <param name="Payload">The same without header, digest and checksum.</param>
    /// <param name="Bar">By how much ours is to be smaller than the smallest other.</param>
    /// <param name="MessageBytes">The mean size of a message.</param>
    /// <param name="ShareOfModel">The same as a share of the float32 model.</param>
    private sealed record SizeResult(
        string Model, double Density, string Precision, double Coordinates, double[] Peers, double Ours, double Payload, double Bar, double MessageBytes, double ShareOfModel)
    {
        public double Saving => 1 - (Ours / Peers.Min());

        public double PayloadSaving => 1 - (Payload / Peers.Min());

        public static SizeResult Of(Recording recording, double bar)
        {
            using var peers = new PeerFormats();
            var codec = new UpdateCodec();
            var sums = new long[PeerFormats.Names.Count];
            var (coordinates, ours, payload) = (0L, 0L, 0L);
            foreach (var update in recording.Updates)
            {
                coordinates += update.Count;
                var message = codec.Encode(update);
                ours += message.Length;
                payload += new MessageFrame(message).Payload.Length;
                var sizes = peers.Sizes(update, recording.Precision);
                for (var p = 0; p < sums.Length; p++) sums[p] += sizes[p];
            }

            double count = recording.Updates.Count;
            double perCoordinate = Math.Max(1, coordinates);
            var model = 4.0 * recording.Start.Layout.Entries.Where(e => e.Kind == CoordinateKind.Parameter).Sum(e => (long)e.Length);
            return new SizeResult(
                recording.Model, recording.Density, recording.Precision.ToString(), coordinates / count, [.. sums.Select(s => s / perCoordinate)],
                ours / perCoordinate, payload / perCoordinate, bar, ours / count, ours / count / model);
        }
    }

    /// <summary>Coordinates a second.</summary>
    private sealed record SpeedResult(string Model, double Density, string Precision, double Encode, double Decode, double Apply)
    {
        public static SpeedResult Of(Recording recording)
        {
            var codec = new UpdateCodec();
            using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(recording.Create, recording.Start);
            var messages = recording.Updates.Select(codec.Encode).ToArray();

            // Not the first one: after going back to the start its application copies the whole model.
            var coordinates = recording.Updates.Skip(1).Sum(u => (long)u.Count);
            var output = new System.Buffers.ArrayBufferWriter<byte>();
            var fastest = messages.Select(_ => (Encode: TimeSpan.MaxValue, Decode: TimeSpan.MaxValue, Apply: TimeSpan.MaxValue)).ToArray();
            var begin = Stopwatch.GetTimestamp();
            for (var round = 0; round < LeastRounds || Stopwatch.GetElapsedTime(begin) < SpeedTime; round++)
            {
                // Decoding and applying in turn: what one has read would be in the cache for the other.
                var decodes = round % 2 == 0;
                replica.Restore(recording.Start);
                replica.Apply(messages[0], codec);
                for (var i = 1; i < messages.Length; i++)
                {
                    output.ResetWrittenCount();
                    var start = Stopwatch.GetTimestamp();
                    codec.Encode(recording.Updates[i], output);
                    var encoding = Stopwatch.GetElapsedTime(start);
                    var (decoding, applying) = (TimeSpan.MaxValue, TimeSpan.MaxValue);
                    if (decodes)
                    {
                        using var lease = replica.Acquire();
                        start = Stopwatch.GetTimestamp();
                        codec.Decode(messages[i], lease.State).Dispose();
                        decoding = Stopwatch.GetElapsedTime(start);
                    }

                    start = Stopwatch.GetTimestamp();
                    replica.Apply(messages[i], codec);
                    if (!decodes) applying = Stopwatch.GetElapsedTime(start);
                    fastest[i] = (Least(fastest[i].Encode, encoding), Least(fastest[i].Decode, decoding), Least(fastest[i].Apply, applying));
                }
            }

            var (encode, decode, apply) = (fastest.Skip(1).Sum(f => f.Encode.TotalSeconds), fastest.Skip(1).Sum(f => f.Decode.TotalSeconds), fastest.Skip(1).Sum(f => f.Apply.TotalSeconds));
            return new SpeedResult(recording.Model, recording.Density, recording.Precision.ToString(), coordinates / encode, coordinates / decode, coordinates / apply);
        }

        private static TimeSpan Least(TimeSpan a, TimeSpan b) => a < b ? a : b;
    }
}
