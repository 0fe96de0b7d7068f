using System.Text.Json;
using System.Text.Json.Serialization;
using ContinuousDL.Samples.FashionStream.Running;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>The results as JSON: an array with an object for each strategy.</summary>
internal static class ResultJson
{
    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        NewLine = "\n",
    };

    /// <summary>Writes a file.</summary>
    /// <exception cref="IOException">It can't be written.</exception>
    public static void Write(string path, IReadOnlyList<StrategyResult> results) => File.WriteAllText(path, Serialize(results));

    /// <summary>The array as text.</summary>
    public static string Serialize(IReadOnlyList<StrategyResult> results) =>
        JsonSerializer.Serialize(results.Select(result => new Row(result)), Options) + "\n";

    /// <summary>Its properties are the names in the JSON.</summary>
    private sealed class Row(StrategyResult result)
    {
        public string Strategy => result.Strategy.Name;

        /// <summary>In [0, 1].</summary>
        public double PrequentialAccuracy => result.PrequentialAccuracy;

        /// <summary>In [0, 1].</summary>
        public double TestAccuracy => result.TestAccuracy;

        public double TrainSeconds => result.Work.Duration.TotalSeconds;

        public double MsPerStep => result.MillisecondsPerStep;

        public double BytesPerUpdate => result.BytesPerUpdate;

        /// <summary>Null where nothing was sent.</summary>
        public double? Reduction => result.Reduction;

        public bool ReplicaIdentical => result.ReplicaIdentical;

        /// <summary>Only there when the run was interrupted: how many samples had been streamed.</summary>
        [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
        public int? StoppedAfter => result.Interrupted ? result.Curve.Count : null;
    }
}
