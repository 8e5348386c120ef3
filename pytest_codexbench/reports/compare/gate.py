"""Whether a comparison shuts the gate of a CI job."""

from __future__ import annotations

import math

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.reports.compare import Match
from pytest_codexbench.reports.comparisons import FAIL, PASS
from pytest_codexbench.stats import LEVEL

GATES = ("never", "confirmed", "regression", "inconclusive")
"""What ``--fail-on`` may be, each stricter than the one before."""


def shut(match: Match, gate: str) -> bool:
    """Whether the gate is shut: ``GATES`` as ``docs/comparing.md`` has them.

    Raises:
        WrongInput: if too few rounds were run for it ever to be, so that an open gate would say nothing.
    """
    if gate == "never":
        return False
    if gate == "inconclusive":
        return match.every_cell != PASS
    if not any(contrast.ratio and contrast.ratio.level for contrast in match.judged):
        raise WrongInput(
            f"--fail-on={gate}: no cell has enough rounds for a verdict (6 where they are paired, 7 a side where not), "
            "so nothing could ever fail; measure more rounds, or use --fail-on=inconclusive"
        )
    if gate == "regression":
        return match.count(FAIL) > 0
    cells = len(match.judged)
    if cells * min(contrast.least_chance for contrast in match.judged) > 1 - LEVEL:
        raise WrongInput(
            f"--fail-on={gate}: to name one of {cells} cells for sure takes more rounds than these "
            f"({math.ceil(math.log2(cells / (1 - LEVEL)))} where they are paired), so nothing could ever fail; "
            "measure more rounds, or use --fail-on=regression"
        )
    return bool(match.confirmed)
