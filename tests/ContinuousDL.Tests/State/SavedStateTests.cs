using System.IO.Compression;
using ContinuousDL.Compression;
using ContinuousDL.Evaluation;
using ContinuousDL.State;

namespace ContinuousDL.Tests.State;

/// <summary>What is the same for the states of all parts: how they are framed, and what is refused.</summary>
public class SavedStateTests
{
    [Test]
    public void A_state_is_kind_version_length_and_what_the_part_wrote()
    {
        Saved(new Part { Value = 0x0102030405060708 }).Should().Equal(
            [5, 0, .. "Maß1"u8, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    }

    [Test]
    public void A_part_goes_on_from_a_state_and_the_reader_is_behind_it()
    {
        using var stream = new MemoryStream([.. Saved(new Part { Value = 7 }), 1, 2, 3]);
        var part = new Part();
        part.LoadState(new BinaryReader(stream));
        part.Value.Should().Be(7);
        stream.Position.Should().Be(stream.Length - 3);
    }

    [Test]
    public void A_stream_that_cannot_seek_gets_and_gives_the_same_state()
    {
        var outer = new Outer { First = { Value = 5 }, Second = { Value = 6 } };
        using var compressed = new MemoryStream();
        using (var target = new GZipStream(compressed, CompressionLevel.Fastest, leaveOpen: true)) outer.SaveState(new BinaryWriter(target));
        compressed.Position = 0;
        using var source = new MemoryStream();
        using (var decompressing = new GZipStream(compressed, CompressionMode.Decompress, leaveOpen: true)) decompressing.CopyTo(source);
        source.ToArray().Should().Equal(Saved(outer));

        compressed.Position = 0;
        var restored = new Outer();
        using var reading = new GZipStream(compressed, CompressionMode.Decompress);
        restored.LoadState(new BinaryReader(reading));
        (restored.First.Value, restored.Second.Value).Should().Be((5, 6));
    }

    [Test]
    public void A_state_in_the_middle_of_a_stream_leaves_what_is_around_it_alone()
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        writer.Write((byte)1);
        new Part { Value = 7 }.SaveState(writer);
        writer.Write((byte)2);
        stream.ToArray().Should().Equal([1, .. Saved(new Part { Value = 7 }), 2]);
    }

    [Test]
    public void A_state_of_another_kind_is_refused_with_both_kinds() =>
        ShouldRefuse(new Part(), Saved(new Part { Kind = "Other, 3 options" }), "*state of Other, 3 options*not of Maß1*");

    [Test]
    public void A_state_of_a_newer_version_is_refused_and_of_an_older_one_is_the_parts_to_read()
    {
        ShouldRefuse(new Part { Version = 2 }, Saved(new Part { Version = 3 }), "*version 3*newer*version 2*");
        var part = new Part { Version = 3 };
        part.LoadState(Reader(Saved(new Part { Version = 2 })));
        part.ReadVersion.Should().Be(2);
    }

    [TestCase(0)]
    [TestCase(-1)]
    public void A_version_below_the_first_is_refused(int version)
    {
        var state = Saved(new Part());
        BitConverter.TryWriteBytes(state.AsSpan(7), version);
        ShouldRefuse(new Part(), state, "*version*first*");
    }

    [Test]
    public void A_state_cut_short_anywhere_is_refused_whether_or_not_the_stream_tells_its_length()
    {
        var state = Saved(new Outer());
        for (var length = 0; length < state.Length; length++)
        {
            ShouldRefuse(new Outer(), state[..length], "*cut short*");
            using var inner = new MemoryStream(state[..length]);
            using var silent = new Unseekable(inner);
            FluentActions.Invoking(() => new Outer().LoadState(new BinaryReader(silent))).Should().Throw<InvalidDataException>().WithMessage("*cut short*");
        }
    }

    [Test]
    public void A_state_that_is_longer_than_the_part_reads_is_refused()
    {
        var state = Saved(new Part());
        BitConverter.TryWriteBytes(state.AsSpan(11), 10L);
        ShouldRefuse(new Part(), [.. state, 1, 2], "*too long*2 of its 10 bytes*");
    }

    [Test]
    public void A_state_that_is_shorter_than_the_part_reads_is_refused_and_what_follows_is_not_read()
    {
        var state = Saved(new Part());
        BitConverter.TryWriteBytes(state.AsSpan(11), 7L);
        ShouldRefuse(new Part(), [.. state, 1, 2, 3], "*cut short*");
    }

    [TestCase(-1)]
    [TestCase(long.MinValue)]
    public void A_negative_length_is_refused(long length)
    {
        var state = Saved(new Part());
        BitConverter.TryWriteBytes(state.AsSpan(11), length);
        ShouldRefuse(new Part(), state, "*length*");
    }

    [TestCase(new byte[] { 0, 0, 0, 0, 0, 0, 0, 0 })]
    [TestCase(new byte[] { 255, 255, 255, 255 })]
    [TestCase(new byte[] { 2, 0, 0xC3, 0x28, 1, 0, 0, 0 })]
    [TestCase(new byte[] { 2, 0, 7, 65, 1, 0, 0, 0 })]
    public void Data_that_is_no_state_is_refused(byte[] data) => ShouldRefuse(new Part(), data, "*not the state of Maß1*");

    [Test]
    public void An_exception_of_reading_damaged_data_becomes_an_InvalidDataException()
    {
        foreach (var exception in new Exception[] { new FormatException("so"), new ArgumentOutOfRangeException(), new OverflowException() })
        {
            ShouldRefuse(new Part { Failure = exception }, Saved(new Part()), "*Maß1*damaged*");
        }

        var broken = new Part { Failure = new InvalidOperationException() };
        broken.Invoking(p => p.LoadState(Reader(Saved(new Part())))).Should().Throw<InvalidOperationException>("that is the part's mistake");
    }

    [Test]
    public void A_part_of_a_part_that_is_refused_leaves_the_others_as_they_were()
    {
        var outer = new Outer { First = { Value = 1 }, Second = { Value = 2 } };
        var state = Saved(new Outer { First = { Value = 3 }, Second = { Kind = "Other" } });
        ShouldRefuse(outer, state, "*Other*Maß1*");
        (outer.First.Value, outer.Second.Value).Should().Be((1, 2));
    }

    [TestCase("")]
    [TestCase("a\nb")]
    public void A_kind_that_no_message_could_quote_is_refused_when_saving(string kind) =>
        FluentActions.Invoking(() => Saved(new Part { Kind = kind })).Should().Throw<InvalidOperationException>();

    [Test]
    public void A_kind_that_is_too_long_or_a_version_below_1_is_refused_when_saving()
    {
        FluentActions.Invoking(() => Saved(new Part { Kind = new string('a', SavedState.MaxKindBytes + 1) })).Should().Throw<InvalidOperationException>();
        FluentActions.Invoking(() => Saved(new Part { Version = 0 })).Should().Throw<InvalidOperationException>();
        Saved(new Part { Kind = new string('a', SavedState.MaxKindBytes) }).Should().HaveCountGreaterThan(SavedState.MaxKindBytes);
    }

    [Test]
    public void Parts_that_keep_nothing_are_told_apart() =>
        ShouldRefuse(new SignCompressor(), Saved(new NoCompressor()), "*NoCompressor*SignCompressor*");

    [Test]
    public void An_evaluators_kind_says_its_options()
    {
        IStateful evaluator = new ClassificationEvaluator(new() { IgnoreIndex = null, WindowSize = 5, FadingFactor = 0.5, TopK = 2, ConfusionMatrixClasses = 0 });
        evaluator.StateKind.Should().Be("ClassificationEvaluator, top 2, confusion matrix of up to 0 classes, window 5, fading factor 0.5");
    }

    private static byte[] Saved(IStateful part)
    {
        using var stream = new MemoryStream();
        part.SaveState(new BinaryWriter(stream));
        return stream.ToArray();
    }

    private static BinaryReader Reader(byte[] state) => new(new MemoryStream(state));

    private static void ShouldRefuse(IStateful part, byte[] state, string message)
    {
        var before = Saved(part);
        part.Invoking(p => p.LoadState(Reader(state))).Should().Throw<InvalidDataException>().WithMessage(message);
        Saved(part).Should().Equal(before);
    }

    private sealed class Part : IStateful
    {
        public string Kind { get; set; } = "Maß1";

        public int Version { get; init; } = 1;

        public long Value { get; set; }

        public int ReadVersion { get; private set; }

        public Exception? Failure { get; init; }

        string IStateful.StateKind => Kind;

        int IStateful.StateVersion => Version;

        void IStateful.WriteState(BinaryWriter writer) => writer.Write(Value);

        Action IStateful.ReadState(BinaryReader reader, int version)
        {
            var value = reader.ReadInt64();
            if (Failure is not null) throw Failure;
            return () => (Value, ReadVersion) = (value, version);
        }
    }

    private sealed class Outer : IStateful
    {
        public Part First { get; } = new();

        public Part Second { get; } = new();

        string IStateful.StateKind => nameof(Outer);

        void IStateful.WriteState(BinaryWriter writer)
        {
            First.SaveState(writer);
            Second.SaveState(writer);
        }

        Action IStateful.ReadState(BinaryReader reader, int version)
        {
            var (first, second) = (First.ReadState(reader), Second.ReadState(reader));
            return () =>
            {
                first();
                second();
            };
        }
    }

    /// <summary>A stream that can be read, but not sought, as a network's is.</summary>
    private sealed class Unseekable(Stream inner) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
