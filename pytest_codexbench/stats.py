"""What rounds say about a cell: medians, exact intervals, ratios of pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its interval. ``level`` is the coverage that holds exactly, or None where only a range is shown."""

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
        coverage = 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n
        if coverage < level:
            break
        rank, covered = k, coverage
    return Interval(median(ordered), ordered[rank - 1], ordered[n - rank], covered, n)


def ratio(subject: float, reference: float) -> float:
    """Time of the subject over time of the reference; over 1 is slower. NaN where neither arrived.

    Finite over infinite is 0, infinite over finite is infinite.
    """
    if math.isinf(subject) and math.isinf(reference):
        return math.nan
    return 0.0 if math.isinf(reference) else subject / reference


def verdict(interval: Interval, margin: float) -> str:
    """``pass`` if all of the interval is at most ``margin``, ``fail`` if all is over it, else ``inconclusive``."""
    if interval.level is None:
        return "inconclusive"
    if interval.high <= margin:
        return "pass"
    return "fail" if interval.low > margin else "inconclusive"


def wilson(successes: int, attempts: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, JASA 22, 1927); (0, 1) without attempts."""
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
