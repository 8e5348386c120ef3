"""A run as tidy rows, for people with notebooks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_codexbench.matrix import Cell
from pytest_codexbench.metrics import MORE_IS_BETTER, Summary, unit_of
from pytest_codexbench.records import Story
from pytest_codexbench.reports.outcomes import Outcome, outcomes

Row = Mapping[str, Any]
Columns = Mapping[str, type]

CELL: Columns = {
    "run": str,
    "cell": str,
    "kind": str,
    "variant": str,
    "system": str,
    "nodes": int,
    "seeders": int,
    "leechers": int,
    "size": int,
    "link": int,
}
METRIC: Columns = {"metric": str, "unit": str, "better": str}
CELLS: Columns = {
    **CELL,
    "status": str,
    "rounds": int,
    "succeeded": int,
    "flagged": int,
    **METRIC,
    "median": float,
    "low": float,
    "high": float,
    "level": float,
    "count": int,
}
ROUNDS: Columns = {
    **CELL,
    "round": int,
    "seed": int,
    "started_at": str,
    "success": bool,
    "flags": str,
    **METRIC,
    "value": float,
}
TABLES: Mapping[str, Columns] = {"cells": CELLS, "rounds": ROUNDS}
"""Table by its columns: of ``cells`` a row a cell and metric, of ``rounds`` a row a round and metric."""


def rows(table: str, story: Story, run: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one of ``TABLES``. Infinite: not reached. None: not known, or no limit."""
    make = _of_cell if table == "cells" else _of_rounds
    for outcome in outcomes(story, run):
        if outcome.summary:
            yield from make(outcome, outcome.summary, {"run": run.get("id"), **_cell(outcome.cell)})


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "cell": str(cell),
        "kind": cell.kind,
        "variant": cell.system,
        "system": cell.shape.variant.system,
        "nodes": cell.shape.nodes,
        "seeders": cell.seeders,
        "leechers": cell.leechers,
        "size": cell.size,
        "link": cell.shape.link,
    }


def _metric(name: str) -> dict[str, Any]:
    return {"metric": name, "unit": unit_of(name), "better": "more" if name in MORE_IS_BETTER else "less"}


def _of_cell(outcome: Outcome, summary: Summary, cell: Row) -> Iterator[Row]:
    counts = {"rounds": summary.rounds, "succeeded": summary.succeeded, "flagged": summary.flagged}
    for name, interval in summary.intervals.items():
        told: dict[str, Any] = {one: float(getattr(interval, one)) for one in ("median", "low", "high")}
        told |= {"level": interval.level, "count": interval.count}
        yield {**cell, "status": outcome.status, **counts, **_metric(name), **told}


def _of_rounds(outcome: Outcome, summary: Summary, cell: Row) -> Iterator[Row]:
    for round_ in outcome.rounds:
        facts = {"round": round_.index, "seed": round_.seed, "started_at": round_.started_at}
        facts |= {"success": round_.success, "flags": "; ".join(round_.flags)}
        for name, value in summary.figures[round_.index].items():
            if value is not None:
                yield {**cell, **facts, **_metric(name), "value": float(value)}


def csv_text(found: Iterable[Row], columns: Sequence[str] = ()) -> str:
    """Rows as CSV with a line of names: those of the first row, or ``columns`` where there may be none."""
    rows_ = list(found)
    names = list(columns or rows_[0])
    page = io.StringIO()
    writer = csv.DictWriter(page, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_)
    return page.getvalue()
