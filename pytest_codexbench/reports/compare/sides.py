"""Which two sides are held against each other: runs, or systems of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Cell
from pytest_codexbench.metrics import by_cell
from pytest_codexbench.records import JOURNAL, Round, read_journal
from pytest_codexbench.run import read_provenance

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One side: a run's folder, or one system of it; ``notes`` are what could not be read."""

    folder: Path
    system: str | None
    run: Mapping[str, Any]
    rounds: tuple[Round, ...]
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The run's folder by its name, and the system if it is only one."""
        return self.folder.name + (f":{self.system}" if self.system else "")

    @property
    def cells(self) -> dict[Cell, list[Round]]:
        """Measured rounds by cell, in the order of the matrix."""
        return {cell: rounds for cell, rounds in by_cell(self.rounds).items() if self.system in (None, cell.system)}

    @property
    def systems(self) -> tuple[str, ...]:
        """All systems of the run that were measured."""
        return tuple(dict.fromkeys(round_.cell.system for round_ in self.rounds))


def sides(words: Sequence[str]) -> tuple[Side, Side]:
    """The reference and the subject that the words of a command name.

    Two words are ``FOLDER`` or ``FOLDER:SYSTEM`` each; three are a folder and two systems of it.

    Raises:
        WrongInput: naming the word, what is wrong with it, and what would be right.
    """
    if len(words) == 3:
        words = [f"{words[0]}:{system}" for system in words[1:]]
    if len(words) != 2:
        raise WrongInput(f"compare takes two runs, or a run and two of its systems, not {' '.join(words) or 'nothing'}")
    reference, subject = _alike(*(_side(word) for word in words))
    if reference.folder.samefile(subject.folder) and reference.system == subject.system:
        found = " ".join((reference.systems * 2)[:2])
        raise WrongInput(
            f"{reference.label} against itself says nothing; two systems of one run: "
            f"codexbench compare {words[0].removesuffix(f':{reference.system}')} {found}"
        )
    return reference, subject


def _side(word: str) -> Side:
    folder, system = Path(word), None
    if not folder.is_dir():
        before, _, after = word.rpartition(":")
        folder, system = (Path(before), after) if before else (folder, None)
    if not folder.is_dir():
        raise WrongInput(
            f"{word}: no such folder; give two runs, as results/<run id> or results/<run id>:<system>, "
            "or one run and two of its systems"
        )
    folder = folder.resolve()
    if not (folder / JOURNAL).is_file():
        runs = sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL}"))
        hint = f"; give one of the runs in it: {_named(runs)}" if runs else "; give the folder of a run"
        raise WrongInput(f"{word}: no {JOURNAL} in it{hint}")
    story = read_journal(folder / JOURNAL)
    notes = [f"{folder.name}: {problem}" for problem in story.problems]
    run: Mapping[str, Any] = {}
    try:
        run = read_provenance(folder)
    except WrongInput as error:
        notes.append(f"{folder.name}: its provenance is lost ({error})")
    side = Side(folder, system, run, tuple(story.measured()), tuple(notes))
    if not side.rounds:
        raise WrongInput("; ".join([f"{word}: no round was measured in it", *notes[:1]]))
    if system is not None and system not in side.systems:
        raise WrongInput(f"{word}: no round of {system!r} in {folder.name}; it has {_named(side.systems)}")
    return side


def _alike(reference: Side, subject: Side) -> tuple[Side, Side]:
    """Where one side is of one system, so is the other: the same, or its only one."""
    if reference.system is None and subject.system is not None:
        return _narrowed(reference, subject.system), subject
    if subject.system is None and reference.system is not None:
        return reference, _narrowed(subject, reference.system)
    return reference, subject


def _narrowed(side: Side, system: str) -> Side:
    if system in side.systems:
        return replace(side, system=system)
    if len(side.systems) == 1:
        return replace(side, system=side.systems[0])
    raise WrongInput(
        f"{side.label}: no round of {system!r} in it, and several of others; say which, as "
        f"{side.folder.name}:{side.systems[0]}; it has {_named(side.systems)}"
    )


def _named(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
