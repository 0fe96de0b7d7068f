using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Parameters;

/// <summary>Reading and writing by coordinate, in main memory and through another device's operations alike.</summary>
public class TensorSlotTests
{
    private static readonly ScalarType[] DTypes =
    [
        ScalarType.Float32, ScalarType.Float64, ScalarType.BFloat16, ScalarType.Float16, ScalarType.Int64, ScalarType.Int32, ScalarType.Int16,
        ScalarType.Int8, ScalarType.Byte, ScalarType.Bool,
    ];

    private static IEnumerable<TestCaseData> Cases() =>
        from dtype in DTypes from contiguous in new[] { true, false } from device in new[] { true, false } select new TestCaseData(dtype, contiguous, device);

    [TestCaseSource(nameof(Cases))]
    public void Values_written_are_values_read(ScalarType dtype, bool contiguous, bool throughDevice)
    {
        using var tensor = Make(dtype, contiguous);
        var entry = new LayoutEntry("tensor", CoordinateKind.Buffer, (DType)dtype, tensor.shape, 100, 12);
        TensorSlot slot = throughDevice ? new DeviceTensorSlot(entry, tensor) : new CpuTensorSlot(entry, tensor);
        var size = entry.ElementSize;
        var all = new byte[12 * size];
        slot.ReadAll(all);
        all.Should().Equal(TestModels.Bytes(tensor), "elements come in row-major order, whatever the strides");

        int[] coordinates = [101, 104, 111];
        var bits = new ulong[3];
        slot.Read(coordinates, bits);
        bits.Should().Equal(coordinates.Select(c => Scalars.Load(all, c - 100, size)));

        ulong[] swapped = [bits[2], bits[0], bits[1]];
        slot.Write(coordinates, swapped);
        for (var j = 0; j < 3; j++) Scalars.Store(all, coordinates[j] - 100, size, swapped[j]);
        TestModels.Bytes(tensor).Should().Equal(all, "only these elements changed");

        Array.Reverse(all);
        var reversed = Enumerable.Range(0, 12).SelectMany(i => all.Skip(i * size).Take(size).Reverse()).ToArray();
        slot.WriteAll(reversed);
        TestModels.Bytes(tensor).Should().Equal(reversed);
    }

    [Test]
    public void A_disposed_tensor_is_named()
    {
        var tensor = zeros(12);
        var slot = new CpuTensorSlot(new LayoutEntry("conv1.weight", CoordinateKind.Parameter, DType.Float32, [12], 0, 12), tensor);
        tensor.Dispose();
        slot.Invoking(s => s.ReadAll(new byte[48])).Should().Throw<ObjectDisposedException>().WithMessage("*conv1.weight*");
    }

    [TestCase(ScalarType.Float32)]
    [TestCase(ScalarType.Float64)]
    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    public void Add_rounds_as_torch_does_and_says_what_was_added(ScalarType dtype)
    {
        var random = new Random(2);
        for (var round = 0; round < 500; round++)
        {
            using var scope = NewDisposeScope();
            var addend = (float)(Math.Pow(10, random.Next(-6, 3)) * (random.NextDouble() - 0.5));
            var before = tensor((float)(Math.Pow(10, random.Next(-4, 3)) * (random.NextDouble() - 0.5))).to(dtype);
            var exact = dtype == ScalarType.Float64 ? before.add(addend) : before.to(ScalarType.Float32).add(addend).to(dtype);
            var result = Scalars.Add((DType)dtype, Scalars.Load(before.bytes, 0, Scalars.SizeOf((DType)dtype)), addend, out var applied);
            result.Should().Be(Scalars.Load(exact.bytes, 0, Scalars.SizeOf((DType)dtype)));
            applied.Should().Be((float)(exact.to(ScalarType.Float64).item<double>() - before.to(ScalarType.Float64).item<double>()));
        }
    }

    [Test]
    public void A_digest_kept_by_changes_is_the_digest_of_the_values()
    {
        var random = new Random(1);
        var values = Enumerable.Range(0, 50).Select(_ => (uint)random.Next()).ToArray();
        var entry = new LayoutEntry("tensor", CoordinateKind.Parameter, DType.Float32, [50], 7, 50);
        var digest = Digest();
        for (var change = 0; change < 200; change++)
        {
            var i = random.Next(50);
            var next = (uint)random.Next();
            digest += StateDigest.Change(7 + i, values[i], next);
            values[i] = next;
            Digest().Should().Be(digest);
        }

        (values[3], values[4]) = (values[4], values[3]);
        Digest().Should().NotBe(digest, "it matters where a value stands");

        ulong Digest() => StateDigest.Sum(entry, System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()));
    }

    private static Tensor Make(ScalarType dtype, bool contiguous)
    {
        using var scope = NewDisposeScope();
        var values = arange(-5, 7, dtype: ScalarType.Int64).view(3, 4).to(dtype);
        return (contiguous ? values.clone() : values.t().contiguous().t()).MoveToOuterDisposeScope();
    }
}
