// An MSBuild task, compiled at build time by RoslynCodeTaskFactory (see ContinuousDL.targets).
// It copies a 64-bit little-endian ELF library and marks one needed symbol version as weak in the copy, so that the
// dynamic loader no longer refuses the library where that version is missing. Nothing else in the file changes.
// Visual Studio compiles it for .NET Framework: the code keeps to .NET Standard 2.0 and C# 7.3.

using System;
using System.IO;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

public class WeakenSymbolVersion : Task
{
    // The names and layouts of System V ABI, chapters 4 and 5, and of the Linux Standard Base, "Symbol Versioning".
    private const uint ElfMagic = 0x464c457f;
    private const byte ELFCLASS64 = 2;
    private const byte ELFDATA2LSB = 1;
    private const int FileHeaderSize = 64;
    private const int SectionHeaderSize = 64;
    private const int SymbolSize = 24;
    private const uint SHT_GNU_verneed = 0x6ffffffe;
    private const uint SHT_GNU_versym = 0x6fffffff;
    private const ushort VER_FLG_WEAK = 0x2;
    private const int VersionIndexMask = 0x7fff; // The bit above it says that a symbol is hidden.

    [Required]
    public ITaskItem Source { get; set; }

    [Required]
    public ITaskItem Destination { get; set; }

    /// <summary>The version to mark, for example GLIBCXX_3.4.32.</summary>
    [Required]
    public string SymbolVersion { get; set; }

    /// <summary>
    /// The one symbol that may want the version. Where another one wants it too, the library does need the version,
    /// and the copy is left as the source is: the loader's refusal says more than a crash at the first call would.
    /// </summary>
    [Required]
    public string OnlySymbol { get; set; }

    public override bool Execute()
    {
        var source = Source.GetMetadata("FullPath");
        var destination = Destination.GetMetadata("FullPath");
        try
        {
            var file = File.ReadAllBytes(source);
            var marked = MarkWeak(file);
            var message = marked ? "{0}: {1} is weak in {3}." : "{0}: not {2} alone needs {1}; {3} is a plain copy.";
            Log.LogMessage(MessageImportance.Low, message, source, SymbolVersion, OnlySymbol, destination);
            Write(source, file, destination);
            return true;
        }
        catch (Exception e) when (e is IOException || e is UnauthorizedAccessException || e is OverflowException)
        {
            Log.LogError(
                "Cannot write a copy of {0} that loads without {1}: {2} Set ContinuousDLFixTorchSharpForOlderLinux to false to skip this.",
                source, SymbolVersion, e.Message);
            return false;
        }
    }

    private static void Write(string source, byte[] file, string destination)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(destination));

        // Written beside the destination and moved, so that a build that is interrupted leaves no half a library.
        var temporary = destination + "." + Guid.NewGuid().ToString("N") + ".tmp";
        try
        {
            // File.Copy takes the source's access rights along; a package cache may be read-only.
            File.Copy(source, temporary);
            File.SetAttributes(temporary, FileAttributes.Normal);
            File.WriteAllBytes(temporary, file);

            // A new file under the old name: what hard-links to the old one, such as a running program's folder, keeps it.
            File.Delete(destination);
            File.Move(temporary, destination);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    private bool MarkWeak(byte[] file)
    {
        if (file.Length < FileHeaderSize || ReadUInt32(file, 0) != ElfMagic || file[4] != ELFCLASS64 || file[5] != ELFDATA2LSB)
        {
            throw new IOException("It is no 64-bit little-endian ELF file.");
        }

        var needs = FindSection(file, SHT_GNU_verneed);
        if (needs < 0) return false;

        var strings = LinkedSectionOffset(file, needs);
        var need = SectionOffset(file, needs);
        for (var needsLeft = ReadUInt32(file, needs + 0x2c); needsLeft > 0; needsLeft--)
        {
            var entry = checked(need + (int)ReadUInt32(file, need + 8));
            for (var entriesLeft = ReadUInt16(file, need + 2); entriesLeft > 0; entriesLeft--)
            {
                if (ReadString(file, checked(strings + (int)ReadUInt32(file, entry + 8))) == SymbolVersion)
                {
                    if (!IsWantedByOnlySymbol(file, ReadUInt16(file, entry + 6) & VersionIndexMask)) return false;
                    file[entry + 4] |= (byte)VER_FLG_WEAK;
                    return true;
                }

                entry = checked(entry + (int)ReadUInt32(file, entry + 12));
            }

            need = checked(need + (int)ReadUInt32(file, need + 12));
        }

        return false;
    }

    private bool IsWantedByOnlySymbol(byte[] file, int version)
    {
        var versions = FindSection(file, SHT_GNU_versym);
        if (versions < 0) return false;

        var symbols = LinkedSection(file, versions);
        var symbolOffset = SectionOffset(file, symbols);
        var strings = LinkedSectionOffset(file, symbols);
        var versionOffset = SectionOffset(file, versions);
        var count = checked((int)ReadUInt64(file, versions + 0x20)) / sizeof(ushort);
        for (var i = 0; i < count; i++)
        {
            var wanted = ReadUInt16(file, checked(versionOffset + i * sizeof(ushort)));
            if ((wanted & VersionIndexMask) != version) continue;
            var name = ReadUInt32(file, checked(symbolOffset + i * SymbolSize));
            if (ReadString(file, checked(strings + (int)name)) != OnlySymbol) return false;
        }

        return true;
    }

    /// <summary>The offset of the header of the first section of a type, or -1.</summary>
    private static int FindSection(byte[] file, uint type)
    {
        var count = ReadUInt16(file, 0x3c);
        for (var i = 0; i < count; i++)
        {
            var header = SectionHeader(file, (uint)i);
            if (ReadUInt32(file, header + 4) == type) return header;
        }

        return -1;
    }

    private static int SectionHeader(byte[] file, uint section)
    {
        return checked((int)ReadUInt64(file, 0x28) + (int)section * SectionHeaderSize);
    }

    private static int SectionOffset(byte[] file, int header)
    {
        return checked((int)ReadUInt64(file, header + 0x18));
    }

    private static int LinkedSection(byte[] file, int header)
    {
        return SectionHeader(file, ReadUInt32(file, header + 0x28));
    }

    private static int LinkedSectionOffset(byte[] file, int header)
    {
        return SectionOffset(file, LinkedSection(file, header));
    }

    private static string ReadString(byte[] file, int offset)
    {
        var end = Array.IndexOf(file, (byte)0, Check(file, offset, 1));
        if (end < 0) throw new IOException("Its strings do not end.");
        return Encoding.ASCII.GetString(file, offset, end - offset);
    }

    private static ushort ReadUInt16(byte[] file, int offset)
    {
        return BitConverter.ToUInt16(file, Check(file, offset, sizeof(ushort)));
    }

    private static uint ReadUInt32(byte[] file, int offset)
    {
        return BitConverter.ToUInt32(file, Check(file, offset, sizeof(uint)));
    }

    private static ulong ReadUInt64(byte[] file, int offset)
    {
        return BitConverter.ToUInt64(file, Check(file, offset, sizeof(ulong)));
    }

    private static int Check(byte[] file, int offset, int length)
    {
        if (offset < 0 || offset > file.Length - length) throw new IOException("Its headers point beyond its end.");
        return offset;
    }
}
