namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>Makes the values that a model is given of the bytes of an image: (byte − mean) / deviation, channel by channel.</summary>
/// <param name="channels">Mean and deviation of each channel, in bytes.</param>
internal sealed class PixelScale(params (float Mean, float Deviation)[] channels)
{
    /// <summary>Values in [0, 1].</summary>
    public static PixelScale UnitInterval(int channels) => new([.. Enumerable.Repeat((0f, 255f), channels)]);

    /// <summary>Scales an image.</summary>
    /// <param name="source">Its bytes, channel by channel.</param>
    /// <param name="destination">Receives as many values.</param>
    public void Apply(ReadOnlySpan<byte> source, Span<float> destination)
    {
        var plane = source.Length / channels.Length;
        for (var c = 0; c < channels.Length; c++)
        {
            var (mean, deviation) = channels[c];
            var from = source.Slice(c * plane, plane);
            var to = destination.Slice(c * plane, plane);
            for (var i = 0; i < from.Length; i++) to[i] = (from[i] - mean) / deviation;
        }
    }
}
