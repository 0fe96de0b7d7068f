using System.Runtime.InteropServices;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>The code of the values of tensors of one dtype; and how an update's values are cut into groups that have a model each.</summary>
internal abstract class ValueCode
{
    /// <summary>More than dtype and kind can make.</summary>
    private const int MostGroups = 64;

    /// <summary>Models to use again, so that a message takes no new memory: a thread codes one message at a time.</summary>
    [ThreadStatic]
    private static ChangeDistribution[]? models;

    private static readonly ValueCode Float32 = new FloatCode<Float32Format>();
    private static readonly ValueCode Float64 = new FloatCode<Float64Format>();
    private static readonly ValueCode BFloat16 = new FloatCode<BFloat16Format>();
    private static readonly ValueCode Float16 = new FloatCode<Float16Format>();
    private static readonly ValueCode BFloat16InFloat32 = new FloatCode<BFloat16InFloat32Format>();
    private static readonly ValueCode Float16InFloat32 = new FloatCode<Float16InFloat32Format>();
    private static readonly IntegerCode Integer8 = new(1);
    private static readonly IntegerCode Integer16 = new(2);
    private static readonly IntegerCode Integer32 = new(4);
    private static readonly IntegerCode Integer64 = new(8);

    /// <summary>Fits a model to the changes of a group and writes it.</summary>
    /// <param name="model">The model.</param>
    /// <param name="runs">The update, at the first run of the group.</param>
    /// <param name="group">The group.</param>
    /// <param name="writer">Where it is written.</param>
    public abstract void WriteModel(ChangeDistribution model, ModelUpdate.Sections runs, ChangeGroup group, ref BitWriter writer);

    /// <summary>Reads a model.</summary>
    public abstract void ReadModel(ChangeDistribution model, ref BitReader reader);

    /// <summary>Writes values.</summary>
    /// <param name="model">The group's model.</param>
    /// <param name="old">The old values, packed; empty where they count as 0.</param>
    /// <param name="values">The new ones, packed.</param>
    /// <param name="output">Where they are written.</param>
    public abstract void Encode(ChangeDistribution model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, ref BitWriter output);

    /// <summary>Reads values.</summary>
    /// <param name="model">The group's model.</param>
    /// <param name="old">The old values, packed; empty where they count as 0.</param>
    /// <param name="values">Receives the new ones, packed.</param>
    /// <param name="input">Where they are.</param>
    /// <exception cref="WireFormatException">They are not such values.</exception>
    public abstract void Decode(ChangeDistribution model, ReadOnlySpan<byte> old, Span<byte> values, ref BitReader input);

    /// <summary>Writes an update's values.</summary>
    /// <param name="update">The update.</param>
    /// <param name="isRelative">Whether they are written as changes of the values before.</param>
    /// <param name="precision">The precision in which all new values of float32 parameters can be written.</param>
    /// <param name="writer">Where they are written.</param>
    public static void Encode(ModelUpdate update, bool isRelative, DeployedValuePrecision precision, ref BitWriter writer)
    {
        var seen = 0ul;
        var runs = update.GetRuns();
        while (runs.MoveNext())
        {
            var code = Of(runs.Entry, precision);
            var model = ModelOf(runs.Entry, ref seen, out var isNew);
            var group = new ChangeGroup(runs.Entry, isRelative);
            if (isNew) code.WriteModel(model, runs, group, ref writer);
            code.Encode(model, group.Old(runs), runs.Values, ref writer);
        }
    }

    /// <summary>Reads the values of some coordinates of a run of tensors, or of all.</summary>
    /// <param name="run">The run.</param>
    /// <param name="precision">The precision in which all new values of float32 parameters are written.</param>
    /// <param name="old">The old values, packed; empty where they count as 0.</param>
    /// <param name="values">Receives the new ones, packed.</param>
    /// <param name="seen">The groups that have occurred in the message. 0 at first.</param>
    /// <param name="reader">Where they are.</param>
    /// <exception cref="WireFormatException">They are not such values.</exception>
    public static void Decode(LayoutEntry run, DeployedValuePrecision precision, ReadOnlySpan<byte> old, Span<byte> values, ref ulong seen, ref BitReader reader)
    {
        var code = Of(run, precision);
        var model = ModelOf(run, ref seen, out var isNew);
        if (isNew) code.ReadModel(model, ref reader);
        code.Decode(model, old, values, ref reader);
    }

    /// <summary>The shortest format that holds all new values of float32 parameters.</summary>
    public static DeployedValuePrecision PrecisionOf(ModelUpdate update)
    {
        if (!HasRounded(update)) return DeployedValuePrecision.Float32;
        return AllAre<BFloat16InFloat32Format>(update) ? DeployedValuePrecision.BFloat16
            : AllAre<Float16InFloat32Format>(update) ? DeployedValuePrecision.Float16
            : DeployedValuePrecision.Float32;
    }

    private static bool HasRounded(ModelUpdate update)
    {
        var runs = update.GetRuns();
        while (runs.MoveNext())
        {
            if (IsRounded(runs.Entry)) return true;
        }

        return false;
    }

    private static bool AllAre<TFormat>(ModelUpdate update)
        where TFormat : struct, IRoundedFormat
    {
        var runs = update.GetRuns();
        while (runs.MoveNext())
        {
            if (!IsRounded(runs.Entry)) continue;
            foreach (var value in MemoryMarshal.Cast<byte, uint>(runs.Values))
            {
                if (!TFormat.Has(value)) return false;
            }
        }

        return true;
    }

    private static bool IsRounded(LayoutEntry run) => run is { Kind: CoordinateKind.Parameter, DType: DType.Float32 };

    private static ValueCode Of(LayoutEntry run, DeployedValuePrecision precision) => (run.DType, run.ElementSize) switch
    {
        (DType.Float32, _) => !IsRounded(run) ? Float32 : precision switch
        {
            DeployedValuePrecision.BFloat16 => BFloat16InFloat32,
            DeployedValuePrecision.Float16 => Float16InFloat32,
            _ => Float32,
        },
        (DType.Float64, _) => Float64,
        (DType.BFloat16, _) => BFloat16,
        (DType.Float16, _) => Float16,
        (_, 1) => Integer8,
        (_, 2) => Integer16,
        (_, 4) => Integer32,
        _ => Integer64,
    };

    private static ChangeDistribution ModelOf(LayoutEntry run, ref ulong seen, out bool isNew)
    {
        var group = (2 * (int)run.DType) + (int)run.Kind;
        isNew = (seen & (1ul << group)) == 0;
        seen |= 1ul << group;
        models ??= new ChangeDistribution[MostGroups];
        return models[group] ??= new ChangeDistribution();
    }
}
