namespace ContinuousDL.Samples.TrainAndServe;

/// <summary>The commands that the main process starts the others with.</summary>
internal static class Role
{
    public const string Train = "train";
    public const string Serve = "serve";
}

/// <summary>What the trainer says of itself at <c>GET /status</c>.</summary>
/// <param name="Sequence">The sequence of its deployed model.</param>
/// <param name="Digest">The digest of its deployed model.</param>
/// <param name="LogSequence">The newest sequence in the update log.</param>
/// <param name="LogDigest">The digest of the state there.</param>
/// <param name="Samples">How many samples of the stream it has accepted, over all its lives.</param>
/// <param name="Kept">How many samples of the stream are in the history.</param>
/// <param name="Pending">How many it has not trained on yet.</param>
/// <param name="ModelBytes">What the model would take.</param>
/// <param name="Accuracy">Of the deployed model on the arrivals, before they are trained on (the last 1,000).</param>
/// <param name="IsDone">Whether the stream has ended.</param>
internal sealed record TrainerStatus(
    long Sequence, string Digest, long LogSequence, string LogDigest, long Samples, long Kept, long Pending, long ModelBytes, double? Accuracy, bool IsDone);

/// <summary>What a server says of itself at <c>GET /status</c>.</summary>
/// <param name="State">What its replica is doing.</param>
/// <param name="Reason">Why, where it is not current.</param>
/// <param name="IsReady">Whether it has a state to answer from; before, <c>POST /predict</c> is answered by 503.</param>
/// <param name="Sequence">The sequence of its model; 0 without a state.</param>
/// <param name="Lag">By how many updates it is behind, as far as it knows.</param>
/// <param name="Digest">The digest of its model; null without a state.</param>
/// <param name="IsVerified">Whether the digest was computed from the values and is the right one; null where that was not asked for (<c>?verify=true</c>), or there is no state.</param>
/// <param name="UpdateBytes">What the updates took that it has received.</param>
/// <param name="SnapshotBytes">What the snapshots took that it has received.</param>
/// <param name="Answers">How many images it has classified.</param>
internal sealed record ServerStatus(
    string State, string? Reason, bool IsReady, long Sequence, long Lag, string? Digest, bool? IsVerified, long UpdateBytes, long SnapshotBytes, long Answers);

/// <summary>Images to classify, <c>POST /predict</c>.</summary>
/// <param name="Images">For each image its pixels, normalised as for training, in row-major order.</param>
internal sealed record PredictRequest(float[][] Images);

/// <summary>The answer to <see cref="PredictRequest"/>.</summary>
/// <param name="Labels">The class of each image.</param>
/// <param name="Sequence">The sequence of the model that gave them: one for all.</param>
internal sealed record PredictResponse(int[] Labels, long Sequence);
