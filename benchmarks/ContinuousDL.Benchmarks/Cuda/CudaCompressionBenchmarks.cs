using System.Diagnostics;
using System.Globalization;
using ContinuousDL.Cuda;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Memory;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Vectors;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Cuda;

/// <summary>
/// Accumulate, select and release on a CUDA device: the usual recipe of torch's <c>topk</c>, the library's plain operations, its
/// kernels, and a copy on the device as the floor; then the same with the optimizer's update taken back out of the weights, as
/// <see cref="CudaUpdateCompression"/> does it. The command <c>cuda</c>.
/// </summary>
/// <remarks>
/// Wall-clock time between synchronisations, the median of several rounds after a warm-up; TorchSharp has no CUDA events. So a
/// step's launches and its wait for the result count, as they do in training.
/// </remarks>
internal static class CudaCompressionBenchmarks
{
    private const int WarmUp = 5, Rounds = 15;

    private static readonly int[] Lengths = [1_000_000, 25_557_032, 100_000_000, 350_000_000];
    private static readonly double[] Densities = [1e-2, 1e-3, 1e-4, 1e-5];

    /// <summary>Runs the command.</summary>
    /// <param name="arguments">What follows <c>cuda</c>: nothing, or <c>--try-on-cpu</c>.</param>
    /// <returns>The exit code: 1 where there is no CUDA device, 2 for arguments that it doesn't know.</returns>
    public static int Run(ReadOnlySpan<string> arguments)
    {
        if (arguments is ["--try-on-cpu"])
        {
            Console.WriteLine("On the CPU, without the kernels and with small vectors: this shows that the benchmark runs, and measures nothing.");
            foreach (var density in Densities)
            {
                Measure(CPU, null, 20_000, density, ScalarType.Float32);
                MeasureWeights(CPU, null, 20_000, density, ScalarType.BFloat16);
            }

            return 0;
        }

        if (arguments.Length > 0)
        {
            Console.Error.WriteLine("Usage: cuda [--try-on-cpu]");
            return 2;
        }

        if (!cuda_is_available())
        {
            Console.Error.WriteLine("torch sees no CUDA device, so there is nothing to measure. On a machine with one, run this with -p:TorchBackend=cuda-linux or cuda-windows.");
            return 1;
        }

        InitializeDeviceType(DeviceType.CUDA);
        var queue = CudaDevices.Default.Find(0, out var problem);
        if (queue is null) Console.WriteLine($"The kernels can't be used: {problem}");
        Console.WriteLine(DescribeGpu());
        Console.WriteLine("| n | density | gradient | copy, ms | topk recipe, ms | plain operations, ms | kernels, ms | kernels / copy | GB/s of 12 n bytes, of 10 n in bfloat16 |");
        Console.WriteLine("|---|---|---|---|---|---|---|---|---|");
        MeasureAll(queue, Measure);
        Console.WriteLine();
        Console.WriteLine("The optimizer's update taken back out of the weights, with a look-ahead:");
        Console.WriteLine("| n | density | weights | copy of n float32, ms | plain operations, ms | kernels, ms | kernels / copy | GB/s of 20 n bytes, of 14 n in bfloat16 |");
        Console.WriteLine("|---|---|---|---|---|---|---|---|");
        MeasureAll(queue, MeasureWeights);
        return 0;
    }

    private static void MeasureAll(CudaDevice? queue, Action<Device, CudaDevice?, int, double, ScalarType> measure)
    {
        foreach (var n in Lengths)
        {
            foreach (var density in Densities)
            {
                foreach (var dtype in new[] { ScalarType.Float32, ScalarType.BFloat16 }) TryMeasure(queue, measure, n, density, dtype);
            }
        }
    }

    /// <summary>Name and clocks; torch doesn't tell them.</summary>
    private static string DescribeGpu()
    {
        try
        {
            string[] arguments = ["--query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,memory.total", "--format=csv"];
            using var query = Process.Start(new ProcessStartInfo("nvidia-smi", arguments) { RedirectStandardOutput = true })!;
            var text = query.StandardOutput.ReadToEnd();
            query.WaitForExit();
            return text.Trim();
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "nvidia-smi is not on the PATH: name and clocks of the GPU are not known.";
        }
    }

    /// <summary>Measures, unless the device has too little memory for it.</summary>
    private static void TryMeasure(CudaDevice? queue, Action<Device, CudaDevice?, int, double, ScalarType> measure, int n, double density, ScalarType dtype)
    {
        try
        {
            measure(device(DeviceType.CUDA, 0), queue, n, density, dtype);
        }
        catch (System.Runtime.InteropServices.ExternalException e) when (e.Message.Contains("out of memory", StringComparison.OrdinalIgnoreCase))
        {
            Console.WriteLine($"| {n} | {density} | {dtype} | not measured: out of memory |");
        }
    }

    private static void Measure(Device device, CudaDevice? queue, int n, double density, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        random.manual_seed(1);
        var k = Math.Max(1, (int)((decimal)density * n));

        // Normal values times their own exponential: heavy tails, as gradients have.
        var gradient = randn(n, device: device).mul_(randn(n, device: device).exp_()).to(dtype);
        var residual = zeros(n, device: device);
        var target = empty_like(residual);

        var copy = Median(device, () => _ = target.copy_(residual));
        var recipe = Median(device, () => Recipe(residual, gradient, k));
        var plain = Median(device, () => PlainOperations(residual, gradient, k));
        double? kernels = null;
        if (queue is not null)
        {
            using var selector = new DeviceSelector(queue, residual, new VectorLayout(n));
            kernels = Median(device, () =>
            {
                selector.Begin(k);
                selector.Accumulate(0, gradient);
                selector.Select(release: true);
            });
        }

        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {n} | {density} | {dtype} | {copy:0.000} | {recipe:0.000} | {plain:0.000} | {kernels:0.000} | {kernels / copy:0.00} | {1e-6 * (8 + gradient.element_size()) * n / kernels:0} |"));
    }

    private static void MeasureWeights(Device device, CudaDevice? queue, int n, double density, ScalarType dtype)
    {
        const float Lookahead = 0.5f;
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        random.manual_seed(1);
        var k = Math.Max(1, (int)((decimal)density * n));

        // The weights are where they are ahead, and nothing is released: every round finds the same, and the floor fits.
        var residual = randn(n, device: device).mul_(randn(n, device: device).exp_());
        var deployed = randn(n, device: device).to(dtype);
        var trained = Ahead(deployed, residual, Lookahead);
        var target = empty_like(residual);

        var copy = Median(device, () => _ = target.copy_(residual));
        var plain = Median(device, () =>
        {
            using var inner = NewDisposeScope();
            _ = residual.AddInPlace(trained.sub(Ahead(deployed, residual, Lookahead)).to(ScalarType.Float32));
            _ = trained.copy_(Ahead(deployed, residual, Lookahead));
            var indices = DeviceTopK.Select(residual, k);
            _ = (indices.cpu(), residual.index_select(0, indices).cpu());
        });
        double? kernels = null;
        if (queue is not null)
        {
            var layout = new VectorLayout(n);
            var entry = ModelLayout.Of([new("weights", CoordinateKind.Parameter, (DType)dtype, [n])]).Entries[0];
            using var selector = new DeviceSelector(queue, residual, layout);
            using var writer = LookAheadWriter.TryMake(queue, layout, [TensorSlot.Of(entry, trained)], [TensorSlot.Of(entry, deployed)], Lookahead)!;
            kernels = Median(device, () =>
            {
                selector.Begin(k);
                selector.TakeBack(0, trained, deployed, Lookahead);
                selector.Select(release: false);
                writer.Write(selector);
            });
        }

        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {n} | {density} | {dtype} | {copy:0.000} | {plain:0.000} | {kernels:0.000} | {kernels / copy:0.00} | {1e-6 * (8 + (3 * deployed.element_size())) * n / kernels:0} |"));
    }

    private static Tensor Ahead(Tensor deployed, Tensor residual, float lookahead)
    {
        using Scalar factor = lookahead;
        return deployed.Plus(residual.mul(factor)).to(deployed.dtype);
    }

    private static void Recipe(Tensor residual, Tensor gradient, int k)
    {
        using var scope = NewDisposeScope();
        using Scalar zero = 0;
        var accumulated = residual.Plus(gradient);
        var (_, indices) = accumulated.abs().topk(k, sorted: false);
        var rest = accumulated.clone();
        _ = rest.index_fill_(0, indices, zero);
        _ = residual.copy_(rest);
        _ = accumulated.index_select(0, indices).cpu();
    }

    private static void PlainOperations(Tensor residual, Tensor gradient, int k)
    {
        using var scope = NewDisposeScope();
        using Scalar zero = 0;
        _ = residual.AddInPlace(gradient);
        var indices = DeviceTopK.Select(residual, k);
        var values = residual.index_select(0, indices);
        _ = residual.index_fill_(0, indices, zero);
        _ = (indices.cpu(), values.cpu());
    }

    private static double Median(Device device, Action step)
    {
        for (var i = 0; i < WarmUp; i++) step();
        var times = new double[Rounds];
        for (var i = 0; i < Rounds; i++)
        {
            Synchronize(device);
            var start = Stopwatch.GetTimestamp();
            step();
            Synchronize(device);
            times[i] = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }

        Array.Sort(times);
        return times[Rounds / 2];
    }

    private static void Synchronize(Device device)
    {
        if (device.type == DeviceType.CUDA) cuda.synchronize(device);
    }
}
