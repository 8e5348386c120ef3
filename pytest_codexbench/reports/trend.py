"""A run for the trend pages of github-action-benchmark."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.metrics import MORE_IS_BETTER, Summary, unit_of
from pytest_codexbench.records import Story
from pytest_codexbench.reports.outcomes import outcomes, viewed
from pytest_codexbench.reports.wording import count, number, spread
from pytest_codexbench.stats import Interval

TOOLS = {True: "customBiggerIsBetter", False: "customSmallerIsBetter"}
"""What its input ``tool`` must say, by whether more is better."""


def tool_of(metrics: Sequence[str]) -> str:
    """The tool whose array these metrics make; without any, cells are told by their times.

    Raises:
        WrongInput: if of some more is better, and of others less: one array is either.
    """
    kinds = {metric in MORE_IS_BETTER for metric in metrics} or {False}
    if len(kinds) > 1:
        more = sorted(MORE_IS_BETTER & set(metrics))
        raise WrongInput(
            f"--metric={','.join(metrics)}: of {', '.join(more)} more is better: an array of their own is needed"
        )
    return TOOLS[kinds.pop()]


def document(story: Story, run: Mapping[str, Any], metrics: Sequence[str] = ()) -> str:
    """An array of medians; what was not reached has no entry.

    Raises:
        WrongInput: if one array cannot hold these metrics, or no cell has any of them.
    """
    tool_of(metrics)
    summaries = [outcome.summary for outcome in outcomes(story, run) if outcome.summary]
    found = [one for summary in summaries for metric in metrics or [summary.headline] for one in _of(summary, metric)]
    if metrics and not found:
        known = sorted({name for summary in summaries for name in summary.intervals})
        raise WrongInput(f"--metric={','.join(metrics)}: no cell tells it; there are {', '.join(known) or 'no cells'}")
    return trend_text(found)


def _of(summary: Summary, metric: str) -> Iterable[dict[str, Any]]:
    exact = (metric, summary.intervals[metric]) if metric in summary.intervals else viewed(summary, metric)
    if exact and math.isfinite(exact[1].median):
        name, interval = exact
        extra = f"{summary.succeeded} of {count(summary.rounds, 'round')} succeeded"
        yield entry(f"{summary.cell} {name}", unit_of(name), interval, extra)


def entry(name: str, unit: str, interval: Interval, extra: str) -> dict[str, Any]:
    """One benchmark as the action reads it; ``range`` is the interval, or says that it is only a range."""
    return {
        "name": name,
        "unit": unit,
        "value": interval.median,
        "range": spread(interval) or number(interval.median),
        "extra": extra,
    }


def trend_text(entries: Iterable[dict[str, Any]]) -> str:
    """The array."""
    return json.dumps(list(entries), indent=1, allow_nan=False) + "\n"
