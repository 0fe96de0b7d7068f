using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using static TorchSharp.torch;

namespace ContinuousDL;

/// <summary>Layouts of TorchSharp modules.</summary>
public static class ModelLayoutExtensions
{
    extension(ModelLayout)
    {
        /// <summary>Reads the layout of a module: all its parameters, then its persistent buffers, in the order in which it lists them.</summary>
        /// <param name="module">The module. Its tensors stay its own.</param>
        /// <remarks>A parameter that several layers share is listed once, under its first name.</remarks>
        /// <exception cref="NotSupportedException">It has more than <see cref="int.MaxValue"/> coordinates, or a dtype with elements of more than 8 bytes.</exception>
        public static ModelLayout Of(nn.Module module) => ModuleReader.Read(module).Layout;
    }
}
