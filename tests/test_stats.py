"""What rounds say about a cell: medians, exact intervals, ratios of pairs."""

import math
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from pytest_codexbench.stats import (
    Interval,
    geometric_mean,
    jain,
    median,
    median_interval,
    ratio,
    spearman,
    verdict,
    wilson,
)

INF = math.inf
times = st.floats(1e-3, 1e6)


# --- medians ---


@given(st.lists(times, min_size=1, max_size=20))
def test_the_median_is_the_middle_value(values: list[float]) -> None:
    """Of an even count it is the mean of the two in the middle; the order does not matter."""
    assert statistics.median(values) == median(values)


@pytest.mark.parametrize(
    "values, middle",
    [
        ([INF], INF),
        ([1, INF], INF),
        ([1, 2, INF], 2),
        ([1, 2, INF, INF], INF),
        ([1, INF, INF], INF),
        ([INF, INF], INF),
        ([3, 1, 2, INF], 2.5),
    ],
)
def test_a_transfer_that_never_arrived_counts_in_the_median(values: list[float], middle: float) -> None:
    """A failure is a time without end: it is not dropped, and no median of it is NaN."""
    assert middle == median(values)


def test_no_values_have_no_median() -> None:
    """There is nothing to show for a cell without rounds."""
    with pytest.raises(ValueError, match="no median"):
        median([])
    with pytest.raises(ValueError, match="no median"):
        median_interval([])


# --- intervals ---


def test_six_rounds_have_an_interval_from_the_least_to_the_most() -> None:
    """With n = 6 min..max holds the median with 96.9 %."""
    interval = median_interval([5, 3, 9, 1, 7, 11])

    assert Interval(6, 1, 11, 1 - 2 / 2**6, 6) == interval
    assert 0.969 == round(interval.level or 0, 3)


def test_ten_rounds_have_an_interval_from_the_second_to_the_ninth() -> None:
    """With n = 10 2nd..9th holds the median with 97.9 %."""
    interval = median_interval([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])

    assert Interval(5.5, 2, 9, 1 - 22 / 2**10, 10) == interval
    assert 0.979 == round(interval.level or 0, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_fewer_than_six_rounds_claim_nothing(count: int) -> None:
    """They cannot reach 95 %: their range is shown, without a level."""
    interval = median_interval([float(value) for value in range(count)])

    assert Interval((count - 1) / 2, 0, count - 1, None, count) == interval


def test_a_failure_widens_the_interval() -> None:
    """One transfer of six that never arrived: the upper end is not reached."""
    interval = median_interval([1, 2, 3, 4, 5, INF])

    assert (3.5, 1, INF) == (interval.median, interval.low, interval.high)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_coverage_is_the_binomial_one(level: float) -> None:
    """As scipy has it: from the k-th to the n-k+1-th, k the largest that keeps the level."""
    for count in range(6, 60):
        interval = median_interval(list(range(1, count + 1)), level)
        covered = {k: 1 - 2 * reference.binom.cdf(k - 1, count, 0.5) for k in range(1, count // 2 + 1)}
        rank = max((k for k, coverage in covered.items() if coverage >= level), default=None)

        assert (rank or 1, count + 1 - (rank or 1)) == (interval.low, interval.high)
        assert (rank is None) == (interval.level is None)
        assert interval.level is None or pytest.approx(covered[rank or 1], rel=1e-12) == interval.level


@pytest.mark.parametrize("count", [6, 10])
@pytest.mark.parametrize(
    "one, truth",
    [
        (lambda chance: chance.lognormvariate(0, 1), 1.0),
        (lambda chance: 10 + chance.expovariate(1), 10 + math.log(2)),
    ],
    ids=["lognormal", "exponential"],
)
def test_an_interval_holds_the_truth_as_often_as_it_says(
    count: int, one: Callable[[random.Random], float], truth: float
) -> None:
    """Of 2000 experiments with a skewed distribution, at least 94 % have the true median in their 95 % interval."""
    chance = random.Random(20)
    intervals = [median_interval([one(chance) for _ in range(count)]) for _ in range(2000)]
    share = sum(interval.low <= truth <= interval.high for interval in intervals) / len(intervals)

    assert share >= 0.94
    assert pytest.approx(intervals[0].level, abs=0.015) == share


# --- ratios and verdicts ---


@pytest.mark.parametrize(
    "subject, reference_, told",
    [(3, 2, 1.5), (2, 4, 0.5), (3, INF, 0.0), (INF, 3, INF)],
)
def test_a_ratio_over_one_is_slower(subject: float, reference_: float, told: float) -> None:
    """Time over time of the reference; what never arrived is infinitely slower."""
    assert told == ratio(subject, reference_)


def test_two_that_never_arrived_have_no_ratio() -> None:
    """They are counted apart."""
    assert math.isnan(ratio(INF, INF))


@pytest.mark.parametrize(
    "low, high, said",
    [
        (0.9, 1.1, "pass"),
        (0.9, 1.2, "pass"),
        (0.9, 1.2000001, "inconclusive"),
        (1.2, 1.5, "inconclusive"),
        (1.2000001, 1.5, "fail"),
        (0.9, INF, "inconclusive"),
        (INF, INF, "fail"),
        (0.0, 0.0, "pass"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, said: str) -> None:
    """Pass if all of it is at most the margin, fail if all is over it; else nothing is decided."""
    assert said == verdict(Interval(1.1, low, high, 0.969, 6), 1.2)


def test_too_few_rounds_decide_nothing() -> None:
    """A range is no interval."""
    assert "inconclusive" == verdict(median_interval([0.5, 0.5, 0.5, 0.5, 0.5]), 1.2)
    assert "pass" == verdict(median_interval([0.5] * 6), 1.2)


# --- shares and means ---


@pytest.mark.parametrize("attempts", [1, 2, 6, 10, 39, 234, 10_000])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_reliability_has_wilsons_interval(attempts: int, level: float) -> None:
    """As scipy has it, none and all included."""
    for successes in sorted({0, 1, attempts // 2, attempts - 1, attempts}):
        expected = reference.binomtest(successes, attempts).proportion_ci(level, method="wilson")

        assert pytest.approx((expected.low, expected.high), abs=1e-9) == wilson(successes, attempts, level)


def test_without_attempts_nothing_is_known_of_reliability() -> None:
    """Anything from never to always."""
    assert (0.0, 1.0) == wilson(0, 0)


@given(st.lists(times, min_size=1, max_size=50))
def test_the_geometric_mean_is_scipys(values: list[float]) -> None:
    """Ratios over cells are averaged as ratios."""
    assert pytest.approx(float(reference.gmean(values)), rel=1e-9) == geometric_mean(values)


def test_the_geometric_mean_takes_what_never_arrived() -> None:
    """One infinite ratio makes it infinite, a zero makes it zero, both leave nothing to say."""
    assert INF == geometric_mean([1.1, INF])
    assert 0.0 == geometric_mean([1.1, 0.0])
    assert math.isnan(geometric_mean([INF, 0.0]))
    assert pytest.approx(1.0) == geometric_mean([2, 0.5])


def test_fairness_is_jains_index() -> None:
    """1 if all are equally fast, 1/n if one gets all; a failed leecher has speed 0."""
    assert pytest.approx(1.0) == jain([3.0, 3.0, 3.0])
    assert pytest.approx(0.25) == jain([8.0, 0.0, 0.0, 0.0])
    assert pytest.approx(36 / (3 * 14)) == jain([1.0, 2.0, 3.0])
    assert 0.0 == jain([0.0, 0.0]) == jain([])


@given(st.lists(times, min_size=1, max_size=40))
def test_fairness_is_between_one_nth_and_one(speeds: list[float]) -> None:
    """The index of n speeds is in [1/n, 1], and does not depend on the unit."""
    index = jain(speeds)

    assert 1 / len(speeds) - 1e-9 <= index <= 1 + 1e-9
    assert pytest.approx(index, rel=1e-9) == jain([1000 * speed for speed in speeds])


# --- drift ---


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6) | times), min_size=2, max_size=30))
def test_drift_is_spearmans_correlation(pairs: list[tuple[int, float]]) -> None:
    """As scipy has it, ties included; nothing where one side does not vary."""
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    rho = spearman(xs, ys)

    if len(set(xs)) == 1 or len(set(ys)) == 1:
        assert rho is None
    else:
        assert pytest.approx(float(reference.spearmanr(xs, ys).statistic), abs=1e-9) == rho


def test_drift_takes_what_never_arrived_as_the_slowest() -> None:
    """Rounds that get slower until they fail drift, though no slope can be computed."""
    assert pytest.approx(1.0) == spearman(range(5), [1, 2, 3, 4, INF])
    assert pytest.approx(-1.0) == spearman(range(4), [INF, 3, 2, 1])
    assert spearman(range(3), [INF, INF, INF]) is None


def test_one_round_does_not_drift() -> None:
    """A correlation needs two."""
    assert spearman([0], [1.5]) is None
