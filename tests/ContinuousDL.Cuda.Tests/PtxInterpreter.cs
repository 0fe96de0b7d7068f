using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace ContinuousDL.Cuda.Tests;

/// <summary>
/// Runs a kernel's PTX on main memory, as far as ILGPU uses PTX for the kernels: what is emitted, and not the C# that it comes from,
/// is what a device would run.
/// </summary>
/// <remarks>
/// Strict where a device might not be: every access must be inside one of the arguments' views and aligned, every thread of a group
/// must come to the same barrier, and registers hold a pattern before they are written. Groups run one after the other, the
/// threads between two barriers likewise, both in random order.
/// </remarks>
internal sealed unsafe partial class PtxInterpreter
{
    private readonly List<Instruction> instructions = [];
    private readonly Dictionary<string, int> labels = [];
    private readonly Dictionary<string, int> registers = [];
    private readonly Dictionary<string, int> shared = [];
    private readonly Dictionary<string, (int Offset, int Size)> parameters = [];
    private readonly int sharedBytes;
    private readonly Random random = new(1);
    private byte[] arguments = [];
    private (ulong Start, ulong End)[] views = [];
    private byte[] memory = [];
    private int groups, groupSize, group;

    public PtxInterpreter(string ptx)
    {
        var header = Header().Match(ptx);
        foreach (Match parameter in Parameter().Matches(header.Groups[1].Value))
        {
            var isView = parameter.Groups["size"].Success;
            var size = isView ? int.Parse(parameter.Groups["size"].Value, CultureInfo.InvariantCulture) : 4;
            ParameterBytes = (ParameterBytes + (isView ? 7 : 3)) / (isView ? 8 : 4) * (isView ? 8 : 4);
            parameters.Add(parameter.Groups["name"].Value, (ParameterBytes, size));
            ParameterBytes += size;
        }

        foreach (var line in ptx[(header.Index + header.Length)..].Split('\n').Select(l => l.Trim()))
        {
            if (line.EndsWith(':')) labels.Add(line[..^1], instructions.Count);
            else if (Shared().Match(line) is { Success: true } allocation)
            {
                var align = int.Parse(allocation.Groups[1].Value, CultureInfo.InvariantCulture);
                sharedBytes = (sharedBytes + align - 1) / align * align;
                shared.Add(allocation.Groups[2].Value, sharedBytes);
                sharedBytes += int.Parse(allocation.Groups[3].Value, CultureInfo.InvariantCulture);
            }
            else if (Statement().Match(line) is { Success: true } statement)
            {
                var guard = statement.Groups["guard"].Value;
                instructions.Add(new Instruction(
                    guard.Length == 0 ? -1 : Register(guard.TrimStart('!')),
                    guard.StartsWith('!'),
                    statement.Groups["opcode"].Value,
                    statement.Groups["opcode"].Value.Split('.'),
                    [.. OperandText().Matches(statement.Groups["operands"].Value).Select(m => Parse(m.Value))]));
            }
        }
    }

    /// <summary>The bytes that the arguments take.</summary>
    public int ParameterBytes { get; }

    /// <summary>Where a parameter's argument belongs.</summary>
    public int OffsetOf(string parameter) => parameters["_" + parameter].Offset;

    /// <summary>Runs the kernel.</summary>
    /// <param name="groupCount">The number of groups.</param>
    /// <param name="threads">The number of threads of a group.</param>
    /// <param name="argumentBytes">The arguments, in an array that is pinned.</param>
    /// <param name="argumentViews">The memory that the arguments give access to.</param>
    public void Run(int groupCount, int threads, byte[] argumentBytes, (ulong Start, ulong End)[] argumentViews)
    {
        (groups, groupSize, arguments, views) = (groupCount, threads, argumentBytes, argumentViews);
        var order = Enumerable.Range(0, groups).ToArray();
        random.Shuffle(order);
        foreach (var next in order)
        {
            group = next;
            RunGroup();
        }
    }

    private void RunGroup()
    {
        memory = GC.AllocateArray<byte>(sharedBytes, pinned: true);
        random.NextBytes(memory);
        var threads = Enumerable.Range(0, groupSize).Select(t => new Thread(t, registers.Count)).ToArray();
        while (true)
        {
            random.Shuffle(threads);
            foreach (var thread in threads) RunToBarrier(thread);
            threads.Select(t => t.At).Distinct().Should().ContainSingle("all threads of a group come to the same barrier, or to the end");
            if (threads[0].At == instructions.Count) return;
        }
    }

    /// <summary>Leaves the thread after a barrier, or at the end.</summary>
    private void RunToBarrier(Thread thread)
    {
        while (thread.At < instructions.Count)
        {
            var instruction = instructions[thread.At++];
            if (instruction.Guard >= 0 && (thread.Registers[instruction.Guard] != 0) == instruction.Negated) continue;
            switch (instruction.Opcode)
            {
                case "bar.sync":
                    return;
                case "ret":
                    thread.At = instructions.Count;
                    return;
                case "bra" or "bra.uni":
                    thread.At = labels[instruction.Operands[0].Text];
                    break;
                default:
                    Execute(thread, instruction);
                    break;
            }
        }
    }

    private void Execute(Thread thread, Instruction instruction)
    {
        var parts = instruction.Parts;
        var operands = instruction.Operands;
        ulong A() => Value(thread, operands[1]);
        ulong B() => Value(thread, operands[2]);
        ulong C() => Value(thread, operands[3]);
        void Set(ulong value) => thread.Registers[operands[0].Slot] = value;
        switch (parts[0])
        {
            case "ld":
                var size = Size(parts[^1]);
                var count = parts.Contains("v4") ? 4 : parts.Contains("v2") ? 2 : 1;
                var source = Address(thread, operands[^1], parts, size * count);
                for (var i = 0; i < count; i++) thread.Registers[operands[i].Slot] = Load(source + (i * size), size);
                break;
            case "st":
                var width = Size(parts[^1]);
                var target = Address(thread, operands[0], parts, width * (operands.Length - 1));
                for (var i = 1; i < operands.Length; i++) Store(target + ((i - 1) * width), width, Value(thread, operands[i]));
                break;
            case "atom" or "red":
                var returns = parts[0] == "atom" ? 1 : 0;
                var wide = Size(parts[^1]);
                var place = Address(thread, operands[returns], parts, wide);
                var old = Load(place, wide);
                var operand = Value(thread, operands[returns + 1]);
                Store(place, wide, parts[1] switch { "add" => old + operand, "or" => old | operand, _ => throw Unknown(instruction) });
                if (returns == 1) Set(old);
                break;
            case "mov" or "cvta":
                Set(A());
                break;
            case "cvt":
                Set((parts[1], parts[2]) switch
                {
                    ("s64", "s32") => (ulong)(int)A(),
                    ("s32", "s64") => (uint)A(),
                    ("u64", "u32") => (uint)A(),
                    ("u64" or "u32" or "s32", "u16") or ("u16" or "s16", "u32" or "s32") => (ushort)A(),
                    ("u64", "u8") => (byte)A(),
                    ("u32", "u64") => (uint)A(),
                    ("u16", "u64") => (ushort)A(),
                    ("u8", "u64") => (byte)A(),
                    ("f64", "f32") => Double(Single(A())),
                    ("rn", "f32") => Float((float)BitConverter.UInt64BitsToDouble(A())),
                    _ => throw Unknown(instruction),
                });
                break;
            case "setp":
                Set(Compare(parts[1], parts[2], A(), B()) ? 1ul : 0);
                break;
            case "selp":
                Set(C() != 0 ? A() : B());
                break;
            case "popc":
                Set((ulong)BitOperations.PopCount((uint)A()));
                break;
            default:
                Set((instruction.Opcode, operands.Length) switch
                {
                    ("add.s32", 3) => (uint)((int)A() + (int)B()),
                    ("sub.s32", 3) => (uint)((int)A() - (int)B()),
                    ("mul.lo.s32", 3) => (uint)((int)A() * (int)B()),
                    ("div.s32", 3) => (uint)((int)A() / (int)B()),
                    ("rem.s32", 3) => (uint)((int)A() % (int)B()),
                    ("min.s32", 3) => (uint)Math.Min((int)A(), (int)B()),
                    ("max.s32", 3) => (uint)Math.Max((int)A(), (int)B()),
                    ("neg.s32", 2) => (uint)-(int)A(),
                    ("and.b32" or "and.b64", 3) => A() & B(),
                    ("or.b32" or "or.b64", 3) => A() | B(),
                    ("xor.b32" or "xor.b64", 3) => A() ^ B(),
                    ("not.pred", 2) => A() ^ 1,
                    ("shl.b32", 3) => B() > 31 ? 0 : (uint)A() << (int)B(),
                    ("shr.s32", 3) => (uint)((int)A() >> (int)Math.Min(B(), 31)),
                    ("shr.u32", 3) => B() > 31 ? 0 : (uint)A() >> (int)B(),
                    ("shr.u64", 3) => B() > 63 ? 0 : A() >> (int)B(),
                    ("add.s64" or "add.u64", 3) => A() + B(),
                    ("sub.s64", 3) => A() - B(),
                    ("mul.lo.s64", 3) => A() * B(),
                    ("mul.wide.u32", 3) => (ulong)(uint)A() * (uint)B(),
                    ("mad.lo.u64", 4) => (A() * B()) + C(),
                    ("add.rn.f64", 3) => Double(BitConverter.UInt64BitsToDouble(A()) + BitConverter.UInt64BitsToDouble(B())),
                    ("sub.rn.f64", 3) => Double(BitConverter.UInt64BitsToDouble(A()) - BitConverter.UInt64BitsToDouble(B())),
                    ("add.rn.f32", 3) => Float(Single(A()) + Single(B())),
                    ("sub.rn.f32", 3) => Float(Single(A()) - Single(B())),
                    ("mul.rn.f32", 3) => Float(Single(A()) * Single(B())),
                    _ => throw Unknown(instruction),
                });
                break;
        }
    }

    private static NotSupportedException Unknown(Instruction instruction) => new($"The interpreter does not know {instruction.Opcode} of {instruction.Operands.Length}.");

    private static float Single(ulong bits) => BitConverter.UInt32BitsToSingle((uint)bits);

    private static ulong Float(float value) => BitConverter.SingleToUInt32Bits(value);

    private static ulong Double(double value) => BitConverter.DoubleToUInt64Bits(value);

    private static int Size(string type) => int.Parse(type.AsSpan(1), CultureInfo.InvariantCulture) / 8;

    private static bool Compare(string relation, string type, ulong a, ulong b)
    {
        var order = type switch
        {
            "s32" => ((int)a).CompareTo((int)b),
            "u32" => ((uint)a).CompareTo((uint)b),
            "s64" => ((long)a).CompareTo((long)b),
            "f32" when relation is "eq" or "ne" => Single(a) == Single(b) ? 0 : 1,
            _ => throw new NotSupportedException($"setp of {type}"),
        };
        return relation switch
        {
            "eq" => order == 0,
            "ne" => order != 0,
            "lt" or "lo" => order < 0,
            "le" or "ls" => order <= 0,
            "gt" or "hi" => order > 0,
            "ge" or "hs" => order >= 0,
            _ => throw new NotSupportedException($"setp.{relation}"),
        };
    }

    private byte* Address(Thread thread, Operand operand, string[] opcode, int size)
    {
        operand.IsAddress.Should().BeTrue();
        if (opcode[1] == "param")
        {
            return First(arguments) + parameters[operand.Text].Offset + (int)operand.Immediate;
        }

        var address = thread.Registers[operand.Slot] + operand.Immediate;
        if (address % (uint)size != 0) throw new InvalidOperationException($"an access of {size} bytes at {address:x}, which is not aligned");
        if (opcode.Contains("shared"))
        {
            if (address + (uint)size > (uint)sharedBytes) throw new InvalidOperationException($"an access of shared memory at {address} of {sharedBytes}");
            return First(memory) + address;
        }

        foreach (var (start, end) in views)
        {
            if (address >= start && address + (uint)size <= end) return (byte*)address;
        }

        throw new InvalidOperationException($"an access of {size} bytes at {address:x}, outside of every view");
    }

    private static byte* First(byte[] pinned) => (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(pinned));

    private static ulong Load(byte* address, int size) => size switch { 1 => *address, 2 => *(ushort*)address, 4 => *(uint*)address, _ => *(ulong*)address };

    private static void Store(byte* address, int size, ulong value)
    {
        if (size == 1) *address = (byte)value;
        else if (size == 2) *(ushort*)address = (ushort)value;
        else if (size == 4) *(uint*)address = (uint)value;
        else *(ulong*)address = value;
    }

    private ulong Value(Thread thread, Operand operand)
    {
        if (operand.Slot >= 0) return thread.Registers[operand.Slot];
        return operand.Text switch
        {
            "%tid.x" => (ulong)thread.Index,
            "%ntid.x" => (ulong)groupSize,
            "%ctaid.x" => (ulong)group,
            "%nctaid.x" => (ulong)groups,
            "" => operand.Immediate,
            _ => throw new NotSupportedException(operand.Text),
        };
    }

    private int Register(string name)
    {
        if (!registers.TryGetValue(name, out var slot)) registers.Add(name, slot = registers.Count);
        return slot;
    }

    private Operand Parse(string text)
    {
        if (text.StartsWith('['))
        {
            var parts = text.Trim('[', ']').Split('+');
            var offset = parts.Length > 1 ? ulong.Parse(parts[1], CultureInfo.InvariantCulture) : 0;
            return parts[0].StartsWith('%') ? new Operand(Register(parts[0]), offset, "", true) : new Operand(-1, offset, parts[0], true);
        }

        if (text.Contains('.')) return new Operand(-1, 0, text, false);
        if (text.StartsWith('%')) return new Operand(Register(text), 0, "", false);
        if (shared.TryGetValue(text, out var start)) return new Operand(-1, (ulong)start, "", false);
        if (text.StartsWith("0f", StringComparison.OrdinalIgnoreCase)) return new Operand(-1, Convert.ToUInt32(text[2..], 16), "", false);
        return long.TryParse(text, CultureInfo.InvariantCulture, out var number) ? new Operand(-1, (ulong)number, "", false)
            : ulong.TryParse(text, CultureInfo.InvariantCulture, out var large) ? new Operand(-1, large, "", false)
            : new Operand(-1, 0, text, false);
    }

    [GeneratedRegex(@"\.visible \.entry \w+\(([^)]*)\)\s*\{")]
    private static partial Regex Header();

    [GeneratedRegex(@"\.param (?:\.align 8 \.b8 (?<name>\w+)\[(?<size>\d+)\]|\.[bf]32 (?<name>\w+))")]
    private static partial Regex Parameter();

    [GeneratedRegex(@"^\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];")]
    private static partial Regex Shared();

    [GeneratedRegex(@"^(?:@(?<guard>!?%p\d+) )?(?<opcode>[a-z][\w.]*)\s*(?<operands>[^;]*);$")]
    private static partial Regex Statement();

    [GeneratedRegex(@"\[[^\]]+\]|[%\w.\-]+")]
    private static partial Regex OperandText();

    private readonly record struct Operand(int Slot, ulong Immediate, string Text, bool IsAddress);

    private sealed record Instruction(int Guard, bool Negated, string Opcode, string[] Parts, Operand[] Operands);

    private sealed class Thread
    {
        public Thread(int index, int registerCount)
        {
            Index = index;
            Registers = new ulong[registerCount];
            Array.Fill(Registers, 0x5a5a5a5a5a5a5a5aul);
        }

        public int Index { get; }

        public int At { get; set; }

        public ulong[] Registers { get; }
    }
}
