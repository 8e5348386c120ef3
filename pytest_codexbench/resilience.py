"""What disturbed rounds tell beside the undisturbed ones of the same seeders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_codexbench.disturbances import UNDISTURBED
from pytest_codexbench.matrix import Cell
from pytest_codexbench.metrics import Figures, by_cell, figures_of, paired_ratios
from pytest_codexbench.records import Round
from pytest_codexbench.stats import Interval, median_interval, wilson


@dataclass(frozen=True, slots=True)
class Resilience:
    """One system under one disturbance.

    ``void`` rounds are those in which it did not happen: they are in nothing else here. ``chance`` is Wilson's interval
    of the share of rounds that succeeded. ``ratio`` is t100 over that of the undisturbed round of the same seeders, of
    the median leecher, ``last`` the same of the last one. ``figures`` are medians of others by name.
    """

    cell: Cell
    rounds: int
    void: int
    succeeded: int
    chance: tuple[float, float]
    ratio: Interval | None
    last: Interval | None
    figures: Mapping[str, Interval]
    voids: tuple[str, ...] = ()

    @property
    def counted(self) -> int:
        """Rounds in which it happened."""
        return self.rounds - self.void


SHOWN = ("t100_s", "t100_max_s", "recovery_s", "refetched_bytes", "stalls", "longest_stall_s", "begun_percent")


def resilience(rounds: Iterable[Round]) -> list[Resilience]:
    """One for each cell of reliability with rounds, the undisturbed of each swarm first."""
    cells = {cell: found for cell, found in by_cell(rounds).items() if cell.kind == "reliability"}
    return [_of(cell, found, cells) for cell, found in cells.items()]


def _of(cell: Cell, rounds: Sequence[Round], cells: Mapping[Cell, Sequence[Round]]) -> Resilience:
    counted = [round_ for round_ in rounds if round_.void is None]
    succeeded = sum(round_.success for round_ in counted)
    figures = figures_of(counted)
    calm: Mapping[int, Figures] = {}
    if cell.disturbance != UNDISTURBED:
        calm = figures_of(next((found for other, found in cells.items() if _calm_of(cell, other)), ()))
    return Resilience(
        cell=cell,
        rounds=len(rounds),
        void=len(rounds) - len(counted),
        succeeded=succeeded,
        chance=wilson(succeeded, len(counted)),
        ratio=_interval(paired_ratios(figures, calm, "t100_s")),
        last=_interval(paired_ratios(figures, calm, "t100_max_s")),
        figures={name: found for name in SHOWN if (found := _interval(_told(figures, name))) is not None},
        voids=tuple(f"round {round_.index}: {round_.void}" for round_ in rounds if round_.void is not None),
    )


def _calm_of(cell: Cell, other: Cell) -> bool:
    """Whether the other is the same but undisturbed."""
    same = cell.shape == other.shape and cell.seeders == other.seeders and cell.size == other.size
    return same and other.disturbance == UNDISTURBED


def _told(figures: Mapping[int, Figures], name: str) -> list[float]:
    return [value for each in figures.values() if (value := each.get(name)) is not None]


def _interval(values: Sequence[float]) -> Interval | None:
    return median_interval(values) if values else None
