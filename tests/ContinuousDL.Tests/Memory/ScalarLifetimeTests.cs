using Mono.Cecil.Rocks;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Memory;

public class ScalarLifetimeTests
{
    private static readonly string[] Surfaces =
    [
        "TorchSharp.torch", "TorchSharp.torch/Tensor", "TorchSharp.torch/linalg", "TorchSharp.torch/nn/functional", "TorchSharp.TensorExtensionMethods",
    ];

    private static readonly Scalar Half = 0.5;

    private readonly ScalarLifetimes lifetimes = new();

    [OneTimeTearDown]
    public void Dispose() => lifetimes.Dispose();

    [TestCase("ContinuousDL")]
    [TestCase("ContinuousDL.Cuda")]
    [TestCase("ContinuousDL.AspNetCore")]
    [TestCase("ContinuousDL.Benchmarks")]
    [TestCase("ContinuousDL.CrashTest")]
    [TestCase("FashionStream")]
    public void Every_scalar_outlives_the_native_code_that_reads_it(string assembly)
    {
        using var read = lifetimes.Read(Path.Combine(AppContext.BaseDirectory, assembly + ".dll"));
        ScalarLifetimes.MethodsOf(read).Should().NotBeEmpty();
        lifetimes.FindIn(read).Should().BeEmpty();
    }

    [Test]
    public void BannedSymbols_lists_every_conversion_to_a_scalar_or_tensor_and_every_operation_that_loses_a_scalar()
    {
        var banned = File.ReadLines(Path.Combine(AppContext.BaseDirectory, "BannedSymbols.txt"))
            .Where(l => l.StartsWith("M:TorchSharp.", StringComparison.Ordinal)).Select(l => l.Split(';')[0]);

        var methods = ScalarLifetimes.MethodsOf(lifetimes.TorchSharp).Where(m => m.IsPublic).ToList();
        var conversions = methods.Where(m => m.Name == "op_Implicit" && m.DeclaringType.FullName == "TorchSharp.Scalar")
            .Concat(methods.Where(ScalarLifetimes.IsTensorConversion));
        var operations = methods.Where(m => lifetimes.UnsafeMethods.Contains(m) && Surfaces.Contains(m.DeclaringType.FullName));

        banned.Should().BeEquivalentTo(conversions.Concat(operations).Distinct().Select(DocCommentId.GetDocCommentId));
    }

    [TestCase(nameof(ImplicitArgument))]
    [TestCase(nameof(ExplicitArgument))]
    [TestCase(nameof(Comparison))]
    [TestCase(nameof(ArithmeticWithNumber))]
    [TestCase(nameof(SumOfTensors))]
    [TestCase(nameof(NumberOfTensor))]
    [TestCase(nameof(ElementSet))]
    [TestCase(nameof(FilledTensor))]
    [TestCase(nameof(LocalThatIsNotDisposed))]
    public void A_scalar_that_nothing_keeps_is_found(string method) => Find(method).Should().NotBeEmpty();

    [TestCase(nameof(NamedScalar))]
    [TestCase(nameof(StaticScalar))]
    [TestCase(nameof(ReturnedScalar))]
    [TestCase(nameof(TensorsOnly))]
    public void A_scalar_that_is_kept_is_not(string method) => Find(method).Should().BeEmpty();

    private IEnumerable<string> Find(string method)
    {
        using var read = lifetimes.Read(typeof(ScalarLifetimeTests).Assembly.Location);
        return lifetimes.FindIn(ScalarLifetimes.MethodsOf(read).Single(m => m.DeclaringType.Name == nameof(ScalarLifetimeTests) && m.Name == method)).ToList();
    }

    private static Tensor ImplicitArgument(Tensor a) => a.mul(0.5);

    private static Tensor ExplicitArgument(Tensor a) => a.mul(0.5.ToScalar());

    private static Tensor Comparison(Tensor a) => a > 0;

    private static Tensor ArithmeticWithNumber(Tensor a) => a * 2;

    private static Tensor SumOfTensors(Tensor a, Tensor b) => a.add(b);

    private static double NumberOfTensor(Tensor a) => a.ToDouble();

    private static void ElementSet(Tensor a) => a[0] = 0.5;

    private static Tensor FilledTensor() => full(3, 0.5);

    private static Tensor LocalThatIsNotDisposed(Tensor a)
    {
        var factor = 0.5.ToScalar();
        return a.mul(factor).add(a, factor);
    }

    private static Tensor NamedScalar(Tensor a)
    {
        using var factor = 0.5.ToScalar();
        return a.mul(factor);
    }

    private static Tensor StaticScalar(Tensor a) => a.mul(Half);

    private static Scalar ReturnedScalar() => 0.5.ToScalar();

    private static Tensor TensorsOnly(Tensor a, Tensor b) => a.sub(b);
}
