"""A comparison's ratios for github-action-benchmark."""

from __future__ import annotations

import math

from pytest_codexbench.reports.compare import Match
from pytest_codexbench.reports.compare.words import verdict_words
from pytest_codexbench.reports.trend import entry, trend_text


def document(match: Match) -> str:
    """An array for its tool ``customSmallerIsBetter``; a cell without a finite ratio has no entry."""
    return trend_text(
        entry(
            f"{contrast.subject.cell} {contrast.metric} ratio",
            "ratio",
            contrast.ratio,
            f"{match.subject.label} / {match.reference.label}; {verdict_words(contrast, match.margin) or 'no verdict'}",
        )
        for contrast in match.contrasts
        if contrast.ratio and math.isfinite(contrast.ratio.median)
    )
