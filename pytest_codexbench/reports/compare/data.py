"""A comparison as JSON, and as the plain rows that a sheet of it has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from pytest_codexbench.metrics import MORE_IS_BETTER, unit_of
from pytest_codexbench.reports.compare import Match, Mean
from pytest_codexbench.reports.compare.sides import Side
from pytest_codexbench.reports.compare.words import finding, notes
from pytest_codexbench.stats import Interval

SCHEMA = 1


def document(match: Match) -> str:
    """One object; an infinite ratio is null and not ``reached``, and where there is none ``reached`` is null too."""
    told = {
        "schema": SCHEMA,
        "reference": _side(match.reference),
        "subject": _side(match.subject),
        "margin": match.margin,
        "every_cell": match.every_cell,
        "finding": finding(match),
        "means": [_mean(mean) for mean in match.means],
        "cells": [{**row, "without_flagged": _interval(clean)} for row, clean in _with_clean(match)],
        "missing_in_subject": [str(cell) for cell in match.missing_in_subject],
        "missing_in_reference": [str(cell) for cell in match.missing_in_reference],
        "differences": [
            {"what": one.what, "reference": one.reference, "subject": one.subject, "place": one.place}
            for one in match.differences
        ],
        "notes": list(notes(match)),
    }
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def rows(match: Match) -> Iterator[dict[str, Any]]:
    """A row a cell; infinite figures as they are, None where there is none."""
    confirmed = match.confirmed
    for contrast, chance in zip(match.contrasts, match.corrected(), strict=True):
        block, ratio = contrast.block, contrast.ratio
        yield {
            "cell": str(contrast.subject.cell),
            "reference_cell": str(contrast.reference.cell),
            "kind": block.kind,
            "nodes": block.nodes,
            "seeders": block.seeders,
            "size": block.size,
            "link": block.link,
            "metric": contrast.metric,
            "unit": unit_of(contrast.metric),
            "better": "more" if contrast.metric in MORE_IS_BETTER else "less",
            "paired": contrast.paired,
            "reference_rounds": contrast.reference.rounds,
            "reference_succeeded": contrast.reference.succeeded,
            "reference_median": contrast.reference.centre(contrast.metric),
            "subject_rounds": contrast.subject.rounds,
            "subject_succeeded": contrast.subject.succeeded,
            "subject_median": contrast.subject.centre(contrast.metric),
            "ratio": ratio.median if ratio else None,
            "low": ratio.low if ratio else None,
            "high": ratio.high if ratio else None,
            "level": ratio.level if ratio else None,
            "count": ratio.count if ratio else 0,
            "neither": contrast.neither,
            "margin": match.margin,
            "verdict": contrast.verdict(match.margin),
            "leaning": contrast.leaning or None,
            "p_holm": chance,
            "confirmed": contrast in confirmed,
            "note": contrast.note,
        }


def _with_clean(match: Match) -> Iterator[tuple[dict[str, Any], Interval | None]]:
    for row, contrast in zip(rows(match), match.contrasts, strict=True):
        reached = math.isfinite(contrast.ratio.median) if contrast.ratio else None
        yield {**{name: _finite(value) for name, value in row.items()}, "reached": reached}, contrast.clean


def _mean(mean: Mean) -> dict[str, Any]:
    worst = mean.worst
    return {
        "metric": mean.metric,
        "cells": len(mean.contrasts),
        "geometric_mean": _finite(mean.geometric),
        "worst_cell": str(worst.subject.cell),
        "worst_ratio": _finite(worst.ratio.median) if worst.ratio else None,
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    told = {name: getattr(interval, name) for name in ("median", "low", "high", "level", "count")}
    return {name: _finite(value) for name, value in told.items()}


def _side(side: Side) -> dict[str, Any]:
    told = {key: side.run.get(key) for key in ("matrix", "plan_hash", "seed", "started_at", "ended_at")}
    return {"id": side.folder.name, "system": side.system, **told}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
