using ContinuousDL.Cuda;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Documentation;

/// <summary>
/// The variables that the documents' snippets use without declaring them. A snippet is compiled against them and not
/// run, so none of them has a value.
/// </summary>
public static class SnippetContext
{
#pragma warning disable IDE1006 // The names are those of local variables in the documents.
    // Data and training.
    public static IEnumerable<(Tensor Inputs, Tensor Targets)> arrivals => null!;
    public static Tensor inputs => null!;
    public static Tensor targets => null!;
    public static Tensor input => null!;
    public static nn.Module<Tensor, Tensor> model => null!;
    public static nn.Module<Tensor, Tensor, Tensor> loss => null!;
    public static optim.Optimizer optimizer => null!;
    public static ProactiveTrainerOptions options => null!;
    public static ProactiveTrainer trainer => null!;
    public static StepResult result => null!;

    // Replicas, and what lies between them and the trainer.
    public static ModelReplica<LeNet5> replica => null!;
    public static ModelSnapshot snapshot => null!;
    public static UpdateLog log => null!;
    public static UpdateCodec codec => null!;
    public static IUpdateSource source => null!;
    public static byte[] key => null!;
    public static long good => 0;

    // The application.
    public static WebApplication app => null!;
    public static IServiceCollection services => null!;
    public static HttpClient client => null!;
    public static Uri address => null!;
    public static ILogger<CudaTensorAccess> logger => null!;
    public static CancellationToken stopping => default;
#pragma warning restore IDE1006

    public static Sequential MakeModel() => null!;

    /// <summary>A module of the application.</summary>
    public sealed class LeNet5() : nn.Module<Tensor, Tensor>(nameof(LeNet5))
    {
        public override Tensor forward(Tensor input) => input;
    }
}
