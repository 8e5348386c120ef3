"""What became of each cell of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_codexbench.errors import BenchError
from pytest_codexbench.matrix import Block, Cell
from pytest_codexbench.metrics import VIEWS, Summary, by_cell, summarise, summary_of
from pytest_codexbench.records import OK, Round, Story, cell_from_json
from pytest_codexbench.stats import Interval

PASSED, FAILED, SKIPPED, ERROR, NOT_RUN = "passed", "failed", "skipped", "error", "not run"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cell with its measured rounds in order. ``summary`` is of all of them, ``unflagged`` without flagged ones."""

    cell: Cell
    status: str
    reason: str | None
    rounds: tuple[Round, ...] = ()
    summary: Summary | None = None
    unflagged: Summary | None = None

    @property
    def drifts(self) -> bool:
        """Whether times grow or shrink with the round's index."""
        return self.summary is not None and self.summary.drifts


def outcomes(story: Story, run: Mapping[str, Any]) -> list[Outcome]:
    """One for each cell of the plan that was selected, in its order, then for those that only the journal knows.

    Rounds decide: a note tells of a cell without any, and the last note counts.
    """
    chosen = set(run.get("selected") or ())
    rounds, notes = by_cell(story.rounds), {note.cell: note for note in story.notes}
    found = []
    for cell in dict.fromkeys((*_planned(run), *rounds, *notes)):
        if cell in rounds:
            found.append(_measured(cell, rounds[cell]))
        elif cell in notes:
            found.append(Outcome(cell, SKIPPED if notes[cell].what == "skipped" else ERROR, notes[cell].text))
        elif not chosen or str(cell) in chosen:
            found.append(Outcome(cell, NOT_RUN, "no round of it was run"))
    return found


def _planned(run: Mapping[str, Any]) -> Iterable[Cell]:
    for data in run.get("cells") or ():
        try:
            yield cell_from_json(data)
        except (KeyError, TypeError, AttributeError, BenchError):
            continue


def _measured(cell: Cell, unordered: Sequence[Round]) -> Outcome:
    rounds = tuple(sorted(unordered, key=lambda round_: round_.index))
    unflagged = [round_ for round_ in rounds if not round_.flags]
    summary = summarise(rounds)
    figures = {round_.index: summary.figures[round_.index] for round_ in unflagged}
    without = summary_of(unflagged, figures) if unflagged and len(unflagged) < len(rounds) else None
    failed = [round_ for round_ in rounds if not round_.success]
    reason = None
    if failed:
        first = f"{'the first, ' if len(failed) > 1 else ''}round {failed[0].index}: {failure(failed[0])}"
        reason = f"{len(failed)} of {len(rounds)} rounds failed; {first}"
    return Outcome(cell, FAILED if failed else PASSED, reason, rounds, summary, without)


def failure(round_: Round) -> str | None:
    """What went wrong in a round, in words; None if nothing did."""
    if round_.success:
        return None
    bad = [f"{transfer.node}: {transfer.outcome}" for transfer in round_.transfers if transfer.outcome != OK]
    return round_.failure or ", ".join(bad) or f"only {len(round_.transfers)} transfers were recorded"


def block_of(cells: Sequence[Cell]) -> Block:
    """The block that these cells, alike but for the variant, make up."""
    first = cells[0]
    variants = tuple(cell.shape.variant for cell in cells)
    return Block(
        first.shape.nodes, first.seeders, first.size, first.shape.link, variants, first.kind, first.disturbance
    )


def by_block(found: Iterable[Outcome]) -> dict[Block, list[Outcome]]:
    """Outcomes that are compared with each other, together; smaller clusters first, systems in the plan's order."""
    groups: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in found:
        cell = outcome.cell
        key = (cell.kind, cell.shape.link or 0, cell.shape.nodes, cell.seeders, cell.size, cell.disturbance)
        groups.setdefault(key, []).append(outcome)
    ordered = (groups[key] for key in sorted(groups))
    return {block_of([outcome.cell for outcome in group]): group for group in ordered}


def viewed(summary: Summary, metric: str) -> tuple[str, Interval] | None:
    """A metric that depends on the view, such as ``t50_s``: its full name, and what was measured; None if nothing was.

    What was available counts; what was contiguous only where the node does not tell the former.
    """
    names = (f"{view}.{metric}" for view in VIEWS)
    return next(((name, summary.intervals[name]) for name in names if name in summary.intervals), None)
