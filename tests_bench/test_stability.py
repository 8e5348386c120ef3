"""A soak: one file after the other on one cluster, until the budget ends."""

import pytest

from pytest_codexbench.metrics import summarise
from pytest_codexbench.records import Round


@pytest.mark.experiment("stability")
def test_stability(rounds: list[Round]) -> None:
    """Every leecher has every byte of every file, checked; how speed, memory and disk drift is in the report."""
    summary = summarise(rounds)

    if failed := summary.rounds - summary.succeeded:
        pytest.fail(f"{failed} of {summary.rounds} rounds failed\n" + "\n".join(summary.failures), pytrace=False)
