"""A comparison as CSV, a row a cell."""

from __future__ import annotations

from pytest_codexbench.reports.compare import Match
from pytest_codexbench.reports.compare.data import rows
from pytest_codexbench.reports.rows import csv_text


def document(match: Match) -> str:
    """With a line of names; ``inf`` is what was not reached, an empty field what is not known."""
    return csv_text(rows(match))
