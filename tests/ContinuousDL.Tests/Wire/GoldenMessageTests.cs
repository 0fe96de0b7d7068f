using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Tests.Wire;

/// <summary>
/// The format does not change by accident: messages of earlier builds are read, and the same updates make the same bytes. Who
/// changes it on purpose makes a new version of it (docs/wire-format.md, Compatibility).
/// </summary>
public class GoldenMessageTests
{
    [TestCase("relative", "43550206445B06FC00112233445566778899AABBCCDDEEFF010109783944B477773AE08614F0BBA8DE75532FF982A31FF30178A00001F88BBC09918FC5463F1452BD390070CF69E6")]
    [TestCase("absolute", "43550200445B06FC96BF11E7AF020309783944B477773AE08614F0BBE8DCE80AA6581FF3184A8C607FCC05F7D400037781327381DCE703B35A858F94CFC541F9")]
    [TestCase("whole", "43550201445B06FC96BF11E7AD020114A787E8956AE082C9BBE8B37373BCEF3A02A99405532C0FF980154CA8353FA07FCC612A310154CA42FEC906A7F30EA4B81FF3177D6B31F7A0506EF0264E703B9CE0766B50B1F280531C87B0")]
    [TestCase("rounded", "4355020A445B06FC96BF11E7AD0201093AEBED4BBC1877658614F00BC400000FC07E03F05F800BC500000FC45DE04C8C7E2A31F8A295E9C8DDBF6026")]
    [TestCase("signed", "43550222445B06FC96BF11E7AD0201099010E03388C679D98614F0BBA8DE75532FF982A31FF30178A00001F88B3C9FC231FF000007E0DED3A29C80012600905D5EB7976E7B6E02F564E343ED8083663F8449A775D881C9FA9450440E6F136A")]
    public void Messages_are_what_they_have_always_been(string name, string expected)
    {
        using var model = new WireModel(
            (DType.Float32, CoordinateKind.Parameter, 12),
            (DType.BFloat16, CoordinateKind.Parameter, 4),
            (DType.Float32, CoordinateKind.Buffer, 3),
            (DType.Int64, CoordinateKind.Buffer, 1));
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
