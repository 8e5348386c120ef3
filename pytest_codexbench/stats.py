"""What rounds say about a cell: medians, exact intervals, ratios, verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import NormalDist

LEVEL = 0.95
MOST_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its interval. ``level`` is the coverage that is sure, or None where only a range is shown."""

    median: float
    low: float
    high: float
    level: float | None
    count: int


def median(values: Iterable[float]) -> float:
    """The middle value; of an even count the mean of the two middle ones. Infinite values count as they are.

    Raises:
        ValueError: without values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values have no median")
    middle = len(ordered) // 2
    low, high = ordered[(len(ordered) - 1) // 2], ordered[middle]
    return low if low == high else (low + high) / 2


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The median with its order-statistic interval, exact for any distribution.

    The k-th smallest to the k-th largest of n values hold the median with probability 1 - 2 P(B <= k - 1), B binomial
    with n and 1/2 (David & Nagaraja, "Order Statistics", 3rd ed., 7.1); k is the largest that keeps ``level``. Too
    few values for it (n < 6 at 95 %) give their range and no level.
    """
    ordered = sorted(values)
    n = len(ordered)
    rank, covered = 1, None
    for k in range(1, n // 2 + 1):
        coverage = 1 - 2 * _beyond(k, n)
        if coverage < level:
            break
        rank, covered = k, coverage
    return Interval(median(ordered), ordered[rank - 1], ordered[n - rank], covered, n)


@cache
def _beyond(k: int, n: int) -> float:
    """How likely the k-th smallest of n values lies over their median: P(B <= k - 1), B binomial with n and 1/2."""
    return sum(math.comb(n, i) for i in range(k)) / (1 << n)


def median_ratio_interval(subject: Sequence[float], reference: Sequence[float], level: float = LEVEL) -> Interval:
    """The ratio of two medians whose values are not paired, with an interval that holds for any two distributions.

    The subject's lower limit over the reference's upper one, and the other way round (Hettmansperger, "Two-sample
    inference based on one-sample sign statistics", Applied Statistics 33, 1984). He counts on equal shapes and may so
    choose narrower limits; here nothing is assumed, so the coverages of the two independent intervals are multiplied,
    and the product keeps ``level``. It covers more than it says: the limits of both sides are seldom off together.
    Too few values give the ratio of the extremes and no level. ``count`` is that of the shorter side. The median is
    NaN where neither is reached.
    """
    above, below = sorted(subject), sorted(reference)
    ranks, covered = (1, 1), None
    for k, j in _inward(len(above), len(below)):
        coverage = (1 - 2 * _beyond(k, len(above))) * (1 - 2 * _beyond(j, len(below)))
        if coverage < level:
            break
        ranks, covered = (k, j), coverage
    low, high = _limits(above, below, *ranks)
    return Interval(ratio(median(above), median(below)), low, high, covered, min(len(above), len(below)))


def _inward(n: int, m: int) -> Iterator[tuple[int, int]]:
    """Pairs of ranks from the extremes to the middle, of two samples: each step the one that costs less coverage.

    They depend on the sizes alone, and each limit lies within the one before it: any of them keeps its own level.
    """
    k, j = 1, 1
    while k <= n // 2 and j <= m // 2:
        yield k, j
        if _beyond(k + 1, n) <= _beyond(j + 1, m):
            k += 1
        else:
            j += 1


def _limits(above: Sequence[float], below: Sequence[float], k: int, j: int) -> tuple[float, float]:
    """Least and largest ratio of what lies between the k-th values of one sample and the j-th of the other."""
    low, high = ratio(above[k - 1], below[-j]), ratio(above[-k], below[j - 1])
    # two limits that were not reached say nothing of their ratio
    return 0.0 if math.isnan(low) else low, math.inf if math.isnan(high) else high


def ratio(subject: float, reference: float) -> float:
    """Time of the subject over time of the reference; over 1 is slower. NaN where neither arrived.

    Finite over infinite is 0, infinite over finite is infinite. Of counts: 0 over 0 is 1, more over 0 is infinite.
    """
    if math.isinf(subject) and math.isinf(reference):
        return math.nan
    if reference == 0:
        return math.inf if subject else 1.0
    return 0.0 if math.isinf(reference) else subject / reference


def verdict(interval: Interval, margin: float) -> str:
    """``pass`` if all of the interval is at most ``margin``, ``fail`` if all is over it, else ``inconclusive``."""
    if interval.level is None:
        return "inconclusive"
    if interval.high <= margin:
        return "pass"
    return "fail" if interval.low > margin else "inconclusive"


def chance_over(ratios: Sequence[float], margin: float) -> float:
    """How likely so many ratios lie over ``margin`` if their true median does not: the one-sided sign test.

    P(B >= number over it), B binomial with n and 1/2; ratios at the margin count as within (Conover, "Practical
    Nonparametric Statistics", 3rd ed., 3.4). It is at most 2.5 % exactly where ``verdict`` is ``fail``.
    """
    within = sum(value <= margin for value in ratios)
    return _beyond(within + 1, len(ratios))


def chance_over_unpaired(subject: Sequence[float], reference: Sequence[float], margin: float) -> float:
    """The same of two medians whose values are not paired: by the first limits of ``median_ratio_interval`` that fail.

    1 where none does.
    """
    above, below = sorted(subject), sorted(reference)
    for k, j in _inward(len(above), len(below)):
        if _limits(above, below, k, j)[0] > margin:
            return 1 - (1 - _beyond(k, len(above))) * (1 - _beyond(j, len(below)))
    return 1.0


def holm(chances: Sequence[float]) -> list[float]:
    """The chances (p-values) of tests that are made together, corrected, in their order.

    Those that are then at most 5 % name a false one among them with at most 5 %, however the tests depend on each
    other (Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979).
    """
    corrected, least = [0.0] * len(chances), 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        least = max(least, min(1.0, (len(chances) - place) * chances[index]))
        corrected[index] = least
    return corrected


def wilson(successes: int, attempts: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, JASA 22, 1927); (0, 1) without attempts.

    It covers with ``level`` on average over proportions, not at each one (Brown, Cai & DasGupta, Statistical Science
    16, 2001): next to 0 and 1 it may cover less, 90 % of 10 attempts at 99 %.
    """
    if attempts == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, zz = successes / attempts, z * z
    centre = p + zz / (2 * attempts)
    spread = z * math.sqrt(p * (1 - p) / attempts + zz / (4 * attempts**2))
    low, high = (centre - spread) / (1 + zz / attempts), (centre + spread) / (1 + zz / attempts)
    return max(0.0, low), min(1.0, high)


def geometric_mean(values: Sequence[float]) -> float:
    """Exp of the mean logarithm; 0 or infinite if a value is. Of both at once it is NaN."""
    if any(value == 0 for value in values):
        return math.nan if math.inf in values else 0.0
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness, (sum x)^2 / (n sum x^2), 1/n to 1 (Jain, Chiu & Hawe, DEC-TR-301, 1984); 0 for none."""
    squares = len(values) * math.fsum(value * value for value in values)
    return math.fsum(values) ** 2 / squares if squares else 0.0


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties with their mean rank; None where one side does not vary."""
    return _pearson(_ranks(xs), _ranks(ys))


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points with different xs; 0 without any.

    Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950; Sen, JASA 63, 1968: up to 29 %
    of the points may be anywhere. Of many points one or two thousand, evenly chosen, will do.
    """
    step = max(1, len(xs) // MOST_POINTS)
    points = list(zip(xs, ys, strict=True))[::step]
    slopes = [(d - b) / (c - a) for (a, b), (c, d) in combinations(points, 2) if c != a]
    return median(slopes) if slopes else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: index for index, value in reversed(list(enumerate(ordered)))}
    return [first[value] + (ordered.count(value) + 1) / 2 for value in values]


def _pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread_x = math.fsum((x - mean_x) ** 2 for x in xs)
    spread_y = math.fsum((y - mean_y) ** 2 for y in ys)
    if not spread_x or not spread_y:
        return None
    return math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / math.sqrt(spread_x * spread_y)
