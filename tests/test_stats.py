"""What rounds say about a cell: medians, exact intervals, ratios of pairs."""

import math
import random
import statistics
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from pytest_codexbench.stats import (
    LEVEL,
    Interval,
    chance_over,
    chance_over_unpaired,
    geometric_mean,
    holm,
    jain,
    median,
    median_interval,
    median_ratio_interval,
    ratio,
    slope,
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


def tied(chance: random.Random) -> float:
    """A time that a coarse clock tells: a geometric number of ticks, its median 2."""
    return 1.0 + next(tick for tick in range(100) if chance.random() < 0.4)


def failing(chance: random.Random) -> float:
    """A lognormal time, infinite in a fifth of the rounds."""
    return INF if chance.random() < 0.2 else chance.lognormvariate(0, 1)


# Of each distribution one draw, and its median.
DISTRIBUTIONS: dict[str, tuple[Callable[[random.Random], float], float]] = {
    "lognormal": (lambda chance: chance.lognormvariate(0, 1), 1.0),
    "exponential": (lambda chance: 10 + chance.expovariate(1), 10 + math.log(2)),
    "heavy": (lambda chance: chance.paretovariate(1), 2.0),
    "two humps": (lambda chance: chance.gauss(chance.choice((1, 1, 9)), 0.1), 1 + 0.1 * 0.6744897501960817),
    "tied": (tied, 2.0),
    "failing": (failing, math.exp(statistics.NormalDist().inv_cdf(0.625))),
}
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)
EXPERIMENTS = 2000


@pytest.mark.parametrize("count", [6, 10])
@every_distribution
def test_an_interval_holds_the_truth_as_often_as_it_says(name: str, count: int) -> None:
    """Of 2000 experiments at least 94 % have the true median in their 95 % interval, whatever the times are like."""
    chance = random.Random(20)
    one, truth = DISTRIBUTIONS[name]

    intervals = [median_interval([one(chance) for _ in range(count)]) for _ in range(EXPERIMENTS)]
    share = sum(interval.low <= truth <= interval.high for interval in intervals) / EXPERIMENTS

    assert share >= 0.94
    # with ties a limit is often the median itself, so it covers more
    assert share >= (intervals[0].level or 1) - 0.015
    assert name == "tied" or share <= (intervals[0].level or 0) + 0.015


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


def test_of_counts_nothing_over_nothing_is_equal() -> None:
    """No stall in either is no difference; some where the reference had none are infinitely more."""
    assert 1.0 == ratio(0, 0)
    assert INF == ratio(3, 0)
    assert 0.0 == ratio(0, 3)


def pairs(chance: random.Random, count: int, factor: float) -> list[float]:
    """Ratios round by round of a system that is ``factor`` times slower.

    What a round draws hits both sides, heavily and the later the worse; each fails in a tenth of the rounds.
    """

    def took(shared: float) -> float:
        return INF if chance.random() < 0.1 else shared * chance.lognormvariate(0, 0.3)

    drawn = (chance.paretovariate(1) * (1 + index) for index in range(count))
    ratios = [ratio(factor * took(shared), took(shared)) for shared in drawn]
    return [value for value in ratios if not math.isnan(value)]


@pytest.mark.parametrize("count", [6, 10, 20])
@pytest.mark.parametrize("factor", [0.5, 1.2, 1.2001, 3.0])
def test_verdicts_on_pairs_are_seldom_wrong(count: int, factor: float) -> None:
    """Of 2000 experiments at most 5 % pass what is over the margin or fail what is within; 94 % hold the truth."""
    chance = random.Random(21)

    intervals = [median_interval(pairs(chance, count, factor)) for _ in range(EXPERIMENTS)]
    sure = [interval for interval in intervals if interval.level is not None]
    wrong = sum(verdict(interval, 1.2) == ("fail" if factor <= 1.2 else "pass") for interval in intervals)
    held = sum(interval.low <= factor <= interval.high for interval in sure)

    assert wrong <= 0.05 * EXPERIMENTS
    assert held >= 0.94 * len(sure)


# --- medians that are not paired ---


def test_seven_rounds_each_have_an_interval_of_the_ratio() -> None:
    """Least over largest to largest over least holds the ratio of the medians with at least 96.9 %, of any times."""
    interval = median_ratio_interval([20, 21, 22, 23, 24, 25, 26], [16, 10, 11, 12, 13, 14, 15])

    assert Interval(23 / 13, 20 / 16, 26 / 10, (1 - 2 / 2**7) ** 2, 7) == interval


@pytest.mark.parametrize("subject, reference_, sure", [(6, 6, False), (6, 7, True), (5, 100, False), (7, 6, True)])
def test_how_many_rounds_an_unpaired_comparison_takes(subject: int, reference_: int, sure: bool) -> None:
    """Two times six rounds stay below 95 % where they are not paired; one more is enough."""
    interval = median_ratio_interval([1.0] * subject, [1.0] * reference_)

    assert sure == (interval.level is not None)
    assert min(subject, reference_) == interval.count


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_the_coverage_of_two_is_the_product_of_the_binomial_ones(n: int, m: int) -> None:
    """As scipy has it for each side; and no other step inward keeps the level, so neither side is wider than it must.

    Of n values the limits are a k-th and an n-k+1-th; they are read off values that tell their rank.
    """
    interval = median_ratio_interval([2.0**rank for rank in range(1, n + 1)], [3.0**rank for rank in range(1, m + 1)])

    def covered(k: int, count: int) -> float:
        return float(1 - 2 * reference.binom.cdf(k - 1, count, 0.5))

    ranks = [(k, j) for k in range(1, n + 1) for j in range(1, m + 1) if interval.low == 2.0**k / 3.0 ** (m + 1 - j)]
    ((k, j),) = ranks
    assert interval.high == 2.0 ** (n + 1 - k) / 3.0**j
    if interval.level is None:
        assert (1, 1) == (k, j)
        assert covered(1, n) * covered(1, m) < LEVEL
    else:
        assert pytest.approx(covered(k, n) * covered(j, m), rel=1e-9) == interval.level
        assert interval.level >= LEVEL
        assert covered(k + 1, n) * covered(j + 1, m) < LEVEL


@pytest.mark.parametrize(
    "subject, reference_, told",
    [
        ([1.0] * 6 + [INF], [1.0] * 7, (1.0, 1.0, INF)),
        ([1.0] * 7, [1.0] * 6 + [INF], (1.0, 0.0, 1.0)),
        ([INF] * 7, [1.0] * 7, (INF, INF, INF)),
        ([1.0] * 7, [INF] * 7, (0.0, 0.0, 0.0)),
        ([1.0] * 6 + [INF], [1.0] * 6 + [INF], (1.0, 0.0, INF)),
    ],
)
def test_a_ratio_of_medians_takes_what_never_arrived(
    subject: list[float], reference_: list[float], told: tuple[float, float, float]
) -> None:
    """A failure widens its side; limits that neither side reached say nothing."""
    interval = median_ratio_interval(subject, reference_)

    assert told == (interval.median, interval.low, interval.high)


def test_two_medians_that_were_not_reached_have_no_ratio() -> None:
    """It is NaN, and anything may be true of it."""
    interval = median_ratio_interval([INF] * 7, [INF] * 7)

    assert math.isnan(interval.median)
    assert (0.0, INF) == (interval.low, interval.high)


@pytest.mark.parametrize("sizes", [(7, 7), (10, 10), (6, 20)], ids=str)
@pytest.mark.parametrize("names", [(a, b) for a in DISTRIBUTIONS for b in ("lognormal", "tied", "failing")], ids=str)
def test_an_unpaired_interval_holds_the_truth(names: tuple[str, str], sizes: tuple[int, int]) -> None:
    """Of 2000 experiments at least 94 % hold the true ratio, also of two unlike distributions; 5 % of verdicts err.

    The margin is the truth itself, where verdicts are hardest.
    """
    intervals = simulated(names, sizes)
    truth = DISTRIBUTIONS[names[0]][1] / DISTRIBUTIONS[names[1]][1]

    held = sum(interval.low <= truth <= interval.high for interval in intervals)
    failed = sum(verdict(interval, truth) == "fail" for interval in intervals)
    passed = sum(verdict(interval, truth * 0.999999) == "pass" for interval in intervals)

    assert held >= 0.94 * EXPERIMENTS
    assert max(failed, passed) <= 0.05 * EXPERIMENTS


@cache
def draws(name: str, count: int, seed: int) -> list[list[float]]:
    """2000 samples of one distribution."""
    chance = random.Random(f"{name} {seed}")
    one = DISTRIBUTIONS[name][0]
    return [[one(chance) for _ in range(count)] for _ in range(EXPERIMENTS)]


def simulated(names: tuple[str, str], sizes: tuple[int, int]) -> list[Interval]:
    """2000 experiments in which the two sides have nothing in common."""
    sides = zip(draws(names[0], sizes[0], 1), draws(names[1], sizes[1], 2), strict=True)
    return [median_ratio_interval(subject, reference_) for subject, reference_ in sides]


# --- which cells fail ---


@pytest.mark.parametrize("count", range(1, 25))
def test_the_chance_of_so_many_ratios_over_a_margin(count: int) -> None:
    """As scipy's binomial test has it, one-sided."""
    for over in range(count + 1):
        ratios = [1.0] * (count - over) + [1.5] * over
        expected = reference.binomtest(over, count, 0.5, alternative="greater").pvalue

        assert pytest.approx(expected, rel=1e-9) == chance_over(ratios, 1.2)


@given(st.lists(st.sampled_from([0.5, 1.1, 1.2, 1.3, 2.0, INF]), min_size=1, max_size=30))
def test_a_verdict_is_a_chance_of_at_most_one_in_forty(ratios: list[float]) -> None:
    """The interval fails exactly where the sign test does: one says nothing that the other does not."""
    failed = verdict(median_interval(ratios), 1.2) == "fail"

    assert failed == (chance_over(ratios, 1.2) <= 0.025)


@given(*[st.lists(st.floats(0.5, 4) | st.just(INF), min_size=1, max_size=20)] * 2)
def test_so_it_is_of_medians_that_are_not_paired(subject: list[float], reference_: list[float]) -> None:
    """What fails has a chance of at most 2.6 %; what does not, a larger one."""
    interval = median_ratio_interval(subject, reference_)
    chance = chance_over_unpaired(subject, reference_, 1.2)

    assert (verdict(interval, 1.2) == "fail") == (chance <= (1 - (interval.level or 1)) / 2 + 0.001)
    assert 0 < chance <= 1


def test_holms_correction_of_four() -> None:
    """By hand: times 4, 3, 2, 1 from the least on, never less than the one before."""
    assert pytest.approx([0.03, 0.06, 0.06, 0.02]) == holm([0.01, 0.04, 0.03, 0.005])
    assert [] == holm([])
    assert [1.0, 1.0] == holm([0.6, 0.9])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_is_the_closure_of_bonferronis(chances: list[float]) -> None:
    """A cell's chance is the largest of those of all sets it is in, each the least of the set times its size."""

    def among(index: int) -> float:
        ordered = sorted(enumerate(chances), key=lambda one: one[1])
        place = [position for position, _ in ordered].index(index)
        # the hardest set that holds it: itself, or one before it, and all that come after
        return max(min(1.0, (len(chances) - first) * ordered[first][1]) for first in range(place + 1))

    assert pytest.approx([among(index) for index in range(len(chances))]) == holm(chances)


@pytest.mark.parametrize("paired", [True, False])
def test_cells_that_fail_together_are_seldom_wrong(paired: bool) -> None:
    """Of 500 runs of nine cells that just keep the margin, at most 5 % name any that fails; without Holm it is more."""
    chance = random.Random(22)
    runs = 500

    def one() -> float:
        if paired:
            return chance_over(pairs(chance, 12, 1.2), 1.2)
        slower, reference_ = ([chance.lognormvariate(0, 0.5) * factor for _ in range(12)] for factor in (1.2, 1.0))
        return chance_over_unpaired(slower, reference_, 1.2)

    found = [[one() for _ in range(9)] for _ in range(runs)]
    named = sum(min(holm(chances)) <= 0.05 for chances in found)
    alone = sum(min(chances) <= 0.025 for chances in found)

    assert named <= 0.05 * runs
    assert alone >= named


def test_a_cell_that_fails_is_found_among_nine() -> None:
    """Of 300 runs in which one of nine cells is three times slower, Holm names that one in most."""
    chance = random.Random(23)

    found = [[chance_over(pairs(chance, 12, factor), 1.2) for factor in [1.0] * 8 + [3.0]] for _ in range(300)]
    named = sum(holm(chances)[8] <= 0.05 for chances in found)

    assert named >= 150


# --- shares and means ---


@pytest.mark.parametrize("attempts", [1, 2, 6, 10, 39, 234, 10_000])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_reliability_has_wilsons_interval(attempts: int, level: float) -> None:
    """As scipy has it, none and all included."""
    for successes in sorted({0, 1, attempts // 2, attempts - 1, attempts}):
        expected = reference.binomtest(successes, attempts).proportion_ci(level, method="wilson")

        assert pytest.approx((expected.low, expected.high), abs=1e-9) == wilson(successes, attempts, level)


def test_wilsons_interval_holds_the_truth_on_average() -> None:
    """Of 2000 cells, each as reliable as chance has it, at least 94 % have the true share in their interval."""
    chance = random.Random(24)
    truths = [chance.random() for _ in range(EXPERIMENTS)]

    intervals = [wilson(sum(chance.random() < truth for _ in range(10)), 10) for truth in truths]
    held = sum(low <= truth <= high for truth, (low, high) in zip(truths, intervals, strict=True))

    assert held >= 0.94 * EXPERIMENTS


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


def test_the_slope_is_the_median_of_all_slopes() -> None:
    """Theil and Sen's: of points on a line it is the line's, whatever a few others say; without any it is 0."""
    line = [3.0 * x + 1 for x in range(10)]

    assert 3.0 == slope(range(10), line)
    assert 3.0 == slope(range(10), [*line[:8], 1e6, -1e6])
    assert 0.0 == slope([1.0, 1.0], [2.0, 3.0])
    assert reference.theilslopes(line[::-1], range(10)).slope == slope(range(10), line[::-1])
