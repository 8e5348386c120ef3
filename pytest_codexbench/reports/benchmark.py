"""The rounds in pytest-benchmark's own format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pytest_codexbench.metrics import Summary, by_cell, summarise
from pytest_codexbench.records import Round, cell_to_json
from pytest_codexbench.reports.outcomes import viewed
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import speed_mb_s

if TYPE_CHECKING:
    from pytest_benchmark.stats import Metadata

VIEWED = ("t50_s", "t90_s", "ttfb_s")
OPTIONS = {"disable_gc": False, "timer": "external", "max_time": 0.0, "min_time": 0.0, "warmup": False}


def document(told: Told) -> str:
    """The text of ``benchmark.json``, which ``pytest-benchmark compare`` reads."""
    import pytest_benchmark

    run = told.run
    environment = run.get("environment") or {}
    cells = [(outcome.summary, outcome.rounds) for outcome in told.measured if outcome.summary]
    document = {
        "machine_info": {**environment.get("machine", {}), "release": environment.get("kernel")},
        # the shape is pytest-benchmark's; what was measured is no commit of the folder that pytest ran in
        "commit_info": {
            "id": "unversioned",
            "time": None,
            "project": "codexbench",
            "branch": "(unknown)",
            "dirty": False,
        },
        "benchmarks": [_plain(entry) for each in cells for entry in _of_cell(*each)],
        "datetime": run.get("started_at"),
        "version": pytest_benchmark.__version__,
        "codexbench": {key: run.get(key) for key in ("id", "matrix", "plan_hash", "seed", "rounds", "backend")},
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _plain(entry: Any) -> Any:
    return entry.as_dict()


def entries(rounds: Iterable[Round]) -> list[Metadata]:
    """One for each cell and time, of the rounds that succeeded; none where no round did.

    They may be appended to ``benchmarks`` of pytest-benchmark's session.
    """
    return [entry for group in by_cell(rounds).values() for entry in _of_cell(summarise(group), group)]


def _of_cell(summary: Summary, rounds: Sequence[Round]) -> Iterable[Metadata]:
    figures = [summary.figures[round_.index] for round_ in rounds if round_.success]
    for metric in _metrics(summary):
        values = [value for each in figures if (value := each.get(metric)) is not None and math.isfinite(value)]
        if values:
            yield _entry(summary, metric, values)


def _metrics(summary: Summary) -> list[str]:
    if summary.cell.kind == "upload":
        return ["publish_s"]
    return ["t100_s", *(found[0] for metric in VIEWED if (found := viewed(summary, metric)))]


def _entry(summary: Summary, metric: str, values: Sequence[float]) -> Metadata:
    from pytest_benchmark.stats import Metadata

    make: Any = Metadata  # pytest-benchmark carries no annotations
    name = f"test_{summary.cell.kind}[{summary.cell}]"
    told = cell_to_json(summary.cell)
    settings = told.pop("settings")
    fixture = SimpleNamespace(
        name=f"{name} {metric}",
        fullname=f"{name}::{metric}",
        group=metric,
        param=str(summary.cell),
        # what `--benchmark-group-by=param:system` asks for
        params={key: told[key] for key in ("system", "variant", "nodes", "seeders", "size_text", "link")},
        extra_info={**told, "settings": settings, **_more(summary, metric)},
        cprofile_stats=None,
        has_error=False,
    )
    entry: Metadata = make(fixture, iterations=1, options={**OPTIONS, "min_rounds": len(values)})
    entry.stats.data.extend(values)
    return entry


def _more(summary: Summary, metric: str) -> dict[str, Any]:
    """What pytest-benchmark has no column for; of all rounds, so null where too many failed."""
    interval = summary.intervals[metric]
    limits = [value if math.isfinite(value) else None for value in (interval.low, interval.high)]
    return {
        "metric": metric,
        "failed_rounds": summary.rounds - summary.succeeded,
        "mb_s": speed_mb_s(summary),
        "interval": limits,
        "interval_level": interval.level,
    }
