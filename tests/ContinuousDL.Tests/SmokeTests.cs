using TorchSharp;

namespace ContinuousDL.Tests;

public class SmokeTests
{
    [Test]
    public void Torch_loads() => torch.ones(3).sum().item<float>().Should().Be(3);
}
