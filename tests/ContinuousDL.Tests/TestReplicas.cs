using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using TorchSharp.Modules;

namespace ContinuousDL.Tests;

/// <summary>Replicas whose copies of the model a test can change behind their back.</summary>
internal static class TestReplicas
{
    /// <summary>Makes a replica.</summary>
    /// <param name="create">Makes the model.</param>
    /// <param name="snapshot">The state to start from.</param>
    /// <param name="tensorAccess">Works on modules on a device. Default: none.</param>
    /// <param name="copies">The two copies of the model that it works with. They stay the replica's.</param>
    public static ModelReplica<Sequential> Make(Func<Sequential> create, ModelSnapshot snapshot, out IReadOnlyList<Sequential> copies, ITensorAccessProvider? tensorAccess = null)
    {
        var made = new List<Sequential>();
        copies = made;
        return new ModelReplica<Sequential>(CreateAndNote, snapshot, tensorAccess);

        Sequential CreateAndNote()
        {
            made.Add(create());
            return made[^1];
        }
    }
}
