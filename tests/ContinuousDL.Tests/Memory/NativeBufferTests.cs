using ContinuousDL.Memory;

namespace ContinuousDL.Tests.Memory;

public class NativeBufferTests
{
    [TestCase(0)]
    [TestCase(1)]
    [TestCase(1000)]
    [TestCase(5_000_000)]
    public unsafe void Constructor_gives_zeroed_memory_aligned_to_64_bytes(int length)
    {
        using var buffer = new NativeBuffer<float>(length);
        buffer.Length.Should().Be(length);
        buffer.Span.Length.Should().Be(length);
        buffer.Span.ContainsAnyExcept(0f).Should().BeFalse();
        fixed (float* first = &System.Runtime.InteropServices.MemoryMarshal.GetReference(buffer.Span)) ((nuint)first % 64).Should().Be(0);
    }

    [Test]
    public void Span_keeps_what_is_written()
    {
        using var buffer = new NativeBuffer<long>(3);
        buffer.Span[0] = 1;
        buffer.Span[2] = long.MaxValue;
        buffer.Span.ToArray().Should().Equal(1, 0, long.MaxValue);
    }

    [Test]
    public void Dispose_twice_is_harmless_and_the_memory_is_gone()
    {
        var buffer = new NativeBuffer<float>(10);
        buffer.Dispose();
        buffer.Dispose();
        FluentActions.Invoking(() => buffer.Span.Length).Should().Throw<ObjectDisposedException>();
    }

    [Test]
    public void Constructor_negative_length_throws() =>
        FluentActions.Invoking(() => new NativeBuffer<float>(-1)).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("length");
}
