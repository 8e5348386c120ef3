"""Disturbances on real swarms of this machine: that they happen, what they do, and that a round without one is void."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benches import LEAN

from pytest_codexbench import disturbances
from pytest_codexbench.agent.client import Node
from pytest_codexbench.agent.hindrances import groups
from pytest_codexbench.backends import Cluster
from pytest_codexbench.backends.local import Local
from pytest_codexbench.disturbances import DISTURBANCES, UNDISTURBED, Disturbance
from pytest_codexbench.disturbing import Disturbing
from pytest_codexbench.experiment import Setting, disseminate
from pytest_codexbench.matrix import BUILT_IN, Block, Shape, Variant
from pytest_codexbench.metrics import of_round
from pytest_codexbench.plan import draw
from pytest_codexbench.records import Happened, Round
from pytest_codexbench.systems import find

MB = 10**6
LINK = 2 * 10**8
SIZE = 12 * MB
PROGRAM = os.environ.get("CODEXBENCH_IPFS_BIN") or shutil.which("ipfs")
KUBO = Variant("ipfs", "ipfs", (("bin", str(PROGRAM)),))
VARIANTS = {"origin": BUILT_IN["http"], "swarm": BUILT_IN["bittorrent"], "blocks": KUBO}
"""Systems by what they are: a test's id may not hold a system's name."""
Run = Callable[..., Round]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Local:
    """This machine."""
    return Local(tmp_path_factory.mktemp("logs"))


@pytest.fixture
def run(place: Local, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one round with a disturbance that is over in a second, on a cluster of its own."""

    def one(system: str, name: str, shape: tuple[int, int] = (3, 1), size: int = SIZE, **other: Any) -> Round:
        variant = VARIANTS[system]
        if why := find(variant.system).missing(variant) or place.cannot(Shape(variant, shape[0], LINK)):
            pytest.skip(why)
        if (asked := DISTURBANCES[name].asks) and (why := place.cannot_upset(asked)):
            pytest.skip(why)
        usual = DISTURBANCES[name]
        shorter = replace(usual, down_s=1.0 if usual.down_s else None, **other)
        monkeypatch.setitem(DISTURBANCES, name, shorter)
        block = Block(*shape, size, LINK, (variant,), "reliability", name)
        with up(place, block) as cluster:
            setting = Setting(cluster.nodes, place.environment(1), deadline_s=30)
            return disseminate(block.cells[0], draw(block, 0, 1), setting)

    return one


@contextmanager
def up(place: Local, block: Block) -> Iterator[Cluster]:
    """The cluster of the block's only cell."""
    with place.cluster(block.cells[0].shape, lambda text: None, SIZE) as cluster:
        yield cluster


def happened(round_: Round) -> Happened:
    """What is in the record."""
    assert round_.happened is not None
    assert round_.void is None, round_.void
    return round_.happened


SWARMS = ["swarm", "blocks"]


@pytest.mark.parametrize("system", SWARMS)
def test_a_seeder_that_comes_back_is_found_again(run: Run, system: str) -> None:
    """The only one is killed when the median leecher has 30 %; everybody gets the rest from it later."""
    told = run(system, "seeder-restarts")

    it = happened(told)
    assert told.success, told.failure
    assert told.seeders == it.nodes
    assert 30 <= (it.percent or 0) < 60
    assert 0 < (it.begun_s or 0) < 5
    assert (it.ended_s or 0) - (it.begun_s or 0) >= 1
    assert (it.ready_s or 0) >= (it.ended_s or 0)
    assert 0 < (it.recovery_s or 0) < 20
    assert (of_round(told)["t100_s"] or 0) > (it.ended_s or 0)


def test_clients_of_an_origin_that_dies_give_up(run: Run) -> None:
    """That is a failure of the round and no void one: new bytes never came."""
    told = run("origin", "seeder-restarts")

    assert not told.success
    assert "the body ended after" in (told.failure or "")
    assert math.inf == happened(told).recovery_s


@pytest.mark.parametrize("system, success", [("swarm", True), ("origin", False)])
def test_one_of_several_seeders_dies(run: Run, system: str, success: bool) -> None:
    """A swarm has the others; who fetched from an origin has none."""
    told = run(system, "seeder-dies", (4, 2))

    assert success is told.success
    assert told.seeders[:1] == happened(told).nodes
    assert (0 < (happened(told).recovery_s or 0) < 5) is success


@pytest.mark.parametrize("system", list(VARIANTS))
def test_a_leecher_that_was_killed_goes_on(run: Run, system: str) -> None:
    """In one record from the first request on, with the pause in it; others are not kept from their file."""
    told = run(system, "leecher-restarts")

    it = happened(told)
    (victim,) = (transfer for transfer in told.transfers if transfer.node in it.nodes)
    line = next(iter(victim.timelines.values()))
    assert told.success, told.failure
    assert line.seconds_to(100) > (it.ended_s or 0)
    assert line.longest_stall_s >= 1
    assert 0 < (it.recovery_s or 0) < 20
    assert told.seconds["start_skew_s"] < 1
    # counted over both lives of its program: who keeps nothing of what it had gets it again
    again = (of_round(told)["refetched_bytes"] or 0) / SIZE
    assert {"origin": again > 0.25, "swarm": again < 0.25, "blocks": again >= 0}[system]


@pytest.mark.parametrize("system", ["swarm", "origin"])
def test_a_late_leecher_joins_when_the_others_are_nearly_through(run: Run, system: str) -> None:
    """By their progress and not by a timer; its own time counts from its own request."""
    told = run(system, "late-leecher", (4, 1))

    it = happened(told)
    assert told.success, told.failure
    assert 90 <= (it.percent or 0) <= 100
    assert 3 == len(told.transfers)
    assert not any("too far apart" in flag for flag in told.flags)


@pytest.mark.parametrize("system", ["swarm", "origin"])
def test_packets_are_lost(run: Run, system: str) -> None:
    """About one of a hundred of those that the file takes, and they come all the same."""
    told = run(system, "packet-loss", (2, 1))

    frames = SIZE / 1448
    assert told.success, told.failure
    assert 0.004 < happened(told).seen["dropped_packets"] / frames < 0.03


@pytest.mark.parametrize("system", list(VARIANTS))
def test_a_link_is_cut_and_mended(run: Run, system: str) -> None:
    """Nothing passes while it is cut; it goes on by itself afterwards."""
    told = run(system, "link-cut")

    it = happened(told)
    (victim,) = (transfer for transfer in told.transfers if transfer.node in it.nodes)
    assert told.success, told.failure
    assert it.seen["dropped_packets"] > 0
    assert next(iter(victim.timelines.values())).longest_stall_s >= 1
    assert 0 < (it.recovery_s or 0) < 15


def test_processors_are_limited_and_no_group_is_left(run: Run) -> None:
    """Every program was held back at least once; then the groups are gone."""
    before = groups()
    told = run("swarm", "slow-processor")

    assert told.success, told.failure
    assert happened(told).seen["throttled"] > 0
    assert before == groups()


@pytest.mark.parametrize("system", ["origin", "blocks"])
def test_a_disk_that_is_nearly_full_holds_the_file(run: Run, system: str) -> None:
    """It has room for what the system says that it stores, and for little more."""
    told = run(system, "disk-nearly-full", size=20 * MB)

    assert told.success, told.failure
    assert 20 * MB < happened(told).seen["disk_bytes"] < 23 * MB


@pytest.mark.parametrize(
    "system, words",
    [("swarm", "no space left on device"), ("origin", "no space left on device"), ("blocks", "the body ended after")],
)
def test_a_disk_without_room_for_the_file_fails_its_leecher(
    run: Run, system: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the system says of it, and no other leecher: it is a real disk that is full."""
    monkeypatch.setattr("pytest_codexbench.disturbing.ROOM_SHARE", 0.5)

    told = run(system, "disk-nearly-full", size=20 * MB)

    (victim,) = happened(told).nodes
    assert [victim] == [transfer.node for transfer in told.transfers if transfer.outcome != "ok"]
    assert words in (told.failure or "").lower()


@pytest.mark.parametrize("system", list(VARIANTS))
def test_several_files_come_at_once(run: Run, system: str) -> None:
    """Together they have the size of the one, and a leecher has it all when it has each; all are deleted."""
    told = run(system, "files-at-once")

    assert told.success, told.failure
    assert {4.0} == {happened(told).seen["files"]}
    assert {SIZE} == {line.total for transfer in told.transfers for line in transfer.timelines.values()}
    assert () == told.left_on


def test_nothing_happens_in_an_undisturbed_round(run: Run) -> None:
    """It has the figures of a download."""
    told = run("swarm", UNDISTURBED)

    assert told.success, told.failure
    assert told.happened is None
    assert (of_round(told)["t100_s"] or 0) < 5 * SIZE * 8 / LINK
    assert 0 == of_round(told)["stalls"]


@pytest.mark.parametrize(
    "name, verb, text",
    [
        ("seeder-restarts", "kill", "was to be killed, but its program runs"),
        ("leecher-restarts", "kill", "was to be killed, but its program runs"),
        ("link-cut", "hinder", "packets pass"),
        ("packet-loss", "hinder", "no packet was lost"),
        ("slow-processor", "hinder", "was not limited"),
        ("disk-nearly-full", "hinder", "bytes, not"),
    ],
)
def test_a_disturbance_that_is_switched_off_makes_its_round_void(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, verb: str, text: str
) -> None:
    """What was done is read back, so that a round in which it was not done is never a success; nor is it a failure."""
    monkeypatch.setattr(Node, verb, lambda self, **how: True)

    told = run("swarm", name)

    assert not told.success
    assert text in (told.void or "")
    assert ["ok", "ok"] == [transfer.outcome for transfer in told.transfers]


def test_a_node_that_is_not_set_free_is_told_and_its_cluster_replaced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next rounds would lose packets without knowing it."""
    monkeypatch.setattr(Node, "mend", lambda self: None)

    told = run("swarm", "packet-loss", (2, 1))

    assert ("n00", "n01") == told.left_on
    assert ["n00 may still be held back", "n01 may still be held back"] == list(told.flags)


def test_one_that_comes_too_late_makes_its_round_void(run: Run) -> None:
    """When everybody has everything there is nobody to disturb."""
    told = run("swarm", "seeder-restarts", percent=100)

    assert not told.success
    assert "came too late" in (told.void or "")


def test_one_whose_moment_never_comes_makes_its_round_void(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said, and in the record."""
    monkeypatch.setattr(Disturbing, "_progress", lambda self: 0.0)

    told = run("swarm", "seeder-restarts")

    assert "the moment, when the median of the leechers that fetch has 30 %, never came" in (told.void or "")


def test_a_late_leecher_whose_moment_never_comes_is_void(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for ever, and its round is no failure of the system."""
    monkeypatch.setattr(Disturbing, "_progress", lambda self: 0.0)

    told = run("origin", "late-leecher", (4, 1))

    assert "never came" in (told.void or "")
    assert told.seconds["round_s"] < 20


def test_a_void_round_fails_its_test_and_the_run_goes_on(pytester: pytest.Pytester) -> None:
    """The benchmark itself says that it was void; the undisturbed cell beside it passes."""
    pytester.makeconftest("from pytest_codexbench.agent.client import Node\nNode.kill = lambda self: True\n")
    (pytester.path / "mine.toml").write_text(
        'shapes = [[2, 1]]\nsizes = ["6MB"]\nrounds = 1\nlinks = ["100mbit"]\nexperiments = ["reliability"]\n'
        'disturbances = ["leecher-restarts"]\n[systems.http]\n'
    )
    if why := Local(pytester.path).why_loopback:
        pytest.skip(why)
    suite = Path(__file__).parent.parent / "tests_bench" / "test_reliability.py"
    pytester.makepyfile(test_reliability=suite.read_text(encoding="utf-8"))

    done = pytester.runpytest_subprocess("--matrix=mine.toml", *LEAN)

    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*1 of 1 rounds failed, 1 of them void*", "*void: *was to be killed*"])


def test_every_disturbance_is_tested_here() -> None:
    """One that is added has to show on a real swarm that it happens."""
    text = Path(__file__).read_text(encoding="utf-8")

    assert [] == [name for name in DISTURBANCES if f'"{name}"' not in text and name != UNDISTURBED]
    assert isinstance(disturbances.named("link-cut"), Disturbance)
