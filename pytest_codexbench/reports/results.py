"""The whole run as ``results.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from pytest_codexbench.metrics import HEADLINE, Figures, Summary, of_transfer
from pytest_codexbench.records import OK, Meeting, Round, Transfer, cell_to_json
from pytest_codexbench.reports import reliability
from pytest_codexbench.reports.comparisons import (
    FAIL,
    INCONCLUSIVE,
    MARGINS,
    PASS,
    Comparison,
    Standing,
)
from pytest_codexbench.reports.outcomes import Outcome, failure
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import speed_mb_s
from pytest_codexbench.stats import LEVEL, Interval


def document(told: Told) -> str:
    """The text of ``results.json``."""
    return json.dumps(results_document(told), indent=1, allow_nan=False) + "\n"


def results_document(told: Told) -> dict[str, Any]:
    """Plain data as ``results_model.Results`` defines it: finite numbers only.

    Raises:
        pydantic.ValidationError: if the run's provenance is not what its keys promise.
    """
    from pytest_codexbench.reports.results_model import SCHEMA, Results

    places = _Places()
    document = {
        **reliability.document(told),
        "schema": SCHEMA,
        "run": _finite({key: value for key, value in told.run.items() if key not in ("cells", "schema")}),
        "cells": [_cell(outcome, places) for outcome in told.found],
        "environments": places.found,
        "comparisons": [_comparison(list(group)) for _, group in groupby(told.compared, lambda one: one.block)],
        "standings": [_standing(standing) for standing in told.standings],
        "meetings": [_meeting(meeting, places) for meeting in told.story.meetings],
        "warmups": sum(round_.warmup for round_ in told.story.rounds),
        "problems": list(told.story.problems),
    }
    return Results.model_validate(document).model_dump(mode="json", by_alias=True)


def _meeting(meeting: Meeting, places: _Places) -> dict[str, Any]:
    data = _finite(meeting.to_json())
    data["environment"] = places.position(meeting)
    return {key: value for key, value in data.items() if key not in ("kind", "schema")}


class _Places:
    """Each environment once, however many rounds were run in it."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._positions: dict[str, int] = {}

    def position(self, round_: Round | Meeting) -> int:
        data = _finite(round_.environment.to_json())
        key = json.dumps(data, sort_keys=True)
        if key not in self._positions:
            self._positions[key] = len(self.found)
            self.found.append(data)
        return self._positions[key]


def _cell(outcome: Outcome, places: _Places) -> dict[str, Any]:
    cell, summary = outcome.cell, outcome.summary
    return {
        **cell_to_json(cell),
        "leechers": cell.leechers,
        "status": outcome.status,
        "reason": outcome.reason,
        "headline": HEADLINE[cell.kind],
        "mb_s": speed_mb_s(summary) if summary else None,
        "flagged_rounds": summary.flagged if summary else 0,
        "rounds": [_round(each, summary.figures[each.index], places) for each in outcome.rounds] if summary else [],
        "summary": _intervals(summary) if summary else {},
        "without_flagged": _intervals(outcome.unflagged) if outcome.unflagged else None,
        "reliability": _reliability(outcome, summary) if summary else None,
        "drift": {"rho": summary.drift, "flagged": outcome.drifts} if summary else None,
    }


def _reliability(outcome: Outcome, summary: Summary) -> dict[str, Any]:
    low, high = summary.reliability
    kind = outcome.cell.moves
    measured = [transfer for round_ in outcome.rounds for transfer in round_.transfers if transfer.kind == kind]
    wanted = outcome.cell.leechers if kind == "download" else 1
    return {
        "succeeded": summary.succeeded,
        "attempted": summary.rounds,
        "low": low,
        "high": high,
        "level": LEVEL,
        "transfers_ok": sum(transfer.outcome == OK for transfer in measured),
        # what never began was attempted too
        "transfers_attempted": wanted * summary.rounds,
    }


def _round(round_: Round, figures: Figures, places: _Places) -> dict[str, Any]:
    return {
        "index": round_.index,
        "success": round_.success,
        "failure": failure(round_),
        "flags": list(round_.flags),
        "started_at": round_.started_at,
        "seed": round_.seed,
        "seeders": list(round_.seeders),
        "handle": round_.handle,
        "digest": round_.digest,
        "deadline_s": round_.deadline_s,
        "cold_cache": round_.cold_cache,
        "paired": round_.paired,
        "also_ran": list(round_.also_ran),
        "environment": places.position(round_),
        **_figures(figures),
        "transfers": [_transfer(transfer) for transfer in round_.transfers],
    }


def _transfer(transfer: Transfer) -> dict[str, Any]:
    # an upload has no arrival of bytes, so no times to any part of them
    figures = transfer.seconds if transfer.kind == "upload" else of_transfer(transfer)
    told = {"node": transfer.node, "kind": transfer.kind, "outcome": transfer.outcome, "error": transfer.error}
    return {**told, **_figures(figures)}


def _figures(figures: Figures | Mapping[str, float]) -> dict[str, Any]:
    known = {name: value for name, value in figures.items() if value is not None}
    return {
        "figures": {name: value for name, value in known.items() if math.isfinite(value)},
        "not_reached": [name for name, value in known.items() if not math.isfinite(value)],
    }


def _intervals(summary: Summary) -> dict[str, Any]:
    return {name: interval_data(interval) for name, interval in summary.intervals.items()}


def interval_data(interval: Interval | None) -> dict[str, Any] | None:
    """An interval as the document has it."""
    if interval is None:
        return None
    return {
        "reached": math.isfinite(interval.median),
        "median": _known(interval.median),
        "low": _known(interval.low),
        "high": _known(interval.high),
        "level": interval.level,
        "count": interval.count,
    }


def _comparison(group: Sequence[Comparison]) -> dict[str, Any]:
    block = group[0].block
    return {
        "block": str(block),
        "kind": block.kind,
        "nodes": block.nodes,
        "seeders": block.seeders,
        "size": block.size,
        "link": block.link,
        "metric": group[0].metric,
        "reference": group[0].reference.system,
        "subjects": [_subject(comparison) for comparison in group],
    }


def _subject(comparison: Comparison) -> dict[str, Any]:
    return {
        "cell": str(comparison.subject),
        "variant": comparison.subject.system,
        "ratio": interval_data(comparison.ratio),
        "without_flagged": interval_data(comparison.without_flagged),
        "pairs": comparison.pairs,
        "neither": comparison.neither,
        "paired_in_time": comparison.paired_in_time,
        "verdicts": [{"margin": margin, "verdict": comparison.verdict(margin)} for margin in MARGINS],
        "word": comparison.word,
        "note": comparison.note,
    }


def _standing(standing: Standing) -> dict[str, Any]:
    worst = standing.worst
    return {
        "subject": standing.subject,
        "reference": standing.reference,
        "kind": standing.kind,
        "blocks": len(standing.comparisons),
        "geometric_mean": _known(standing.geometric_mean),
        "worst_block": str(worst.block),
        "worst_ratio": _known(worst.ratio.median) if worst.ratio else None,
        "margins": [
            {
                "margin": margin,
                "passed": standing.count(margin, PASS),
                "failed": standing.count(margin, FAIL),
                "inconclusive": standing.count(margin, INCONCLUSIVE),
                "failing": [str(comparison.block) for comparison in standing.failing(margin)],
            }
            for margin in MARGINS
        ],
    }


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _finite(value: Any) -> Any:
    """The same plain data with null in place of what JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
