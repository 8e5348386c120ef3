"""Dissemination: leechers fetch one file from the seeders, all at the same moment."""

import pytest

from pytest_codexbench.metrics import summarise
from pytest_codexbench.records import Round


@pytest.mark.experiment("download")
def test_download(rounds: list[Round]) -> None:
    """Every leecher has every byte, checked, before the deadline, in every round."""
    summary = summarise(rounds)

    if failed := summary.rounds - summary.succeeded:
        pytest.fail(f"{failed} of {summary.rounds} rounds failed\n" + "\n".join(summary.failures), pytrace=False)
