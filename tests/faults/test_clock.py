"""The clock of the machine is stepped in the middle of a run, by whoever keeps it right."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from benches import Bench
from underway import Underway, assert_each_round_once, resumed

from pytest_codexbench.backends.network import isolation

SOURCE = Path(__file__).parents[1] / "doubles" / "stepped_clock.c"
MATRIX = 'shapes = [[2, 1]]\nsizes = ["8MB"]\nrounds = 3\nlinks = ["200mbit"]\n[systems.bittorrent]\n[systems.http]\n'
CELLS = ("bittorrent-n02-s01-8MB-at200m", "http-n02-s01-8MB-at200m")
HOUR_S = 3600

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (Debian: apt install gcc libc6-dev)"),
    pytest.mark.skipif(not isolation()[0], reason=f"links cannot be limited: {isolation()[1]}"),
]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that tells by how many seconds the time of day is wrong, for every program that is started from now on."""
    library, file = tmp_path / "clock.so", tmp_path / "step"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
    file.write_text("0")
    monkeypatch.setenv("CLOCK_STEP_FILE", str(file))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    return file


@pytest.mark.parametrize("step", [HOUR_S, -HOUR_S], ids=["an hour ahead", "an hour back"])
def test_a_stepped_clock_changes_no_duration(bench: Bench, clock: Path, step: int) -> None:
    """Every round takes what it takes; only the dates that are recorded jump. Nothing runs into a deadline."""
    bench.matrix(MATRIX)
    run = Underway(bench)
    run.wait_until_moving(2)

    clock.write_text(f"{step}")
    said = run.ended()

    assert pytest.ExitCode.OK == run.process.returncode, said
    assert_each_round_once(run, 3, *CELLS)
    rounds = run.rounds()
    dates = [datetime.fromisoformat(round_.started_at).timestamp() for round_ in rounds]
    jump = dates[-1] - dates[0]
    assert abs(jump - step) < HOUR_S / 2, "the clock was not stepped in the middle"
    assert all(0 < round_.seconds["round_s"] < 60 for round_ in rounds)
    for round_ in rounds:
        for transfer in round_.transfers:
            for line in transfer.timelines.values():
                assert 0.3 < line.seconds_to(100) < 30


def test_a_run_of_tomorrow_is_gone_on_with(bench: Bench, clock: Path) -> None:
    """A run that was begun while the clock was an hour ahead is killed, and gone on with after it was put right."""
    bench.matrix(MATRIX)
    clock.write_text(f"{HOUR_S}")
    run = Underway(bench)
    run.wait_until_moving(1)
    run.process.kill()
    run.ended()
    clock.write_text("0")

    assert_each_round_once(resumed(bench), 3, *CELLS)
