// An MSBuild task, compiled at build time by RoslynCodeTaskFactory (see ContinuousDL.targets).
// It copies a 64-bit little-endian ELF library and marks one needed symbol version as weak in the copy, so that the
// dynamic loader no longer refuses the library where that version is missing. Nothing else in the file changes.

using System;
using System.IO;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

public class WeakenSymbolVersion : Task
{
    private const int SectionHeaderSize = 64;
    private const uint SectionTypeVersionNeeds = 0x6ffffffe; // SHT_GNU_verneed
    private const ushort WeakFlag = 0x2; // VER_FLG_WEAK

    [Required]
    public ITaskItem Source { get; set; }

    [Required]
    public ITaskItem Destination { get; set; }

    /// <summary>The version to mark, for example GLIBCXX_3.4.32.</summary>
    [Required]
    public string SymbolVersion { get; set; }

    public override bool Execute()
    {
        var source = Source.GetMetadata("FullPath");
        var destination = Destination.GetMetadata("FullPath");
        try
        {
            var file = File.ReadAllBytes(source);
            if (!MarkWeak(file))
            {
                Log.LogMessage(MessageImportance.Low, "{0} does not need {1}; it is copied as it is.", source, SymbolVersion);
            }

            // Written beside the destination and moved, so that a build that is interrupted leaves no half a library.
            Directory.CreateDirectory(Path.GetDirectoryName(destination));
            var temporary = destination + "." + Guid.NewGuid().ToString("N") + ".tmp";
            File.WriteAllBytes(temporary, file);
            if (File.Exists(destination)) File.Delete(destination);
            File.Move(temporary, destination);
            return true;
        }
        catch (Exception e) when (e is IOException || e is UnauthorizedAccessException || e is InvalidDataException)
        {
            Log.LogError("Cannot write a copy of {0} that loads without {1}: {2} Set ContinuousDLFixTorchSharpForOlderLinux to false to skip this.",
                source, SymbolVersion, e.Message);
            return false;
        }
    }

    private bool MarkWeak(byte[] file)
    {
        if (file.Length < 64 || file[0] != 0x7f || file[1] != 'E' || file[2] != 'L' || file[3] != 'F' || file[4] != 2 || file[5] != 1)
        {
            throw new InvalidDataException("It is not a 64-bit little-endian ELF file.");
        }

        var sections = checked((int)ReadUInt64(file, 0x28));
        int count = ReadUInt16(file, 0x3c);
        var found = false;
        for (var i = 0; i < count; i++)
        {
            var header = sections + i * SectionHeaderSize;
            if (ReadUInt32(file, header + 4) != SectionTypeVersionNeeds) continue;

            var need = checked((int)ReadUInt64(file, header + 0x18));
            var strings = StringTable(file, sections, ReadUInt32(file, header + 0x28));
            for (var last = false; !last;)
            {
                var entry = checked(need + (int)ReadUInt32(file, need + 8));
                for (var j = ReadUInt16(file, need + 2); j > 0; j--)
                {
                    if (ReadString(file, checked(strings + (int)ReadUInt32(file, entry + 8))) == SymbolVersion)
                    {
                        file[entry + 4] |= (byte)WeakFlag;
                        found = true;
                    }

                    entry = checked(entry + (int)ReadUInt32(file, entry + 12));
                }

                var next = (int)ReadUInt32(file, need + 12);
                last = next == 0;
                need = checked(need + next);
            }
        }

        return found;
    }

    private static int StringTable(byte[] file, int sections, uint section)
    {
        return checked((int)ReadUInt64(file, sections + (int)section * SectionHeaderSize + 0x18));
    }

    private static string ReadString(byte[] file, int offset)
    {
        var end = Array.IndexOf(file, (byte)0, Check(file, offset, 1));
        if (end < 0) throw new InvalidDataException("Its version strings do not end.");
        return Encoding.ASCII.GetString(file, offset, end - offset);
    }

    private static ushort ReadUInt16(byte[] file, int offset)
    {
        return BitConverter.ToUInt16(file, Check(file, offset, 2));
    }

    private static uint ReadUInt32(byte[] file, int offset)
    {
        return BitConverter.ToUInt32(file, Check(file, offset, 4));
    }

    private static ulong ReadUInt64(byte[] file, int offset)
    {
        return BitConverter.ToUInt64(file, Check(file, offset, 8));
    }

    private static int Check(byte[] file, int offset, int length)
    {
        if (offset < 0 || offset > file.Length - length) throw new InvalidDataException("Its section headers point outside the file.");
        return offset;
    }
}
