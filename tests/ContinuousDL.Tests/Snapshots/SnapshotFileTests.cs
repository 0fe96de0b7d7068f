using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests.Samples;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Snapshots;

/// <summary>Snapshots in the safetensors format come back as they were, whatever the dtypes and shapes; broken ones are refused.</summary>
public class SnapshotFileTests
{
    private static readonly DType[] DTypes =
    [
        DType.Float32, DType.Float64, DType.Float16, DType.BFloat16, DType.Int8, DType.Byte,
        DType.Int16, DType.Int32, DType.Int64, DType.Bool, DType.ComplexFloat32,
    ];

    [Test]
    public void Load_gives_what_Save_wrote_for_every_dtype_and_shape()
    {
        var snapshot = OfEveryKind(Guid.NewGuid(), 123);
        var loaded = ModelSnapshot.Load(new MemoryStream(Saved(snapshot)));
        ShouldBeTheSame(loaded, snapshot);
    }

    [Test]
    public void Load_reads_a_stream_of_unknown_length()
    {
        using var model = TestModels.WithBatchNorm();
        var snapshot = ModelSnapshot.Of(model);
        ShouldBeTheSame(ModelSnapshot.Load(new OneWayStream(Saved(snapshot))), snapshot);
    }

    [Test]
    public void Save_to_a_file_replaces_it_and_leaves_nothing_else()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("model.safetensors", [1, 2, 3]);
        var snapshot = OfEveryKind(Guid.NewGuid(), 5);
        snapshot.Save(path);
        ShouldBeTheSame(ModelSnapshot.Load(path), snapshot);
        Directory.GetFiles(folder.Path).Should().Equal(path);
    }

    [Test]
    public void Save_that_fails_leaves_the_file_as_it_was()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("model.safetensors", [1, 2, 3]);
        var twice = Described(("w", DType.Float32, [1]), ("w", DType.Float32, [1]));
        twice.Invoking(s => s.Save(path)).Should().Throw<NotSupportedException>().WithMessage("*'w'*");
        File.ReadAllBytes(path).Should().Equal(1, 2, 3);
        Directory.GetFiles(folder.Path).Should().Equal(path);
    }

    [Test]
    public void The_file_is_a_safetensors_file_whose_values_lie_aligned()
    {
        var snapshot = OfEveryKind(Guid.NewGuid(), 7);
        var bytes = Saved(snapshot);
        var headerLength = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        headerLength.Should().Match(n => n % 8 == 0);
        using var header = JsonDocument.Parse(bytes.AsMemory(8, headerLength));
        header.RootElement.GetProperty("__metadata__").GetProperty("continuousdl.sequence").GetString().Should().Be("7");
        foreach (var entry in snapshot.Layout.Entries)
        {
            var tensor = header.RootElement.GetProperty(entry.Name);
            tensor.GetProperty("shape").EnumerateArray().Select(s => s.GetInt64()).Should().Equal(entry.Shape);
            var begin = tensor.GetProperty("data_offsets")[0].GetInt32();
            var end = tensor.GetProperty("data_offsets")[1].GetInt32();
            (begin % entry.ElementSize).Should().Be(0);
            bytes.AsSpan(8 + headerLength)[begin..end].ToArray().Should().Equal(snapshot.Values(snapshot.Layout.Entries.ToList().IndexOf(entry)).ToArray());
        }
    }

    [Test]
    public void A_file_of_another_origin_is_loaded_for_a_module()
    {
        using var model = TestModels.Mlp();
        var expected = ModelSnapshot.Of(model);
        var file = WithoutMetadata(Saved(expected));
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file))).Should().Throw<SnapshotFormatException>().WithMessage("*for a module*");
        var loaded = ModelSnapshot.Load(new MemoryStream(file), model);
        loaded.RunId.Should().Be(Guid.Empty);
        ShouldBeTheSame(loaded, expected);

        using var other = TestModels.Mlp(TorchSharp.torch.ScalarType.Float64);
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file), other)).Should().Throw<ModelMismatchException>().WithMessage("*hidden.weight*Float64*");
        using var larger = TestModels.WithBatchNorm();
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file), larger)).Should().Throw<ModelMismatchException>().WithMessage("*norm.weight*");
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(WithoutMetadata(Saved(ModelSnapshot.Of(larger)))), model))
            .Should().Throw<ModelMismatchException>().WithMessage("*norm.*not in the module*");
    }

    [Test]
    public void A_snapshot_is_loaded_for_a_module_of_its_architecture_alone()
    {
        using var model = TestModels.Mlp();
        using var other = TestModels.WithBatchNorm();
        var file = Saved(ModelSnapshot.Of(model));
        ShouldBeTheSame(ModelSnapshot.Load(new MemoryStream(file), model), ModelSnapshot.Of(model));
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file), other)).Should().Throw<ModelMismatchException>();
    }

    [TestCase("""[]""", "begin with")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}""", "JSON")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} x""", "JSON")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "twice")]
    [TestCase("""{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "twice")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"x":"1","x":"1"}}""", "twice")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"x":1}}""", "String")]
    [TestCase("""{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}""", "dtype 'F7'")]
    [TestCase("""{"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}}""", "dtype")]
    [TestCase("""{"a":{"shape":[1],"data_offsets":[0,4]}}""", "needs a dtype")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}""", "two offsets")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}""", "two offsets")]
    [TestCase("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", "takes 8 bytes")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", "takes 4 bytes")]
    [TestCase("""{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", "whole number")]
    [TestCase("""{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}""", "whole number")]
    [TestCase("""{"a":{"dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4]}}""", "whole number")]
    [TestCase("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}""", "too large")]
    [TestCase("""{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}""", "too large")]
    [TestCase("""{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}""", "no hole")]
    [TestCase("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}""", "no hole")]
    [TestCase("""{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}""", "no overlap")]
    [TestCase("""{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}""", "take 3 bytes")]
    [TestCase("""{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}""", "take 5 bytes")]
    [TestCase("""{"\ud800":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}""", "JSON")]
    [TestCase("""{"a":null}""", "StartObject")]
    public void A_broken_header_is_refused(string header, string problem)
    {
        using var module = nn.Linear(1, 1, hasBias: false);
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(FileOf(header, 4)), module))
            .Should().Throw<SnapshotFormatException>().WithMessage($"*{problem}*");
    }

    [Test]
    public void A_header_longer_than_the_limit_or_the_file_is_refused_before_memory_is_taken()
    {
        var huge = new byte[16];
        foreach (var length in new[] { 100_000_001UL, ulong.MaxValue, 99_000_000UL })
        {
            BinaryPrimitives.WriteUInt64LittleEndian(huge, length);
            var before = GC.GetAllocatedBytesForCurrentThread();
            FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(huge))).Should().Throw<SnapshotFormatException>();
            FluentActions.Invoking(() => ModelSnapshot.Load(new OneWayStream(huge))).Should().Throw<SnapshotFormatException>();
            (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(8 << 20);
        }
    }

    [Test]
    public void Text_that_is_not_UTF8_is_refused()
    {
        var file = FileOf("""{"?":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}""", 4);
        file[10] = 0xff;
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file))).Should().Throw<SnapshotFormatException>().WithMessage("*UTF-8*");
    }

    [TestCase("continuousdl.version", "2", "version '2'")]
    [TestCase("continuousdl.fingerprint", "00", "fingerprint")]
    [TestCase("continuousdl.run", "x", "can't be read")]
    [TestCase("continuousdl.sequence", "-1", "can't be read")]
    [TestCase("continuousdl.digest", "0123456789abcdef", "damaged")]
    [TestCase("continuousdl.tensors", "{}", "array of")]
    [TestCase("continuousdl.tensors", "null", "does not name")]
    [TestCase("continuousdl.tensors", "[null]", "once")]
    [TestCase("continuousdl.tensors", """[["hidden.weight","parameter"],["hidden.weight","parameter"]]""", "once")]
    [TestCase("continuousdl.tensors", """[["hidden.weight","other"]]""", "once")]
    [TestCase("continuousdl.digest", null, "lacks")]
    public void Metadata_that_does_not_fit_is_refused(string key, string? value, string problem)
    {
        using var model = TestModels.Mlp();
        var file = Rewrite(Saved(ModelSnapshot.Of(model)), metadata =>
        {
            metadata.Remove(key);
            if (value is not null) metadata[key] = value;
        });
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file))).Should().Throw<SnapshotFormatException>().WithMessage($"*{problem}*");
    }

    [Test]
    public void A_changed_value_is_noticed()
    {
        var file = Saved(OfEveryKind(Guid.NewGuid(), 1));
        file[^1] ^= 1;
        FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(file))).Should().Throw<SnapshotFormatException>().WithMessage("*damaged*");
    }

    [Test]
    public void A_file_cut_off_anywhere_is_refused()
    {
        using var model = TestModels.Mlp();
        var file = Saved(ModelSnapshot.Of(model));
        for (var length = 0; length < file.Length; length++)
        {
            var cut = file[..length];
            FluentActions.Invoking(() => ModelSnapshot.Load(new MemoryStream(cut))).Should().Throw<SnapshotFormatException>();
            FluentActions.Invoking(() => ModelSnapshot.Load(new OneWayStream(cut))).Should().Throw<SnapshotFormatException>();
        }
    }

    [Test]
    public void Random_damage_gives_the_documented_exception_or_the_same_state()
    {
        var snapshot = OfEveryKind(Guid.NewGuid(), 1);
        var file = Saved(snapshot);
        var headerEnd = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(file);
        var random = new Random(1);
        for (var trial = 0; trial < 20_000; trial++)
        {
            var damaged = (byte[])file.Clone();
            for (var i = random.Next(1, 4); i > 0; i--)
            {
                var position = random.Next(2) == 0 ? random.Next(headerEnd) : random.Next(file.Length);
                damaged[position] = random.Next(3) == 0 ? (byte)random.Next(256) : file[random.Next(headerEnd)];
            }

            try
            {
                var loaded = ModelSnapshot.Load(new MemoryStream(damaged));
                loaded.StateDigest.Should().Be(snapshot.StateDigest);
            }
            catch (SnapshotFormatException)
            {
            }
        }
    }

    private static byte[] Saved(ModelSnapshot snapshot)
    {
        using var stream = new MemoryStream();
        snapshot.Save(stream);
        return stream.ToArray();
    }

    private static byte[] FileOf(string header, int dataBytes)
    {
        var json = Encoding.UTF8.GetBytes(header);
        var file = new byte[8 + json.Length + dataBytes];
        BinaryPrimitives.WriteInt64LittleEndian(file, json.Length);
        json.CopyTo(file, 8);
        return file;
    }

    private static byte[] WithoutMetadata(byte[] file) => Rewrite(file, metadata => metadata.Clear());

    private static byte[] Rewrite(byte[] file, Action<Dictionary<string, string>> change)
    {
        var length = (int)BinaryPrimitives.ReadUInt64LittleEndian(file);
        var header = JsonSerializer.Deserialize<Dictionary<string, JsonElement>>(file.AsSpan(8, length))!;
        var metadata = header["__metadata__"].Deserialize<Dictionary<string, string>>()!;
        change(metadata);
        if (metadata.Count == 0) header.Remove("__metadata__");
        else header["__metadata__"] = JsonSerializer.SerializeToElement(metadata);
        return [.. FileOf(JsonSerializer.Serialize(header), 0), .. file[(8 + length)..]];
    }

    private static ModelSnapshot OfEveryKind(Guid run, long sequence)
    {
        long[][] shapes = [[3, 5], [], [0], [2, 0, 3], [7]];
        var tensors = DTypes.SelectMany(dtype => shapes.Select((shape, i) => ($"t\u00e4nsor \"{dtype}\".{i}", dtype, shape))).ToArray();
        return Described(run, sequence, tensors);
    }

    private static ModelSnapshot Described(params (string Name, DType DType, long[] Shape)[] tensors) => Described(Guid.NewGuid(), 0, tensors);

    private static ModelSnapshot Described(Guid run, long sequence, params (string Name, DType DType, long[] Shape)[] tensors)
    {
        var layout = ModelLayout.Of(tensors.Select((t, i) => new TensorDescription(t.Name, i % 3 == 0 ? CoordinateKind.Buffer : CoordinateKind.Parameter, t.DType, t.Shape)));
        var random = new Random(3);
        var values = layout.Entries.Select(e => new byte[e.Length * e.ElementSize]).ToArray();
        foreach (var tensor in values) random.NextBytes(tensor);
        return new ModelSnapshot(layout, values, run, sequence);
    }

    private static void ShouldBeTheSame(ModelSnapshot actual, ModelSnapshot expected)
    {
        actual.Layout.FirstDifference(expected.Layout).Should().BeNull();
        actual.Layout.Fingerprint.Should().Be(expected.Layout.Fingerprint);
        (actual.RunId, actual.Sequence, actual.StateDigest).Should().Be((expected.RunId, expected.Sequence, expected.StateDigest));
        for (var i = 0; i < expected.Layout.Entries.Count; i++) actual.Values(i).ToArray().Should().Equal(expected.Values(i).ToArray());
    }
}
