"""What a plan will take, judged by what earlier runs took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pytest_codexbench.matrix import Cell, size_text
from pytest_codexbench.metrics import of_round
from pytest_codexbench.plan import Cost, Needs, cost
from pytest_codexbench.records import JOURNAL, Round, read_journal
from pytest_codexbench.systems import find

RUNS_READ = 5


@dataclass(frozen=True, slots=True)
class Experience:
    """Seconds a round of each cell took, and the rate of each variant in 10^6 B/s, in earlier runs."""

    seconds: Mapping[str, float]
    mb_per_s: Mapping[tuple[str, str, int | None], float]

    def cost(self, cell: Cell, needs: Needs) -> Cost:
        """The cost of one round: as the same cell took, else by the variant's rate, else by the system's own figure."""
        expected = cost(cell, needs, self.mb_per_s.get((cell.system, cell.moves, cell.shape.link)))
        known = self.seconds.get(cell.key)
        return expected if known is None else Cost(expected.moved, expected.disk, expected.memory, known)


def experience(results: Path) -> Experience:
    """What the latest runs below ``results`` tell."""
    journals = sorted(results.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime)[-RUNS_READ:]
    seconds: dict[str, list[float]] = {}
    rates: dict[tuple[str, str, int | None], dict[int, list[float]]] = {}
    for round_ in _good(read_journal(journal).rounds for journal in journals):
        cell, figures = round_.cell, of_round(round_)
        if "round_s" in round_.seconds:
            seconds.setdefault(cell.key, []).append(round_.seconds["round_s"])
        if cell.kind not in ("download", "upload"):
            continue  # what is disturbed says nothing of the usual rate
        took = figures.get("t100_max_s" if cell.kind == "download" else "publish_s")
        if took:
            moved = cell.size * (cell.leechers if cell.kind == "download" else 1)
            of_size = rates.setdefault((cell.system, cell.kind, cell.shape.link), {}).setdefault(cell.size, [])
            of_size.append(moved / took / 1e6)
    # small files tell of starting, not of speed: the largest ones count
    return Experience(
        {key: median(values) for key, values in seconds.items()},
        {key: median(by_size[max(by_size)]) for key, by_size in rates.items()},
    )


def _good(stories: Iterable[Sequence[Round]]) -> Iterator[Round]:
    return (round_ for rounds in stories for round_ in rounds if round_.success and not round_.warmup)


@dataclass(frozen=True, slots=True)
class Forecast:
    """All of a plan: bytes moved, the most bytes of disk and memory at one time, seconds.

    ``programs`` are the nodes and services that are up together at the most: the Pods of a cluster.
    """

    cells: int
    rounds: int
    moved: int
    disk: int
    memory: int
    programs: int
    seconds: float
    skipped: Mapping[str, int]


def forecast(
    cells: Sequence[Cell],
    rounds: int,
    needs: Callable[[Cell], Needs],
    reason: Callable[[Cell], str | None],
    known: Experience,
    cluster_s: float,
) -> Forecast:
    """What ``rounds`` of each cell will take together; cells with a ``reason`` not to run are counted by it.

    A cluster takes ``cluster_s`` to come up.
    """
    skipped: dict[str, int] = {}
    costs: dict[Cell, Cost] = {}
    for cell in cells:
        if why := reason(cell):
            skipped[why] = skipped.get(why, 0) + 1
        else:
            costs[cell] = known.cost(cell, needs(cell))
    clusters = {cell.shape for cell in costs}
    return Forecast(
        cells=len(costs),
        rounds=rounds * len(costs),
        moved=rounds * sum(each.moved for each in costs.values()),
        disk=max((each.disk for each in costs.values()), default=0),
        memory=max((sum(costs[one].memory for one in _beside(cell, costs)) for cell in costs), default=0),
        programs=max((sum(map(_programs, _beside(cell, costs))) for cell in costs), default=0),
        seconds=rounds * sum(each.seconds for each in costs.values()) + cluster_s * len(clusters),
        skipped=skipped,
    )


def _beside(cell: Cell, costs: Mapping[Cell, Cost]) -> list[Cell]:
    """One cell of each cluster that is up together with that of ``cell``: one a variant."""
    size = cell.shape.nodes, cell.shape.link
    return list({other.shape: other for other in costs if (other.shape.nodes, other.shape.link) == size}.values())


def _programs(cell: Cell) -> int:
    variant = cell.shape.variant
    return cell.shape.nodes + len(find(variant.system).services(variant))


def duration_text(seconds: float) -> str:
    """``45 s``, ``12 min``, ``7.5 h``, ``3 days``: as exact as a forecast can be."""
    for limit, unit, text in ((100, 1, "s"), (5400, 60, "min"), (2 * 86400, 3600, "h")):
        if seconds < limit:
            figure = seconds / unit
            return f"{figure:.1f} {text}" if text == "h" and figure < 10 else f"{figure:.0f} {text}"
    return f"{seconds / 86400:.1f} days"


def bytes_text(count: float) -> str:
    """``1.2 TB``: three digits, decimal."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return size_text(int(count))
