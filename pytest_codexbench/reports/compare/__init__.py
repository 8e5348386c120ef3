"""How one run, or system, does against another, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Block, Cell
from pytest_codexbench.metrics import summarise
from pytest_codexbench.records import Round
from pytest_codexbench.reports.compare.contrast import Contrast, base_of, contrast
from pytest_codexbench.reports.compare.places import Difference, differences
from pytest_codexbench.reports.compare.sides import Side
from pytest_codexbench.reports.comparisons import FAIL, INCONCLUSIVE, PASS
from pytest_codexbench.reports.outcomes import block_of
from pytest_codexbench.reports.wording import cells_words
from pytest_codexbench.stats import LEVEL, geometric_mean, holm

FORMATS: Mapping[str, str] = {
    "table": "terminal",
    "markdown": "markdown",
    "json": "data",
    "csv": "sheet",
    "github-action-benchmark": "trend",
}
"""Format by the module that makes it: ``render(match, console)`` of the table, ``document(match) -> str`` of others."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two sides with all that can be said of one against the other. ``missing`` cells are in one of them alone."""

    reference: Side
    subject: Side
    margin: float
    contrasts: tuple[Contrast, ...]
    missing_in_subject: tuple[Cell, ...]
    missing_in_reference: tuple[Cell, ...]
    differences: tuple[Difference, ...]

    @property
    def judged(self) -> tuple[Contrast, ...]:
        """Those that may have a verdict."""
        return tuple(one for one in self.contrasts if one.judged)

    def count(self, wanted: str) -> int:
        """In how many cells the verdict is ``wanted``."""
        return sum(one.verdict(self.margin) == wanted for one in self.contrasts)

    def corrected(self) -> list[float | None]:
        """Of each contrast the chance that it is not over the margin, with Holm's correction; None if not judged."""
        chances = iter(holm([one.chance(self.margin) for one in self.judged]))
        return [next(chances) if one.judged else None for one in self.contrasts]

    @property
    def confirmed(self) -> tuple[Contrast, ...]:
        """Cells that fail though all are looked at together: with 95 % none of them is named in error."""
        return tuple(
            one
            for one, chance in zip(self.contrasts, self.corrected(), strict=True)
            if one.verdict(self.margin) == FAIL and chance is not None and chance <= 1 - LEVEL
        )

    @property
    def every_cell(self) -> str:
        """Whether the margin is kept in every cell: ``pass`` if all do, ``fail`` if some surely do not.

        A cell that the subject lacks, or in which neither arrived, leaves it open; one that is only shown does not.
        """
        unknown = self.missing_in_subject or any(one.ratio is None for one in self.contrasts)
        if self.judged and not unknown and self.count(PASS) == len(self.judged):
            return PASS
        return FAIL if self.confirmed else INCONCLUSIVE

    @property
    def means(self) -> tuple[Mean, ...]:
        """One for each metric that is judged: downloads and uploads are never thrown together."""
        groups: dict[str, list[Contrast]] = {}
        for one in self.judged:
            groups.setdefault(one.metric, []).append(one)
        return tuple(Mean(metric, tuple(group)) for metric, group in groups.items())


@dataclass(frozen=True, slots=True)
class Mean:
    """All judged cells of one metric: never a mean without the worst beside it."""

    metric: str
    contrasts: tuple[Contrast, ...]

    @property
    def geometric(self) -> float | None:
        """Of the median ratios; None if some are 0 and some infinite."""
        mean = geometric_mean([one.ratio.median for one in self.contrasts if one.ratio])
        return None if math.isnan(mean) else mean

    @property
    def worst(self) -> Contrast:
        """The cell with the largest ratio."""
        return max(self.contrasts, key=lambda one: one.ratio.median if one.ratio else 0)


def match(reference: Side, subject: Side, metric: str | None = None, margin: float = 1.2) -> Match:
    """The subject against the reference, in every cell that both have; without ``metric`` by what cells are judged by.

    Raises:
        WrongInput: if there is no such cell, no such metric in any, or what must not be compared.
    """
    ours, theirs = _by_place(subject), _by_place(reference)
    both = [place for place in ours if place in theirs]
    if not both:
        raise WrongInput(
            f"{reference.label} and {subject.label} have no cell in common: the one has "
            f"{cells_words(list(reference.cells))}, the other {cells_words(list(subject.cells))}"
        )
    one_run = reference.folder == subject.folder
    found = [contrast(ours[place], theirs[place], metric, one_run) for place in both]
    contrasts = tuple(one for one in found if one is not None)
    if not contrasts:
        known = sorted({name for place in both for name in summarise(ours[place]).intervals})
        raise WrongInput(f"--metric={metric}: nobody measured that in these cells; there are {', '.join(known)}")
    return Match(
        reference=reference,
        subject=subject,
        margin=margin,
        contrasts=contrasts,
        missing_in_subject=tuple(rounds[0].cell for place, rounds in theirs.items() if place not in ours),
        missing_in_reference=tuple(rounds[0].cell for place, rounds in ours.items() if place not in theirs),
        differences=differences(
            [round_ for place in both for round_ in theirs[place]],
            [round_ for place in both for round_ in ours[place]],
            one_system=all(base_of(ours[place]) == base_of(theirs[place]) for place in both),
        ),
    )


def _by_place(side: Side) -> dict[tuple[Block, str | None], list[Round]]:
    """The rounds by what both sides must agree in: the block, and unless one system is meant its name."""
    return {
        (block_of([cell]).only(frozenset()), None if side.system else cell.system): rounds
        for cell, rounds in side.cells.items()
    }
