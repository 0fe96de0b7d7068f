using System.Net;
using System.Web;
using ContinuousDL.Replication.Transport;

namespace ContinuousDL.Tests.Transport;

/// <summary>Answers requests as a test says, without a network.</summary>
internal sealed class StubHandler(Func<HttpRequestMessage, HttpResponseMessage> answer) : HttpMessageHandler
{
    /// <summary>The queries that were asked.</summary>
    public List<string> Queries { get; } = [];

    /// <summary>That there is nothing new, as the server says it.</summary>
    public static HttpResponseMessage Nothing(HttpRequestMessage request) => Named(request, new HttpResponseMessage(HttpStatusCode.NoContent));

    /// <summary>The answer with the name of the request.</summary>
    public static HttpResponseMessage Named(HttpRequestMessage request, HttpResponseMessage response)
    {
        response.Headers.Add(HttpUpdateHeaders.Request, HttpUtility.ParseQueryString(request.RequestUri!.Query)["request"]);
        return response;
    }

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        Queries.Add(request.RequestUri!.Query);
        return Task.FromResult(answer(request));
    }
}
