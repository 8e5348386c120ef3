"""What would run, for ``--cb-plan``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_codexbench.backends import Room
from pytest_codexbench.forecast import Experience, Forecast, bytes_text, duration_text
from pytest_codexbench.matrix import Cell
from pytest_codexbench.options import SOAK_ROUNDS
from pytest_codexbench.plan import Plan

MOST_LISTED = 100


def plan_lines(told: Forecast, cells: Sequence[Cell], plan: Plan, known: Experience, room: Room) -> Iterator[str]:
    """The plan in words, a line a figure."""
    listed = [str(cell) for cell in cells[:MOST_LISTED]]
    yield f"plan {plan.hash}: matrix {plan.matrix}, seed {plan.seed}; nothing is run"
    yield f"  cells       {told.cells}" + (
        f", and {sum(told.skipped.values())} that cannot run here" if told.skipped else ""
    )
    soak = plan.rounds >= SOAK_ROUNDS
    each = told.rounds // plan.rounds if soak else told.rounds
    yield f"  rounds      {'as many as --cb-budget has time for' if soak else f'{told.rounds} ({plan.rounds} a cell)'}"
    moved = told.moved * each // max(1, told.rounds)
    yield f"  bytes       {bytes_text(moved)} over the links{' with each round of all cells' if soak else ''}"
    free = "claimed as it is needed" if room.disk is None else f"{bytes_text(room.disk)} free in {room.where}"
    yield f"  disk        {bytes_text(told.disk)} at the most at one time; {free}"
    yield f"  memory      {bytes_text(told.memory)} at the most at one time; {bytes_text(room.memory)} free"
    if plan.backend == "kubernetes":
        yield f"  Pods        {told.programs} at the most at one time"
    basis = "the rates of earlier runs here" if known.mb_per_s else "built-in rates: a run of smoke tells better ones"
    if not soak:
        yield f"  time        about {duration_text(told.seconds)}, by {basis}"
    for why, count in told.skipped.items():
        yield f"  cannot run  {count}: {why}"
    yield from (f"  {text}" for text in listed)
    if len(cells) > MOST_LISTED:
        yield f"  and {len(cells) - MOST_LISTED} more"
