namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>The figures of progress as short texts.</summary>
internal static class ProgressText
{
    private static readonly string[] Units = ["B", "KB", "MB", "GB", "TB"];

    /// <summary>Samples a second: "1,234/s".</summary>
    public static string Rate(int samples, TimeSpan elapsed) =>
        elapsed > TimeSpan.Zero ? $"{samples / elapsed.TotalSeconds:N0} samples/s" : "";

    /// <summary>The accuracy so far in per cent, or nothing.</summary>
    public static string Accuracy(Progress progress) => progress.Accuracy is { } accuracy ? $"{100 * accuracy:0.00} %" : "";

    /// <summary>The bytes sent so far, or nothing.</summary>
    public static string Bytes(Progress progress) => progress.Bytes is { } bytes ? $"{Size(bytes)} sent" : "";

    /// <summary>A size to three digits, in powers of 1,000: "61.7 KB".</summary>
    public static string Size(double bytes)
    {
        var unit = 0;
        while (bytes >= 999.5 && unit < Units.Length - 1)
        {
            bytes /= 1000;
            unit++;
        }

        var format = unit == 0 || bytes >= 99.95 ? "0" : bytes >= 9.995 ? "0.0" : "0.00";
        return $"{bytes.ToString(format)} {Units[unit]}";
    }
}
