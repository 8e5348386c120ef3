"""What is measured of a wire before anything else is: its rate, and what passes before a limit holds."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_codexbench.agent import probe
from pytest_codexbench.agent.client import Node
from pytest_codexbench.agent.probe import Stream
from pytest_codexbench.errors import AgentError
from pytest_codexbench.experiment import _turns, carried_mb_s, unfit
from pytest_codexbench.matrix import BUILT_IN, Cell, Shape

SECOND = 10**9
MB = 10**6


def bucket(rate_mb_s: float, burst_mb: float, seconds: float) -> Stream:
    """What comes through a token bucket that was full at the start, on a wire ten times as fast, every 10 ms."""
    moments = [index / 100 for index in range(1, int(seconds * 100) + 1)]
    got = [min(10 * rate_mb_s * moment, burst_mb + rate_mb_s * moment) for moment in moments]
    return Stream([(int(moment * SECOND), int(mb * MB)) for moment, mb in zip(moments, got, strict=True)])


@given(rate=st.floats(1, 1000), burst=st.floats(0, 600))
def test_burst_and_rate_of_a_token_bucket_are_told_apart(rate: float, burst: float) -> None:
    """Whatever its depth, once that is spent."""
    stream = bucket(rate, burst, burst / (9 * rate) + 1.2)

    assert rate == pytest.approx(stream.mb_s_at_the_end(1.0), rel=0.01)
    assert burst == pytest.approx(stream.burst_bytes(rate) / MB, abs=0.001 + rate * 0.1)


def test_what_is_below_its_rate_has_no_burst() -> None:
    """A slow start is none."""
    assert 0 == Stream([(SECOND, 5 * MB), (2 * SECOND, 12 * MB)]).burst_bytes(10.0)


def test_a_probe_goes_on_until_a_burst_is_spent() -> None:
    """Fast for a second, then at the limit: it ends as soon as that is sure, and never goes on for ever."""
    goes_on = probe.until_spent(10.0, 25.0, 1 << 30)
    sent, ended_s = 0.0, None
    for step in range(25 * 100):
        now_s = step / 100
        if not goes_on(now_s, int(sent * MB)):
            ended_s = now_s
            break
        sent += 5.0 if now_s < 1.0 else 0.1
    assert ended_s is not None
    assert 0.9 + probe.SETTLED_S <= ended_s <= 1.1 + probe.SETTLED_S

    unlimited = probe.until_spent(10.0, 25.0, 100 * MB)
    assert unlimited(0.0, 0)
    assert unlimited(4.0, 99 * MB)
    assert not unlimited(4.1, 100 * MB)
    assert not probe.until_spent(10.0, 25.0, 1 << 30)(25.0, 0)


CELL = Cell(Shape(BUILT_IN["http"], 2, 100 * MB), 1, 25 * MB)
RIGHT = carried_mb_s(100 * MB)


@pytest.mark.parametrize(
    "rate, burst, why",
    [
        (RIGHT, 625_000, None),
        (RIGHT * 1.04, 0, None),
        (RIGHT, 1_300_000, r"1.3 MB pass them at once before the limit holds, 0.052 x the file, where 0.05 x may"),
        (RIGHT, 2**29, r"537 MB pass them at once before the limit holds, 21.5 x the file.*small burst"),
        (RIGHT * 1.06, 0, "which carry 12 MB/s, but 12.7 MB/s came through"),
        (RIGHT * 0.9, 0, "but 10.8 MB/s came through"),
        (1200.0, 0, "but 1.2e[+]03 MB/s came through"),
    ],
)
def test_links_that_are_not_what_was_asked_for_are_refused(rate: float, burst: float, why: str | None) -> None:
    """With the figures and the way out; what the file's own size makes small is let pass."""
    told = unfit(CELL, {"wire_mb_s": rate, "burst_bytes": burst})

    if why is None:
        assert told is None
    else:
        assert re.search(why, told or "")


@pytest.mark.parametrize("count", range(2, 9))
def test_every_host_sends_to_the_next_and_does_one_thing_at_a_time(count: int) -> None:
    """Every link is probed once, both ways; a node that receives meanwhile would send more slowly."""
    nodes = [Node(f"n{index}", "", "", {}) for index in range(count)]
    turns = [[(a.name, b.name) for a, b in turn] for turn in _turns(nodes)]

    assert sorted((f"n{i}", f"n{(i + 1) % count}") for i in range(count)) == sorted(pair for t in turns for pair in t)
    assert all(len({name for pair in turn for name in pair}) == 2 * len(turn) for turn in turns)
    assert len(turns) == 2 + count % 2


def test_links_that_nobody_probed_or_limits_are_let_pass() -> None:
    """Those of this machine are limited by the suite itself."""
    assert unfit(CELL, {"wire_mb_s": 5.0}) is None
    assert unfit(Cell(Shape(BUILT_IN["http"], 2), 1, MB), {"wire_mb_s": 5.0, "burst_bytes": 10.0**9}) is None


def test_a_stream_is_seen_where_it_comes() -> None:
    """A real one over loopback: all that was sent, at moments in order."""
    port = probe.listen("127.0.0.1")
    stream = probe.stream_to("127.0.0.1", port, "127.0.0.1", probe.until(5.0, 20 * MB))

    assert 19 * MB < stream.marks[-1][1] <= 21 * MB
    assert list(stream.marks) == sorted(stream.marks)
    assert stream.mb_s > 0


def test_a_stream_to_nobody_is_told() -> None:
    """With the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(AgentError, match=f"probe of the wire to 127.0.0.1:{port}"):
        probe.stream_to("127.0.0.1", port, "127.0.0.1", probe.until(0.1, MB))


def test_a_disk_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    """Some rate, and no file."""
    assert probe.disk_mb_s(tmp_path, 5 * MB) > 0
    assert [] == list(tmp_path.iterdir())
