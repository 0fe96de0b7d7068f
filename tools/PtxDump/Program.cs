using ContinuousDL.Cuda.Ptx;

// Writes the PTX of every kernel, so that ptxas can check it and tools/ptx-check can run it where there is no .NET:
//   dotnet run --project tools/PtxDump -- --out DIR

if (args is not ["--out", var folder])
{
    Console.Error.WriteLine("Usage: PtxDump --out DIR");
    return 2;
}

foreach (var target in PtxCompiler.Targets)
{
    var targetFolder = Directory.CreateDirectory(Path.Combine(folder, $"sm_{target.Major}{target.Minor}")).FullName;
    foreach (var (name, ptx) in PtxCompiler.Compile(target)) File.WriteAllText(Path.Combine(targetFolder, name + ".ptx"), ptx);
    Console.WriteLine(targetFolder);
}

return 0;
