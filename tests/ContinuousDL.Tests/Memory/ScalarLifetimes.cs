using Mono.Cecil;
using Mono.Cecil.Cil;
using TorchSharp;

namespace ContinuousDL.Tests.Memory;

/// <summary>
/// Finds the scalars of TorchSharp that nothing keeps, in compiled code: a <see cref="Scalar"/> that is neither disposed by the
/// method that makes it nor held for ever can be finalized while native code still reads it.
/// </summary>
/// <remarks>
/// A scalar is kept when it goes from the call that gives it straight into a local variable that the method disposes, into a
/// static readonly field, or to the caller, who is then looked at in turn. Compiled code has every implicit conversion in it,
/// whatever the source looks like.
/// </remarks>
internal sealed class ScalarLifetimes : IDisposable
{
    private readonly DefaultAssemblyResolver resolver = new();
    private readonly AssemblyDefinition torchSharp;
    private readonly HashSet<MethodDefinition> unsafeMethods = [];

    public ScalarLifetimes()
    {
        resolver.AddSearchDirectory(AppContext.BaseDirectory);
        torchSharp = resolver.Resolve(AssemblyNameReference.Parse(typeof(torch).Assembly.FullName));
        var methods = MethodsOf(torchSharp).ToList();
        unsafeMethods.UnionWith(methods.Where(m => LostScalars(m).Any()));
        while (methods.Where(m => !unsafeMethods.Contains(m) && UnsafeCalls(m).Any()).ToList() is { Count: > 0 } callers)
        {
            unsafeMethods.UnionWith(callers);
        }
    }

    /// <summary>TorchSharp itself.</summary>
    public AssemblyDefinition TorchSharp => torchSharp;

    /// <summary>The methods of TorchSharp that lose a scalar themselves, or by way of another.</summary>
    public IReadOnlyCollection<MethodDefinition> UnsafeMethods => unsafeMethods;

    /// <summary>Reads an assembly. It lives as long as this does.</summary>
    public AssemblyDefinition Read(string path) =>
        AssemblyDefinition.ReadAssembly(path, new ReaderParameters { AssemblyResolver = resolver, InMemory = true });

    /// <summary>What is wrong in each method of an assembly, a sentence for each.</summary>
    public IEnumerable<string> FindIn(AssemblyDefinition assembly) => MethodsOf(assembly).SelectMany(FindIn);

    /// <summary>What is wrong in a method, a sentence for each.</summary>
    public IEnumerable<string> FindIn(MethodDefinition method) =>
        LostScalars(method).Select(m => $"{method.FullName} does not keep the scalar of {m.Name}.")
            .Concat(UnsafeCalls(method).Select(m => $"{method.FullName} calls {m.FullName}, which does not keep a scalar."))
            .Concat(CallsOf(method).Where(IsTensorConversion).Select(m => $"{method.FullName} calls {m.FullName}: nothing owns the tensor."));

    /// <summary>Whether a method is an implicit conversion of a number or an array to a tensor.</summary>
    public static bool IsTensorConversion(MethodReference method) =>
        method.Name == "op_Implicit" && method.ReturnType.FullName == "TorchSharp.torch/Tensor";

    public static IEnumerable<MethodDefinition> MethodsOf(AssemblyDefinition assembly) =>
        assembly.MainModule.GetTypes().SelectMany(t => t.Methods).Where(m => m.HasBody);

    public void Dispose()
    {
        torchSharp.Dispose();
        resolver.Dispose();
    }

    private static IEnumerable<MethodReference> CallsOf(MethodDefinition method) =>
        method.Body.Instructions.Select(i => i.Operand).OfType<MethodReference>();

    private IEnumerable<MethodDefinition> UnsafeCalls(MethodDefinition method) =>
        CallsOf(method).Where(IsTorchSharp).Select(m => m.Resolve()).OfType<MethodDefinition>().Where(unsafeMethods.Contains);

    private static bool IsTorchSharp(MethodReference method) => method.DeclaringType.Scope
        is AssemblyNameReference { Name: "TorchSharp" } or ModuleDefinition { Assembly.Name.Name: "TorchSharp" };

    private static IEnumerable<MethodReference> LostScalars(MethodDefinition method) =>
        from i in method.Body.Instructions
        let made = i.Operand as MethodReference
        where made is not null && Gives(made, i.OpCode.Code) && !IsKept(i.Next, method)
        select made;

    private static bool Gives(MethodReference method, Code code) => code == Code.Newobj
        ? IsScalar(method.DeclaringType)
        : code is Code.Call or Code.Callvirt && IsScalar(method.ReturnType);

    private static bool IsScalar(TypeReference type) => type.FullName == "TorchSharp.Scalar";

    private static bool IsKept(Instruction use, MethodDefinition method)
    {
        if (use.OpCode.Code == Code.Ret) return true;
        if (use.OpCode.Code == Code.Stsfld) return ((FieldReference)use.Operand).Resolve().IsInitOnly;
        return LocalOf(use, method, store: true) is { } local
            && method.Body.Instructions.Any(i => LocalOf(i, method, store: false) == local && IsDispose(i.Next));
    }

    private static bool IsDispose(Instruction instruction) => instruction.Operand is MethodReference { Name: nameof(IDisposable.Dispose) };

    private static VariableDefinition? LocalOf(Instruction instruction, MethodDefinition method, bool store) => (instruction.OpCode.Code, store) switch
    {
        (Code.Stloc or Code.Stloc_S, true) or (Code.Ldloc or Code.Ldloc_S, false) => (VariableDefinition)instruction.Operand,
        (Code.Stloc_0, true) or (Code.Ldloc_0, false) => method.Body.Variables[0],
        (Code.Stloc_1, true) or (Code.Ldloc_1, false) => method.Body.Variables[1],
        (Code.Stloc_2, true) or (Code.Ldloc_2, false) => method.Body.Variables[2],
        (Code.Stloc_3, true) or (Code.Ldloc_3, false) => method.Body.Variables[3],
        _ => null,
    };
}
