"""Whatever ends a run: nothing is left behind, nothing recorded is lost, and it can be gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from benches import LEAN, Bench

from pytest_codexbench.records import read_journal

SLOW = """
shapes = [[3, 1]]
sizes = ["8MB"]
rounds = 2
links = ["100mbit"]
[systems.bittorrent]
[systems.http]
"""


class Running:
    """A pytest in a process group of its own, with a data folder that marks all of its processes."""

    def __init__(self, bench: Bench, *arguments: str) -> None:
        # pytest's own folders are too deep for sockets
        self.data = Path(tempfile.mkdtemp(prefix="cb"))
        self.results = bench.pytester.path / "results"
        argv = [sys.executable, "-m", "pytest", "--matrix=mine.toml", f"--cb-data={self.data}", *LEAN, *arguments]
        self.log = bench.pytester.path / f"log{time.monotonic_ns()}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                argv, cwd=bench.pytester.path, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def journal(self) -> Path | None:
        """The records, once there are any."""
        return next(self.results.glob("*/records.jsonl"), None)

    def rounds(self) -> list[tuple[str, int]]:
        """Cell and index of each recorded round, as often as it is there."""
        if self.journal is None:
            return []
        return [(str(round_.cell), round_.index) for round_ in read_journal(self.journal).measured()]

    def wait_for_rounds(self, count: int) -> None:
        """Until that many rounds are recorded and the next one runs."""
        deadline = time.monotonic() + 60
        while len(self.rounds()) < count or not self.family():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        time.sleep(0.3)

    def family(self) -> list[str]:
        """The command lines of all processes of its clusters."""
        found = []
        for status in Path("/proc").glob("[0-9]*/environ"):
            try:
                if str(self.data).encode() in status.read_bytes():
                    found.append((status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def assert_nothing_is_left(self) -> None:
        """Soon after the end there is no process and no data of its clusters."""
        deadline = time.monotonic() + 15
        while self.family() or any(self.data.iterdir()):
            assert time.monotonic() < deadline, (self.family(), [path.name for path in self.data.iterdir()])
            time.sleep(0.1)
        self.data.rmdir()


@pytest.fixture
def slow(bench: Bench) -> Bench:
    """Rounds of a few seconds, so that there is a middle to be hit."""
    bench.matrix(SLOW)
    return bench


def resumed(bench: Bench, *arguments: str) -> Running:
    """Go on with the run, to its end."""
    again = Running(bench, "--cb-resume=latest", *arguments)
    again.process.wait(120)
    assert 0 == again.process.returncode, again.log.read_text()
    again.assert_nothing_is_left()
    return again


def assert_each_round_once(running: Running) -> None:
    """All rounds of both cells, each once, and nothing unreadable."""
    cells = ("bittorrent-n03-s01-8MB-at100m", "http-n03-s01-8MB-at100m")
    assert {(cell, index): 1 for cell in cells for index in range(2)} == dict(Counter(running.rounds()))
    assert running.journal is not None
    assert () == read_journal(running.journal).problems


def test_killed_in_the_middle_and_resumed(slow: Bench) -> None:
    """After SIGKILL nothing is left, recorded rounds are kept, and the resumed run measures just the others."""
    first = Running(slow)
    first.wait_for_rounds(1)

    first.process.kill()
    first.process.wait()

    first.assert_nothing_is_left()
    kept = first.rounds()
    assert 1 <= len(kept) < 4
    again = resumed(slow)
    assert kept == again.rounds()[: len(kept)]
    assert_each_round_once(again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_and_resumed(slow: Bench, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a terminal that closes take the clusters down, write the documents, and say how to go on."""
    first = Running(slow)
    first.wait_for_rounds(1)

    first.process.send_signal(number)
    first.process.wait(60)

    assert pytest.ExitCode.INTERRUPTED == first.process.returncode
    first.assert_nothing_is_left()
    said = first.log.read_text()
    assert "Interrupted." in said
    assert "--cb-resume=" in said
    assert slow.results()["cells"]
    assert_each_round_once(resumed(slow))


def test_a_killed_worker_leaves_nothing(slow: Bench) -> None:
    """When pytest is killed while its xdist workers measure, they and their clusters end too."""
    first = Running(slow, "-n", "2")
    first.wait_for_rounds(1)

    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()

    first.assert_nothing_is_left()
    assert_each_round_once(resumed(slow, "-n", "2"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_workers_take_their_clusters_down(slow: Bench, number: signal.Signals) -> None:
    """A signal to pytest alone, as a CI system sends it, reaches its workers: each ends its clusters in good order."""
    first = Running(slow, "-n", "2")
    first.wait_for_rounds(1)

    first.process.send_signal(number)
    first.process.wait(60)

    first.assert_nothing_is_left()
    (log,) = first.results.glob("*/logs/http-n03-at100m/warden.log")
    assert "Traceback" not in log.read_text()
    assert "Interrupted." in first.log.read_text()
    assert_each_round_once(resumed(slow, "-n", "2"))


def test_two_runs_in_one_folder_at_once_are_refused(slow: Bench) -> None:
    """A run that is still going on cannot be resumed beside itself."""
    first = Running(slow)
    first.wait_for_rounds(1)

    second = Running(slow, "--cb-resume=latest")
    second.process.wait(60)

    assert pytest.ExitCode.USAGE_ERROR == second.process.returncode
    assert "another pytest is writing to this run" in second.log.read_text()
    second.assert_nothing_is_left()
    first.process.send_signal(signal.SIGINT)
    first.process.wait(60)
    first.assert_nothing_is_left()
