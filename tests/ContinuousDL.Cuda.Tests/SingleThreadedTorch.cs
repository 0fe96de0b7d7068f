using TorchSharp;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The accelerator has threads enough of its own.</summary>
[SetUpFixture]
public class SingleThreadedTorch
{
    [OneTimeSetUp]
    public void UseOneThread() => torch.set_num_threads(1);
}
