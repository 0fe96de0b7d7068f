using ContinuousDL.Memory;
using ContinuousDL.Replication.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>
/// What two handles have in common exactly if they are handles of one tensor: where its elements are and how they are laid out.
/// </summary>
/// <remarks>
/// TorchSharp's own handles don't tell: modules such as <c>nn.Embedding</c> give a new one whenever they are asked for a parameter.
/// Valid as long as the tensor keeps its memory.
/// </remarks>
/// <param name="Device">The device's type.</param>
/// <param name="DeviceIndex">The device's number.</param>
/// <param name="Address">The address of the first element; the handle itself where there are no elements.</param>
/// <param name="DType">The dtype.</param>
/// <param name="Layout">Shape and strides.</param>
internal readonly record struct TensorIdentity(DeviceType Device, int DeviceIndex, nint Address, ScalarType DType, string Layout)
{
    /// <summary>The identity of a tensor, which stays the caller's.</summary>
    public static unsafe TensorIdentity Of(Tensor tensor)
    {
        var address = tensor.numel() == 0 ? null : TensorMemory.AddressOf(tensor);
        return new TensorIdentity(
            tensor.device_type,
            tensor.device_index,
            address == null ? tensor.Handle : (nint)address,
            tensor.dtype,
            $"{string.Join(',', tensor.shape)} {string.Join(',', tensor.stride())}");
    }
}
