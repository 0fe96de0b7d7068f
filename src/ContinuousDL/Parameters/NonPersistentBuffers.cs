using System.Runtime.CompilerServices;
using ContinuousDL.Memory;
using ContinuousDL.Replication.Models;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>The buffers of a module that are no part of its state.</summary>
internal static class NonPersistentBuffers
{
    /// <summary>Finds the non-persistent buffers of a module, each in coordinates of its own.</summary>
    /// <param name="module">The module. Its buffers stay its own, and it may replace them.</param>
    /// <param name="state">The module's state: a buffer that is another handle of one of these is left out.</param>
    public static unsafe IEnumerable<TensorSlot> Of(nn.Module module, IEnumerable<TensorSlot> state)
    {
        var addresses = state.Where(s => s.Tensor.device_type == DeviceType.CPU).Select(s => (nint)TensorMemory.AddressOf(s.Tensor)).ToHashSet();
        var slots = new List<TensorSlot>();
        foreach (var (path, owner) in module.named_modules().Prepend((name: string.Empty, module)))
        {
            foreach (var (name, (buffer, isPersistent)) in (IList<(string, (Tensor, bool))>)BuffersOf(owner))
            {
                if (isPersistent || buffer is null || buffer.IsInvalid || buffer.numel() is 0 or > int.MaxValue || !Scalars.IsKnown((DType)buffer.dtype)) continue;
                if (buffer.device_type == DeviceType.CPU && !addresses.Add((nint)TensorMemory.AddressOf(buffer))) continue;
                var fullName = path.Length == 0 ? name : $"{path}.{name}";
                slots.Add(TensorSlot.Of(ModelLayout.Of([new TensorDescription(fullName, CoordinateKind.Buffer, (DType)buffer.dtype, buffer.shape)]).Entries[0], buffer));
            }
        }

        return slots;
    }

    /// <remarks>TorchSharp's <c>named_buffers</c> leaves out what is not persistent, whatever it is asked for.</remarks>
    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_internal_buffers")]
    private static extern ref OrderedDict<string, (Tensor Buffer, bool IsPersistent)> BuffersOf(nn.Module module);
}
