using BenchmarkDotNet.Running;
using ContinuousDL;
using ContinuousDL.Benchmarks.Cuda;
using ContinuousDL.Benchmarks.Ratios;
using ContinuousDL.Benchmarks.Wire;
using TorchSharp;

// Runs the benchmarks: `-- ratios` for a short paired measurement of the bars, `-- sizes` for the sizes of updates on the wire,
// `-- cuda` for compression on a CUDA device, anything else goes to BenchmarkDotNet.

if (args is [] or ["--help" or "-h" or "-?"])
{
    Console.WriteLine(
        """
        Benchmarks of ContinuousDL.

        dotnet run -c Release --project benchmarks/ContinuousDL.Benchmarks -- ARGUMENTS

          ratios [--json FILE] [--filter TEXT]
              A short paired measurement of every bar, for machines that are not quiet either:
              the variants in turn in one process, the median of the pairwise ratios.
              Under 10 minutes on 2 cores. Prints name, ratio, bar and whether it holds.
                --json FILE     writes the same as JSON: name, ratio, bar, holds
                --filter TEXT   measures only the bars with this text in their names

          sizes [--json FILE] [--quick]
              Updates recorded from real training, coded by the library and as other systems code
              them: bytes for each coordinate; and how fast they are encoded, decoded and applied.
                --json FILE     writes the same as JSON
                --quick         LeNet-5 only, and fewer updates

          cuda [--try-on-cpu]
              Top-k with error feedback on a CUDA device: torch's topk, plain operations, the library's
              kernels, and a copy, for n to 350 million. Build with -p:TorchBackend=cuda-linux.

          --filter '*CompressionBenchmarks*'      top-k with error feedback against the usual ways and a copy
          --filter '*StepBenchmarks*'             whole training steps, dense and sparse
          --filter '*LoopBenchmarks*'             ProactiveTrainer.Step() against a loop by hand
          --filter '*SamplerBenchmarks*'          batches out of histories of 10 thousand to 10 million
          --filter '*HistoryBenchmarks*'          batches out of a million images, in memory and on disk
          --filter '*UpdateCodecBenchmarks*'      updates encoded, decoded and applied
          --filter '*UpdateLogBenchmarks*'        updates appended to a log, and read by a replica that is behind
          --list flat, --filter '*', ...          everything else that BenchmarkDotNet understands

        libtorch works with a thread for each core; OMP_NUM_THREADS says otherwise.
        """);
    return 0;
}

// By default it takes one for two hyperthreads: too few where a virtual machine's cores look like those.
if (Environment.GetEnvironmentVariable("OMP_NUM_THREADS") is null) torch.set_num_threads(Environment.ProcessorCount);

if (args[0] == "ratios") return RatiosCommand.Run(args);
if (args[0] == "cuda") return CudaCompressionBenchmarks.Run(args.AsSpan(1));
if (args[0] == "sizes") return SizesCommand.Run(args);
BenchmarkSwitcher.FromAssembly(typeof(RatiosCommand).Assembly).Run(args);
return 0;
