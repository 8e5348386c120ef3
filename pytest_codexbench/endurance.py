"""How a cluster changes while it spreads one file after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_codexbench.matrix import Cell
from pytest_codexbench.metrics import MOST_DRIFT, by_cell, figures_of
from pytest_codexbench.records import Round
from pytest_codexbench.stats import slope, spearman, wilson

# Of fewer rounds a trend is chance.
ENOUGH = 6
# Less than a block of a disk a file is what a log or an index may take.
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Trend:
    """One quantity over the rounds' numbers: where it began and ended, by how much it grew a round, and how surely.

    ``slope`` is Theil and Sen's, per round; ``rho`` Spearman's rank correlation with the round's number.
    """

    first: float
    last: float
    slope: float
    rho: float | None
    count: int

    @property
    def rises(self) -> bool:
        """Whether it grows for more than by chance."""
        return self.count >= ENOUGH and self.slope > 0 and self.rho is not None and self.rho > MOST_DRIFT


@dataclass(frozen=True, slots=True)
class NodeCourse:
    """One node over a soak: resident memory and disk after each deletion, and how often its program was a new one."""

    name: str
    memory: Trend | None
    disk: Trend | None
    restarts: int
    points: tuple[tuple[int, float | None, float | None], ...]


@dataclass(frozen=True, slots=True)
class Endurance:
    """One system over a soak. ``seconds`` is t100 of the median leecher; ``chance`` Wilson's interval of success."""

    cell: Cell
    rounds: int
    succeeded: int
    chance: tuple[float, float]
    seconds: Trend | None
    nodes: tuple[NodeCourse, ...]

    @property
    def restarts(self) -> int:
        """How often a program was not the one of the round before, over all nodes."""
        return sum(node.restarts for node in self.nodes)

    @property
    def leaking(self) -> list[NodeCourse]:
        """Nodes whose memory rises."""
        return [node for node in self.nodes if node.memory is not None and node.memory.rises]

    @property
    def keeping(self) -> list[NodeCourse]:
        """Nodes whose disk does not get back what a deletion should free."""
        return [node for node in self.nodes if node.disk is not None and node.disk.rises and node.disk.slope >= BLOCK]


def endurance(rounds: Iterable[Round]) -> list[Endurance]:
    """One for each soak with rounds."""
    return [_of(cell, found) for cell, found in by_cell(rounds).items() if cell.kind == "stability"]


def _of(cell: Cell, unordered: Sequence[Round]) -> Endurance:
    rounds = sorted(unordered, key=lambda round_: round_.index)
    succeeded = sum(round_.success for round_ in rounds)
    times = [(index, each["t100_s"] or 0.0) for index, each in figures_of(rounds).items()]
    names = list(dict.fromkeys(name for round_ in rounds for name in round_.rest))
    return Endurance(
        cell=cell,
        rounds=len(rounds),
        succeeded=succeeded,
        chance=wilson(succeeded, len(rounds)),
        seconds=trend([(index, value) for index, value in times if math.isfinite(value)]),
        nodes=tuple(_course(name, rounds) for name in sorted(names)),
    )


def _course(name: str, rounds: Sequence[Round]) -> NodeCourse:
    seen = [(round_.index, round_.rest[name]) for round_ in rounds if name in round_.rest]
    starts = [each.started_at_s for _, each in seen if each.started_at_s is not None]
    return NodeCourse(
        name=name,
        memory=trend([(index, float(each.rss_bytes)) for index, each in seen if each.rss_bytes is not None]),
        disk=trend([(index, float(each.disk_bytes)) for index, each in seen if each.disk_bytes is not None]),
        # the time of a start is told to a hundredth of a second
        restarts=sum(abs(after - before) > 1 for before, after in pairwise(starts)),
        points=tuple((index, each.rss_bytes, each.disk_bytes) for index, each in seen),
    )


def trend(points: Sequence[tuple[int, float]]) -> Trend | None:
    """The trend of values by round; None of none."""
    if not points:
        return None
    xs, ys = [float(x) for x, _ in points], [y for _, y in points]
    rho = spearman(xs, ys) if len(points) > 1 else None
    return Trend(ys[0], ys[-1], slope(xs, ys), rho, len(points))
