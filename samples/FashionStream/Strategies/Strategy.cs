namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>How the deployed model is kept fresh.</summary>
internal enum StrategyKind
{
    /// <summary>It is not.</summary>
    Static,

    /// <summary>Trained from scratch on everything whenever the data has grown by one initial history.</summary>
    Retrain,

    /// <summary>Trained on the new samples only.</summary>
    Online,

    /// <summary>Trained on new and historical samples, deployed whole at each step.</summary>
    Dense,

    /// <summary>Trained on new and historical samples, the optimizer's update compressed with error feedback.</summary>
    Update,

    /// <summary>Likewise, but with the gradient taken part of the way towards what is still owed: the library's default.</summary>
    Ahead,

    /// <summary>A dense model trains for itself; the coordinates that differ most from the replica are deployed.</summary>
    Difference,

    /// <summary>The gradient compressed with error feedback, then an optimizer that touches the selected coordinates only.</summary>
    Gradient,
}

/// <summary>What picks the coordinates of a sparse strategy.</summary>
internal enum CoordinateChoice
{
    /// <summary>Nothing: every coordinate is deployed.</summary>
    All,

    /// <summary>The largest by magnitude.</summary>
    TopK,

    /// <summary>Any, at random.</summary>
    RandomK,
}

/// <summary>One way to keep a deployed model fresh: a row of the result.</summary>
/// <param name="Name">How it is called on the command line and in the results.</param>
/// <param name="Kind">How the model is trained and what is compressed.</param>
/// <param name="Choice">What picks the coordinates that are deployed.</param>
/// <param name="Density">The share of the coordinates that a step deploys, in (0, 1]; null where <paramref name="Count"/> says it.</param>
/// <param name="Count">The number of coordinates that a step deploys, k; null where <paramref name="Density"/> says it.</param>
internal sealed record Strategy(
    string Name,
    StrategyKind Kind,
    CoordinateChoice Choice = CoordinateChoice.All,
    double? Density = null,
    int? Count = null);
