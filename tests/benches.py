"""A folder with cell tests and a matrix, in which pytest is run as a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_codexbench.records import Story, read_journal

# Plugins that no run needs would take more than half of the start of each.
UNUSED = ("cacheprovider", "hypothesispytest", "schemathesis", "anyio", "platformdirs")
LEAN = tuple(f"-pno:{plugin}" for plugin in UNUSED)
DOUBLES = Path(__file__).parent / "doubles"

CELLS = """
import pytest

@pytest.mark.experiment("download")
def test_spread(cell, rounds):
    failures = [f"round {r.index}: {r.failure}" for r in rounds if not r.success]
    if failures:
        pytest.fail("; ".join(failures), pytrace=False)
"""

TINY = """
shapes = [[2, 1]]
sizes = ["1MB"]
rounds = 2
[systems.http]
"""


class Bench:
    """A folder with cell tests and a matrix, in which pytest is run."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
        pytester.makepyfile(test_spread=CELLS)
        self.matrix(TINY)

    def matrix(self, text: str) -> None:
        """Write the matrix file that ``run`` uses."""
        (self.pytester.path / "mine.toml").write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with the matrix."""
        return self.pytester.runpytest_subprocess("--matrix=mine.toml", *LEAN, *arguments)

    @property
    def folders(self) -> list[Path]:
        """The folders of all runs."""
        return sorted(path.parent for path in (self.pytester.path / "results").glob("*/run.json"))

    @property
    def folder(self) -> Path:
        """The folder of the only run."""
        (folder,) = self.folders
        return folder

    def story(self) -> Story:
        """The journal of the only run."""
        return read_journal(self.folder / "records.jsonl")

    def results(self) -> dict[str, Any]:
        """``results.json`` of the only run."""
        document: dict[str, Any] = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        return document
