using TorchSharp;

namespace ContinuousDL.Tests;

/// <summary>Small tensors are slower with several threads, and much slower when other processes want the cores too.</summary>
[SetUpFixture]
public class SingleThreadedTorch
{
    [OneTimeSetUp]
    public void UseOneThread() => torch.set_num_threads(1);
}
