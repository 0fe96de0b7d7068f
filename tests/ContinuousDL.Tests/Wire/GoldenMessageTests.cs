using ContinuousDL.Parameters;
using ContinuousDL.Wire;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>
/// The format does not change by accident: messages of earlier builds are read, and the same updates make the same bytes. Who
/// changes it on purpose makes a new version of it (docs/wire-format.md, Compatibility).
/// </summary>
public class GoldenMessageTests
{
    [TestCase("relative", "43550106445B06FC00112233445566778899AABBCCDDEEFF010109783944B477773AE08614F0C3A154CBBFE6185463CFF30178A00000FC4C3C094AF50631F8A217C1BD009361C337")]
    [TestCase("absolute", "43550100445B06FC96BF11E7AF020309783944B477773AE08614F0CBE10154CB703FE60F09518E207FCC05F7D40005878139C0ECCE703B435A858F941F3DF8A1")]
    [TestCase("whole", "43550101445B06FC96BF11E7AD020114A787E8956AE082C9BBE80154CB805532A81FF31C02A995906A7F740FF986C25463E0154CAE217F65E41A9FCE61D497E81FF3177D73EBD204D070F027381D99CE07686B50B1F280B97D48B5")]
    [TestCase("rounded", "4355010A445B06FC96BF11E7AD0201093AEBED4BBC1877658614F00BC4000007E03F01F82FC00BC5000007E261E04A57A8318FC510BE0DE8DAAF8EB6")]
    [TestCase("signed", "43550122445B06FC96BF11E7AD0201099010E03388C679D98614F0C3A154CBBFE6185463CFF30178A00000FC4BBC9FC2FF800002463F14452BD3C0FDAA2362E90BB56661AB03B3833C5A7CDAE1FAE5DC88520E72D5ED029B52BD5DB818DFE4")]
    public void Messages_are_what_they_have_always_been(string name, string expected)
    {
        using var model = new WireModel(
            (ScalarType.Float32, CoordinateKind.Parameter, 12),
            (ScalarType.BFloat16, CoordinateKind.Parameter, 4),
            (ScalarType.Float32, CoordinateKind.Buffer, 3),
            (ScalarType.Int64, CoordinateKind.Buffer, 1));
        var before = Values(0.25f, -1.5f, 1e-3f, 41);
        var after = Values(0.2513f, -1.49f, 0.0126f, 42);
        if (name == "rounded") Round(after);
        if (name == "signed") BitConverter.TryWriteBytes(after.AsSpan(56), 0x7fc00001);
        model.Load(before, sequence: name == "relative" ? 0 : 300);
        using var update = model.Update(after, name == "whole" ? null : [0, 5, 6, 11, 13, 16, 17, 18, 19], steps: name == "absolute" ? 3 : 1);
        using var signing = UpdateSigning.HmacSha256("golden key of the format's tests"u8);
        var codec = new UpdateCodec(new UpdateCodecOptions { Signing = name == "signed" ? signing : null });
        var message = codec.Encode(update);
        Convert.ToHexString(message).Should().Be(expected);

        using var decoded = codec.Decode(Convert.FromHexString(expected), model.State);
        decoded.Values.SequenceEqual(update.Values).Should().BeTrue();
        decoded.Coordinates.SequenceEqual(update.Coordinates).Should().BeTrue();
        PlainDecoder.Decode(message, model.Layout, before).Values.ToArray().AsSpan().SequenceEqual(update.Values).Should().BeTrue();
    }

    private static byte[] Values(float weight, float half, float statistic, long counter)
    {
        var result = new List<byte>();
        for (var i = 0; i < 12; i++) result.AddRange(BitConverter.GetBytes(weight * (1 - (2 * (i % 2))) * (1 + i)));
        for (var i = 0; i < 4; i++) result.AddRange(BitConverter.GetBytes((ushort)(BitConverter.SingleToUInt32Bits(half + i) >> 16)));
        for (var i = 0; i < 3; i++) result.AddRange(BitConverter.GetBytes(statistic * (1 + i)));
        result.AddRange(BitConverter.GetBytes(counter));
        return [.. result];
    }

    private static void Round(byte[] values)
    {
        for (var i = 0; i < 48; i += 4) values.AsSpan(i, 2).Clear();
    }
}
