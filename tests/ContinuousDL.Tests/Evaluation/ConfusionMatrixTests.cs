using ContinuousDL.Evaluation;

namespace ContinuousDL.Tests.Evaluation;

public class ConfusionMatrixTests
{
    [Test]
    public void Row_is_by_actual_class_and_Column_by_predicted_class()
    {
        var matrix = Matrix((0, 0), (0, 0), (0, 1), (1, 1), (2, 1), (1, -1));

        matrix.Row(0).ToArray().Should().Equal(2, 1, 0);
        matrix.Column(1).Should().Equal(1, 1, 1);
        matrix[2, 1].Should().Be(1);
        matrix.Actual(1).Should().Be(2);
        matrix.Predicted(1).Should().Be(3);
        matrix.WithoutPrediction(1).Should().Be(1);
        matrix.Total.Should().Be(6);
    }

    [Test]
    public void Precision_recall_and_F1_are_those_of_their_definitions()
    {
        var matrix = Matrix((0, 0), (0, 0), (0, 1), (1, 1), (2, 1), (1, -1));

        matrix.Precision(1).Should().Be(1.0 / 3);
        matrix.Recall(1).Should().Be(1.0 / 2);
        matrix.F1(1).Should().BeApproximately(2 / (3.0 + 2.0), 1e-15);
    }

    [Test]
    public void What_cannot_be_said_of_a_class_is_NaN()
    {
        var matrix = Matrix((0, 1));

        matrix.Precision(0).Should().Be(double.NaN);
        matrix.Recall(1).Should().Be(double.NaN);
        matrix.F1(2).Should().Be(double.NaN);
        matrix.F1(0).Should().Be(0);
    }

    [TestCase(-1)]
    [TestCase(3)]
    public void A_class_that_is_not_there_is_refused(int @class)
    {
        var matrix = Matrix((0, 0));
        Action[] reads =
        [
            () => matrix.Row(@class), () => matrix.Column(@class), () => matrix.Actual(@class), () => matrix.Predicted(@class),
            () => matrix.WithoutPrediction(@class), () => _ = matrix[@class, 0], () => _ = matrix[0, @class],
            () => matrix.Precision(@class), () => matrix.Recall(@class), () => matrix.F1(@class),
        ];

        foreach (var read in reads)
        {
            read.Should().Throw<ArgumentOutOfRangeException>().WithMessage("*There are 3 classes, 0 to 2*")
                .Which.ActualValue.Should().Be(@class);
        }
    }

    [TestCase(2, -1L)]
    [TestCase(2, 0L)]
    [TestCase(2, long.MaxValue)]
    public void Read_counts_that_are_not_those_of_the_total_is_refused(int total, long firstCount)
    {
        var counts = EvaluatorState.Save(writer =>
        {
            writer.Write(firstCount);
            writer.Write(1L);
            for (var i = 2; i < 3 * 4; i++) writer.Write(0L);
        });

        var read = () => EvaluatorState.Load(reader => ConfusionMatrix.Read(reader, 3, total), counts);

        read.Should().Throw<InvalidDataException>();
    }

    private static ConfusionMatrix Matrix(params (int Actual, int Predicted)[] samples)
    {
        var matrix = new ConfusionMatrix(3);
        foreach (var (actual, predicted) in samples) matrix.Add(actual, predicted);
        return matrix;
    }
}
