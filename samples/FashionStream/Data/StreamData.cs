using ContinuousDL.Samples.FashionStream.Models;

namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>The format of a data folder.</summary>
internal enum DataFormat
{
    /// <summary>The IDX files of MNIST and its relatives.</summary>
    Mnist,

    /// <summary>The binary batches of CIFAR-10.</summary>
    Cifar10,
}

/// <summary>
/// What a run replays: the first sixth of the training samples is the history that is there at the start, the rest arrives
/// as a stream in its order, the test samples judge the outcome.
/// </summary>
/// <remarks>
/// A sixth is 10,000 of the 60,000 samples of the whole Fashion-MNIST, and 2,000 of the 12,000 embedded ones. Pixels are scaled
/// to the mean 0 and the standard deviation 1 of the initial history, which is all that is known when the stream begins.
/// </remarks>
internal sealed class StreamData
{
    private const int InitialShare = 6;

    /// <summary>A label is an index into the model's outputs: ten of them, or more where the labels ask for it.</summary>
    private const int FewestClasses = 10;

    /// <exception cref="DataFileException">Training and test images differ in size, are too small, or there are too few of them.</exception>
    private StreamData(string origin, LabelledImages training, LabelledImages test)
    {
        if (SizeOf(training) != SizeOf(test))
            throw new DataFileException(origin, $"has training images of {SizeOf(training)}, but test images of {SizeOf(test)}.");
        if (Math.Min(training.Height, training.Width) < LeNet5.SmallestSide)
        {
            throw new DataFileException(
                origin, $"has images of {SizeOf(training)}; LeNet-5 needs at least {LeNet5.SmallestSide} × {LeNet5.SmallestSide}.");
        }

        if (training.Count < InitialShare)
        {
            throw new DataFileException(
                origin, $"has {training.Count} training samples; at least {InitialShare} are needed, a sixth of them as the initial history.");
        }

        Origin = origin;
        InitialCount = training.Count / InitialShare;
        var scale = training.StandardScale(InitialCount);
        Training = training.WithScale(scale);
        Test = test.WithScale(scale);
        Classes = Math.Max(FewestClasses, 1 + Math.Max(Highest(training.Labels), Highest(test.Labels)));
    }

    /// <summary>The folder that the data came from.</summary>
    public string Origin { get; }

    /// <summary>The initial history, followed by the stream.</summary>
    public LabelledImages Training { get; }

    /// <summary>The test samples.</summary>
    public LabelledImages Test { get; }

    /// <summary>How many of the training samples are the initial history.</summary>
    public int InitialCount { get; }

    /// <summary>How many of the training samples are streamed.</summary>
    public int StreamCount => Training.Count - InitialCount;

    /// <summary>The number of classes.</summary>
    public int Classes { get; }

    /// <summary>The folder of the embedded subset of Fashion-MNIST.</summary>
    public static string EmbeddedDirectory => Path.Combine(AppContext.BaseDirectory, "Data", "fashion-mnist");

    /// <summary>Reads a folder.</summary>
    /// <param name="directory">The folder.</param>
    /// <param name="format">What lies in it.</param>
    /// <param name="mostTraining">Takes only so many training samples, the first ones.</param>
    /// <param name="mostTest">Takes only so many test samples, the first ones.</param>
    /// <exception cref="DataFileException">A file is missing, damaged, or doesn't fit the others.</exception>
    public static StreamData Load(string directory, DataFormat format, int mostTraining = int.MaxValue, int mostTest = int.MaxValue)
    {
        var (training, test) = format == DataFormat.Mnist
            ? (IdxReader.Read(Find(directory, "train-images-idx3-ubyte"), Find(directory, "train-labels-idx1-ubyte")),
               IdxReader.Read(Find(directory, "t10k-images-idx3-ubyte"), Find(directory, "t10k-labels-idx1-ubyte")))
            : (Cifar10Reader.Read(FindCifarTrainingBatches(directory)), Cifar10Reader.Read(Path.Combine(directory, "test_batch.bin")));
        return new StreamData(directory, training.Take(mostTraining), test.Take(mostTest));
    }

    private static string SizeOf(LabelledImages images) => $"{images.Height} × {images.Width} × {images.Channels}";

    private static string Find(string directory, string name)
    {
        var plain = Path.Combine(directory, name);
        if (File.Exists(plain)) return plain;
        var gzip = plain + ".gz";
        return File.Exists(gzip) ? gzip : throw new DataFileException(plain, "doesn't exist, nor does the same with .gz.");
    }

    /// <summary>The original has five batches; a smaller set has fewer, but none missing in between.</summary>
    private static string[] FindCifarTrainingBatches(string directory)
    {
        string Batch(int number) => Path.Combine(directory, $"data_batch_{number}.bin");
        var last = Enumerable.Range(1, 5).LastOrDefault(number => File.Exists(Batch(number)), 1);
        var paths = Enumerable.Range(1, last).Select(Batch).ToArray();
        var missing = paths.FirstOrDefault(path => !File.Exists(path));
        return missing is null ? paths : throw new DataFileException(missing, "doesn't exist.");
    }

    private static int Highest(ReadOnlySpan<byte> labels)
    {
        var highest = 0;
        foreach (var label in labels) highest = Math.Max(highest, label);
        return highest;
    }
}
