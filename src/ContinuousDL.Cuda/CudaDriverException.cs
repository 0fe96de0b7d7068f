namespace ContinuousDL.Cuda;

/// <summary>A call of the CUDA driver failed. After some errors, such as an illegal address, the device's context is of no use any more, to torch either.</summary>
public sealed class CudaDriverException : Exception
{
    internal CudaDriverException(string function, int code, string name, string text, string? log = null)
        : base($"{function} failed with {name} ({code}): {text}." + (string.IsNullOrWhiteSpace(log) ? string.Empty : $" The driver's log: {log.Trim()}"))
    {
        (Function, Code, ErrorName) = (function, code, name);
    }

    /// <summary>The driver's function, such as <c>cuLaunchKernel</c>.</summary>
    public string Function { get; }

    /// <summary>The error, a <c>CUresult</c>.</summary>
    public int Code { get; }

    /// <summary>The error's name, such as <c>CUDA_ERROR_ILLEGAL_ADDRESS</c>.</summary>
    public string ErrorName { get; }
}
