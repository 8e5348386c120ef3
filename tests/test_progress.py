"""What a person is shown of the events of a run."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from pytest_codexbench import progress
from pytest_codexbench.progress import Events, Progress, Work


def begin(index: int = 0) -> dict[str, object]:
    """The start of a round with two leechers and a file of 100 bytes."""
    return {"what": "begin", "cell": "c", "index": index, "rounds": 2, "size": 100, "leechers": ["n01", "n02"]}


def end(success: bool = True) -> dict[str, object]:
    """The end of round 1."""
    told = {"success": success, "failure": None if success else "it broke", "seconds": 1.5, "round_s": 2.0}
    return {"what": "end", "cell": "c", "index": 0, "rounds": 2, "size": 100, **told}


def test_work_knows_each_leechers_share() -> None:
    """From the events follow the share of all leechers' bytes and their speed together."""
    work = Work()
    for event in (
        begin(),
        {"what": "line", "node": "n01", "held": 100, "received": 100, "t_s": 0.001},
        {"what": "line", "node": "n02", "held": 50, "received": 60, "t_s": 0.002},
        {"what": "line", "node": "somebody else", "held": 99, "received": 99, "t_s": 1},
    ):
        work.see(event)

    assert 0.75 == work.share()
    assert pytest.approx(0.1 + 0.025) == work.mb_per_s()


class Shown:
    """A progress on a stream that can be read afterwards."""

    def __init__(self, folder: Path, middle_of_a_line: bool = False) -> None:
        self.text = ""
        self.stream = io.StringIO()
        self.stream.close = lambda: None  # type: ignore[method-assign]  # to be read after the end
        self.progress = Progress(folder, self.stream, lambda: middle_of_a_line, {"c": 4.0}, live=False)

    def lines(self) -> list[str]:
        """What was written until the end."""
        self.progress.start()
        self.progress.end()
        return self.stream.getvalue().splitlines()


def test_without_a_terminal_each_round_is_a_line(tmp_path: Path) -> None:
    """A line a round with its time and what is left, judged by how wrong the forecast was."""
    events = Events(tmp_path / "events", "main")
    for event in (begin(), end(), begin(), end(success=False)):
        events.say(event)
    events.close()
    shown = Shown(tmp_path / "events")
    shown.progress.set_rounds({"c": 3})

    # 4 s were expected and 2 s it took, so the two that are left take 4 s and not 8
    assert ["c  round 1/2  1.5 s  (4 s left)", "c  round 1/2  FAILED: it broke  (2 s left)"] == shown.lines()


def test_a_line_of_pytests_is_not_written_into(tmp_path: Path) -> None:
    """Where the cursor stands behind something, a new line is begun."""
    events = Events(tmp_path / "events", "main")
    events.say(end())
    events.close()

    assert "" == Shown(tmp_path / "events", middle_of_a_line=True).lines()[0]


def test_silence_is_broken_by_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI systems end silent jobs: a long round is told of while it runs."""
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(progress, "LOOK_S", 0.01)
    events = Events(tmp_path / "events", "main")
    events.say(begin())
    events.say({"what": "line", "node": "n01", "held": 50, "received": 50, "t_s": 0.001})
    events.close()
    shown = Shown(tmp_path / "events")
    shown.progress.start()
    deadline = time.monotonic() + 10
    while "..." not in shown.stream.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shown.progress.end()

    assert "... c  round 1/2  25%  0.1 MB/s" == shown.stream.getvalue().splitlines()[0]


def test_half_a_line_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    """A worker may be in the middle of writing an event when it is looked at."""
    folder = tmp_path / "events"
    folder.mkdir()
    text = json.dumps(end()) + "\n"
    (folder / "gw0.jsonl").write_text(text + text[:20])
    shown = Shown(folder)

    assert 1 == len(shown.lines())


def test_events_that_cannot_be_written_disturb_nobody(tmp_path: Path) -> None:
    """Progress is only shown: after its end, or on a full disk, measuring goes on."""
    events = Events(tmp_path / "events", "main")
    events.close()

    events.say(begin())

    assert "" == (tmp_path / "events" / "main.jsonl").read_text()
