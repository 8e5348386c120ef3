"""Publish: one node turns a file on its disk into a handle that another node can fetch."""

import pytest

from pytest_codexbench.metrics import summarise
from pytest_codexbench.records import Round


@pytest.mark.experiment("upload")
def test_upload(rounds: list[Round]) -> None:
    """The file is published, and another node fetches it whole, in every round."""
    summary = summarise(rounds)

    if failed := summary.rounds - summary.succeeded:
        pytest.fail(f"{failed} of {summary.rounds} rounds failed\n" + "\n".join(summary.failures), pytrace=False)
