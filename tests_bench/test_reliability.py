"""Dissemination while something happens to the swarm: each disturbance is a cell of its own."""

import pytest

from pytest_codexbench.metrics import summarise
from pytest_codexbench.records import Round


@pytest.mark.experiment("reliability")
def test_reliability(rounds: list[Round]) -> None:
    """It happened in every round, and every leecher has every byte, checked, all the same."""
    summary = summarise(rounds)
    void = sum(round_.void is not None for round_ in rounds)

    if failed := summary.rounds - summary.succeeded:
        told = f"{failed} of {summary.rounds} rounds failed" + (f", {void} of them void" if void else "")
        pytest.fail("\n".join([told, *summary.failures]), pytrace=False)
