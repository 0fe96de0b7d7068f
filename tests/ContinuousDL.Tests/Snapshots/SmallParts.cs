using ContinuousDL.Replication.Models;

namespace ContinuousDL.Tests.Snapshots;

/// <summary>While it lasts, tensors are cut into parts as if arrays could have only so many bytes: small ones go the way of those of 2 GiB and more.</summary>
internal sealed class SmallParts : IDisposable
{
    private readonly int usual = TensorValues.LargestPart;

    public SmallParts(int bytes = 64) => TensorValues.LargestPart = bytes;

    public void Dispose() => TensorValues.LargestPart = usual;
}
