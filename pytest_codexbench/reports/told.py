"""A run read and summarised once, for all of its documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_codexbench.matrix import Cell
from pytest_codexbench.records import Story
from pytest_codexbench.reports.comparisons import Comparison, Standing, comparisons, standings
from pytest_codexbench.reports.outcomes import Outcome, outcomes


@dataclass(frozen=True, slots=True)
class Told:
    """The journal, the provenance, and what follows from them: outcomes in the plan's order, and comparisons."""

    story: Story
    run: Mapping[str, Any]
    found: Sequence[Outcome]
    compared: Sequence[Comparison]

    @property
    def measured(self) -> list[Outcome]:
        """The cells that have rounds."""
        return [outcome for outcome in self.found if outcome.rounds]

    @property
    def standings(self) -> list[Standing]:
        """Each system against its reference, over all blocks of a kind."""
        return standings(self.compared)

    @property
    def by_subject(self) -> Mapping[Cell, Comparison]:
        """The comparison of each cell that is no reference."""
        return {comparison.subject: comparison for comparison in self.compared}

    @property
    def systems(self) -> list[str]:
        """All systems with their variants, in the plan's order."""
        return list(dict.fromkeys(outcome.cell.system for outcome in self.found))


def tell(story: Story, run: Mapping[str, Any]) -> Told:
    """Read a run."""
    found = outcomes(story, run)
    return Told(story, run, found, comparisons(found))
