using ContinuousDL.Replication.Transport;

namespace ContinuousDL.Tests.Transport;

/// <summary>Waits become shorter where they are cut off, and longer again where they are not.</summary>
public class LongPollWaitTests
{
    [Test]
    public void It_begins_with_the_longest() => new LongPollWait(Seconds(5)).Current.Should().Be(Seconds(5));

    [TestCase(60, 30, 15)]
    [TestCase(60, 90, 30)]
    [TestCase(5, 2, 1)]
    [TestCase(0.5, 0.2, 0.5)]
    public void A_wait_that_is_cut_off_is_halved(double asked, double elapsed, double next)
    {
        var waits = new LongPollWait(Seconds(asked));
        waits.IsCut(Seconds(asked), Seconds(elapsed)).Should().BeTrue();
        waits.Current.Should().Be(Seconds(next));
    }

    [TestCase(0, 20)]
    [TestCase(5, 0.01)]
    public void A_failure_without_a_wait_or_at_once_has_another_reason(double asked, double elapsed)
    {
        var waits = new LongPollWait(Seconds(5));
        waits.IsCut(Seconds(asked), Seconds(elapsed)).Should().BeFalse();
        waits.Current.Should().Be(Seconds(5));
    }

    [Test]
    public void It_grows_again_after_many_answers_and_the_more_rarely_the_more_often_it_was_cut()
    {
        var waits = new LongPollWait(Seconds(60));
        var tries = new List<int>();
        var answered = 0;
        for (var request = 0; request < 2000; request++)
        {
            var wait = waits.Current;
            if (wait > Seconds(30))
            {
                waits.IsCut(wait, Seconds(30)).Should().BeTrue();
                tries.Add(answered);
                answered = 0;
            }
            else
            {
                waits.Answered(wait, wait);
                answered++;
            }
        }

        tries.Should().HaveCountGreaterThan(2).And.BeInAscendingOrder().And.OnlyHaveUniqueItems();
    }

    [Test]
    public void An_answer_that_came_early_shows_nothing()
    {
        var waits = new LongPollWait(Seconds(8));
        waits.IsCut(Seconds(8), Seconds(8)).Should().BeTrue();
        for (var i = 0; i < 100; i++) waits.Answered(Seconds(4), Seconds(1));
        waits.Current.Should().Be(Seconds(4));
        for (var i = 0; i < 100; i++) waits.Answered(Seconds(4), Seconds(4));
        waits.Current.Should().Be(Seconds(6));
        for (var i = 0; i < 100; i++) waits.Answered(Seconds(6), Seconds(6));
        waits.Current.Should().Be(Seconds(8));
    }

    private static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(seconds);
}
