"""Whatever ends a run, or a part of it: nothing is left, nothing recorded is lost, and it can be gone on with."""

from __future__ import annotations

import os
import signal

import pytest
from benches import Bench
from underway import Underway, assert_each_round_once, resumed

from pytest_codexbench.backends.network import isolation

# Rounds of half a second or more, so that there is a middle to be hit.
SLOW = """
shapes = [[2, 1]]
sizes = ["8MB"]
rounds = {rounds}
links = ["100mbit"]
"""
BOTH = ("bittorrent-n02-s01-8MB-at100m", "http-n02-s01-8MB-at100m")
ONE = BOTH[1]
HARD_AND_SOFT = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]

pytestmark = pytest.mark.skipif(not isolation()[0], reason=f"links cannot be limited: {isolation()[1]}")


@pytest.fixture
def slow(bench: Bench) -> Bench:
    """Two rounds of one system."""
    bench.matrix(f"{SLOW.format(rounds=2)}[systems.http]\n")
    return bench


@pytest.fixture
def paired(bench: Bench) -> Bench:
    """Two systems with two rounds each, whose clusters are up at the same time."""
    bench.matrix(f"{SLOW.format(rounds=2)}[systems.bittorrent]\n[systems.http]\n")
    return bench


def test_killed_in_the_middle_and_resumed(paired: Bench) -> None:
    """After SIGKILL nothing is left, recorded rounds are kept, and the resumed run measures just the others."""
    first = Underway(paired)
    first.wait_until_moving(1)

    first.process.kill()
    first.ended()

    assert 1 <= len(first.rounds()) < 4
    assert_each_round_once(resumed(paired), 2, *BOTH)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_interrupted_and_resumed(slow: Bench, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a terminal that closes take the clusters down, write the documents, and say how to go on."""
    first = Underway(slow)
    first.wait_until_moving(1)

    first.process.send_signal(number)
    said = first.ended()

    assert pytest.ExitCode.INTERRUPTED == first.process.returncode
    assert "Interrupted." in said
    assert "--cb-resume=" in said
    assert slow.results()["cells"]
    assert_each_round_once(resumed(slow), 2, ONE)


def test_killed_above_its_workers_and_resumed(paired: Bench) -> None:
    """When pytest is killed while its xdist workers measure, they and their clusters end too."""
    first = Underway(paired, "-n", "2")
    first.wait_until_moving(1)

    first.process.kill()
    first.process.wait()

    first.assert_nothing_is_left()
    assert_each_round_once(resumed(paired, "-n", "2"), 2, *BOTH)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_workers_take_their_clusters_down(slow: Bench, number: signal.Signals) -> None:
    """A signal to pytest alone, as a CI system sends it, reaches its workers: each ends its clusters in good order."""
    first = Underway(slow, "-n", "2")
    first.wait_until_moving(1)

    first.process.send_signal(number)
    said = first.ended()

    (log,) = first.results.glob("*/logs/http-n02-at100m/warden.log")
    assert "Traceback" not in log.read_text()
    assert "Interrupted." in said
    assert_each_round_once(resumed(slow, "-n", "2"), 2, ONE)


@pytest.mark.parametrize("number", HARD_AND_SOFT, ids=lambda number: number.name)
def test_a_worker_that_ends_is_replaced_or_ends_the_run(slow: Bench, number: signal.Signals) -> None:
    """One that is killed has its clusters gone and its rounds gone on with by another; Ctrl-C ends the run."""
    first = Underway(slow, "-n", "1")
    first.wait_until_moving(1)

    os.kill(first.victim("worker"), number)
    said = first.ended()

    assert "worker 'gw0' crashed while running" in said
    if number == signal.SIGINT:
        assert pytest.ExitCode.INTERRUPTED == first.process.returncode
        assert "--cb-resume=" in said
    else:
        assert pytest.ExitCode.TESTS_FAILED == first.process.returncode
        assert_each_round_once(first, 2, ONE)
    assert_each_round_once(resumed(slow, "-n", "1"), 2, ONE)


@pytest.mark.parametrize(
    "who, system, told",
    [
        ("node", "http", "http node n01 {how}"),
        ("agent", "http", "the agent of n01 {how}"),
        ("tracker", "bittorrent", "the tracker {how}"),
        ("warden", "http", "the warden of the cluster {how}"),
    ],
    ids=["node", "agent", "tracker", "warden"],
)
def test_a_part_of_a_cluster_that_ends_fails_its_round_alone(bench: Bench, who: str, system: str, told: str) -> None:
    """Its round is recorded as failed, names who ended and how, and the next one has a whole cluster."""
    bench.matrix(f"{SLOW.format(rounds=5)}[systems.{system}]\n")
    cell = f"{system}-n02-s01-8MB-at100m"
    first = Underway(bench)
    for index, number in enumerate(HARD_AND_SOFT):
        first.wait_until_moving(index)
        os.kill(first.victim(who), number)
    first.wait_until_moving(3)
    first.process.kill()
    first.ended()
    kept = first.rounds()

    again = resumed(bench)

    assert [0, 1, 2] == [round_.index for round_ in kept]
    assert [False] * 3 == [round_.success for round_ in kept]
    # the warden's own prefix tells a signal of its child as a status; who handles a signal exits
    ends = ("was ended by SIGKILL", "was ended by SIGTERM", "was ended by SIGINT", "exited with status")
    assert [] == [r.failure for r in kept if not any(told.format(how=how) in str(r.failure) for how in ends)]
    assert_each_round_once(again, 5, cell)
    assert [True, True] == [round_.success for round_ in again.rounds()[3:]]
