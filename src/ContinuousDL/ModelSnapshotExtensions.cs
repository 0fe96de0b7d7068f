using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL;

/// <summary>Snapshots of TorchSharp modules.</summary>
public static class ModelSnapshotExtensions
{
    extension(ModelSnapshot)
    {
        /// <summary>Takes a snapshot of a module as it is, at sequence 0 of no run in particular: a replica that starts from it follows the first run that it is sent an update of.</summary>
        /// <param name="module">The module. It stays the caller's.</param>
        public static ModelSnapshot Of(nn.Module module) => ModelSnapshot.Of(ModelTensors.Of(module));

        /// <summary>Reads a safetensors file for a module, as <see cref="ModelSnapshot.Load(string, TensorNames)"/>.</summary>
        /// <param name="path">The file.</param>
        /// <param name="module">A module of the architecture. It stays the caller's, and as it is.</param>
        /// <exception cref="SnapshotFormatException">The file is not valid.</exception>
        /// <exception cref="ModelMismatchException">Its tensors are not the module's; the message names the first difference.</exception>
        /// <exception cref="IOException">The file can't be read.</exception>
        public static ModelSnapshot Load(string path, nn.Module module) => ModelSnapshot.Load(path, ModuleReader.NamesOf(module));

        /// <summary>Reads a safetensors file for a module, as <see cref="ModelSnapshot.Load(Stream, TensorNames)"/>.</summary>
        /// <param name="stream">Where it begins, up to the end of the stream. It stays the caller's.</param>
        /// <param name="module">A module of the architecture. It stays the caller's, and as it is.</param>
        /// <exception cref="SnapshotFormatException">The file is not valid.</exception>
        /// <exception cref="ModelMismatchException">Its tensors are not the module's; the message names the first difference.</exception>
        public static ModelSnapshot Load(Stream stream, nn.Module module) => ModelSnapshot.Load(stream, ModuleReader.NamesOf(module));
    }

    extension(ModelSnapshot snapshot)
    {
        /// <summary>Makes a module's state the snapshot's.</summary>
        /// <param name="module">A module of the same architecture. It stays the caller's.</param>
        /// <exception cref="ModelMismatchException">Its architecture is another; the message names the first difference.</exception>
        public void CopyTo(nn.Module module) => snapshot.CopyTo(ModelTensors.Of(module));
    }
}
