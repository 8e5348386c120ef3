"""How a file arrives in one cell: the median leecher's course, and how far the others are from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_codexbench.matrix import Variant
from pytest_codexbench.records import OK, Round, Transfer
from pytest_codexbench.stats import median

PERCENTS = range(101)
# The band leaves out this share of the transfers at either side.
TAIL = 0.1


@dataclass(frozen=True, slots=True)
class Arrival:
    """Seconds to each whole percent of the file in one view, 0 being the first byte; infinite: not reached.

    ``middle`` is the median over the rounds of each round's median leecher, so at 50 it is the cell's ``t50_s``;
    ``early`` and ``late`` hold the middle 80 % of all transfers, failed ones too.
    """

    view: str
    middle: tuple[float, ...]
    early: tuple[float, ...]
    late: tuple[float, ...]


def arrival(rounds: Sequence[Round], view: str) -> Arrival | None:
    """The course of all rounds of a cell in one view; None where no transfer was seen in it."""
    if not any(view in transfer.timelines for round_ in rounds for transfer in _downloads(round_)):
        return None
    by_round = [_courses(round_, view) for round_ in rounds]
    middles = [[median(at) for at in zip(*courses, strict=True)] for courses in by_round]
    every = [sorted(at) for at in zip(*(course for courses in by_round for course in courses), strict=True)]
    last = len(every[0]) - 1
    return Arrival(
        view=view,
        middle=tuple(median(at) for at in zip(*middles, strict=True)),
        early=tuple(at[round(TAIL * last)] for at in every),
        late=tuple(at[round((1 - TAIL) * last)] for at in every),
    )


def _downloads(round_: Round) -> Iterable[Transfer]:
    return (transfer for transfer in round_.transfers if transfer.kind == "download")


def _courses(round_: Round, view: str) -> list[Sequence[float]]:
    """A course for each leecher that the round should have had."""
    nothing = [math.inf] * len(PERCENTS)
    found: list[Sequence[float]] = [
        transfer.timelines[view].course(PERCENTS) if view in transfer.timelines else nothing
        for transfer in _downloads(round_)
    ]
    # the last bytes of a transfer that failed were not the right ones, if they came at all
    ended = [transfer.outcome == OK for transfer in _downloads(round_)]
    courses: list[Sequence[float]] = [
        course if good else [*course[:-1], math.inf] for course, good in zip(found, ended, strict=True)
    ]
    return courses + [nothing] * (round_.cell.leechers - len(courses))


def in_order(variant: Variant) -> bool:
    """Whether a system fetches the file from its start, so that what it has in order says how fast it is.

    Named here, not asked of the system: documents are made from a run's files, on machines that may not have it.
    """
    return variant.system != "bittorrent" or variant.setting("profile") == "streaming"
