"""Which rounds a campaign runs, and on which clusters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from stories import cell, round_of

from pytest_codexbench.agent.client import Node
from pytest_codexbench.backends import Cluster, Room
from pytest_codexbench.backends.local import Local
from pytest_codexbench.campaign import Campaign, Event, Terms, _incidents, _with_ends
from pytest_codexbench.errors import BenchError, CannotRun, NotReady, Unreachable
from pytest_codexbench.forecast import Experience
from pytest_codexbench.matrix import BUILT_IN, Block, Shape, Variant
from pytest_codexbench.metrics import of_round
from pytest_codexbench.records import Journal

MB = 10**6
HTTP = BUILT_IN["http"]
OTHER = Variant("http.other", "http")
NOTHING_KNOWN = Experience({}, {})


class Small(Local):
    """This machine, with as much memory as a test says; notes which clusters were up at the same time."""

    def __init__(self, logs: Path, memory: int) -> None:
        super().__init__(logs)
        self.memory = memory
        self.up: set[Shape] = set()
        self.together: list[int] = []

    def room(self) -> Room:
        room = super().room()
        return Room(room.disk, self.memory, room.where)

    @contextmanager
    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> Iterator[Cluster]:
        with super().cluster(shape, say, largest) as cluster:
            self.up.add(shape)
            self.together.append(len(self.up))
            yield cluster
            self.up.remove(shape)


def campaign(backend: Local, folder: Path, terms: Terms, events: list[Event] | None = None) -> Campaign:
    """A campaign that writes its journal into the folder."""
    say = (events if events is not None else []).append
    return Campaign(backend, Journal(folder), terms, NOTHING_KNOWN, say)


def test_too_little_memory_for_one_cluster_leaves_the_cell_out(tmp_path: Path) -> None:
    """A cell that the memory cannot hold is left out, with both figures and the way out."""
    block = Block(32, 1, MB, None, (HTTP,))
    with campaign(Small(tmp_path, 100 * MB), tmp_path, Terms(1, 1)) as run:
        run.run([block])

        with pytest.raises(CannotRun, match=r"needs .* of memory, 100 MB are free.*; take fewer nodes"):
            run.rounds_of(block.cells[0])


def test_clusters_that_do_not_fit_together_run_next_to_each_other(tmp_path: Path) -> None:
    """Memory for one cluster only: the systems of a block follow each other, and the records say so."""
    backend = Small(tmp_path, 250 * MB)
    block = Block(2, 1, MB, None, (HTTP, OTHER))
    with campaign(backend, tmp_path, Terms(2, 1)) as run:
        run.run([block])
        rounds = [round_ for cell in block.cells for round_ in run.rounds_of(cell)]

    assert {1} == set(backend.together)
    assert ["draw only"] * 4 == [round_.paired for round_ in rounds]
    assert all(round_.success for round_ in rounds)


def test_clusters_of_a_block_are_up_together_and_run_in_turn(tmp_path: Path) -> None:
    """Round k runs in every system before round k + 1 begins, with the same bytes and seeders."""
    backend = Small(tmp_path, 10**10)
    events: list[Event] = []
    block = Block(2, 1, MB, None, (HTTP, OTHER))
    with campaign(backend, tmp_path, Terms(3, 1), events) as run:
        run.run([block])
        first, second = (run.rounds_of(cell) for cell in block.cells)

    assert 2 == max(backend.together)
    order = [event["index"] for event in events if event["what"] == "begin" and event["index"] >= 0]
    assert [0, 0, 1, 1, 2, 2] == order
    assert [(r.seed, r.seeders, r.digest) for r in first] == [(r.seed, r.seeders, r.digest) for r in second]
    assert 3 == len({round_.digest for round_ in first})


class Failing(Small):
    """A machine on which no cluster comes up after the first one."""

    @contextmanager
    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> Iterator[Cluster]:
        if self.together:
            raise PermissionError(13, "Permission denied", "/data")
        with super().cluster(shape, say, largest) as cluster:
            yield cluster


def test_trouble_after_the_first_rounds_is_an_error(tmp_path: Path) -> None:
    """A cell that lacks rounds because its cluster did not come up again does not pass as if it were whole."""
    backend = Failing(tmp_path, 10**10)
    block = Block(2, 1, MB, None, (HTTP,))
    with campaign(backend, tmp_path, Terms(1, 1)) as run:
        run.run([block])
    journal = Journal(tmp_path)

    with Campaign(backend, journal, Terms(3, 1), NOTHING_KNOWN, lambda event: None, journal.read()) as run:
        run.run([block])

        with pytest.raises(NotReady, match="Permission denied"):
            run.rounds_of(block.cells[0])
    assert ["error"] == [note.what for note in journal.read().notes]


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    """With the story of an earlier part, just the missing rounds are run."""
    block = Block(2, 1, MB, None, (HTTP,))
    with campaign(Small(tmp_path, 10**10), tmp_path, Terms(1, 1)) as run:
        run.run([block])
    journal = Journal(tmp_path)

    with Campaign(
        Small(tmp_path, 10**10), journal, Terms(3, 1), NOTHING_KNOWN, lambda event: None, journal.read()
    ) as run:
        run.run([block])

    story = journal.read()
    assert [0, 1, 2] == [round_.index for round_ in story.measured()]
    assert () == story.problems


class Watched(Small):
    """A machine whose clusters tell of incidents, one list after the other."""

    told: Iterator[list[str] | BenchError] = iter(())

    @contextmanager
    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> Iterator[Cluster]:
        def incidents() -> list[str]:
            one = next(self.told)
            if isinstance(one, BenchError):
                raise one
            return one

        with super().cluster(shape, say, largest) as cluster:
            yield replace(cluster, incidents=incidents)


def test_a_round_in_which_something_happened_to_a_node_fails(tmp_path: Path) -> None:
    """It names the incident, has no time to 100 % though all bytes came; those before and after it are as they are."""
    backend = Watched(tmp_path, 10**10)
    unknown = NotReady("the API server is away")
    backend.told = iter([[], [], ["n00 was old news"], [], [], ["n01 was started again"], [], unknown])
    block = Block(2, 1, MB, None, (HTTP,))
    with campaign(backend, tmp_path, Terms(3, 1)) as run:
        run.run([block])
        fine, spoilt, unsure = run.rounds_of(block.cells[0])

    assert [True, False, True] == [round_.success for round_ in (fine, spoilt, unsure)]
    assert "n01 was started again" == spoilt.failure
    assert math.inf == of_round(spoilt)["t100_s"]
    assert ("what happened to its nodes is not known: the API server is away",) == unsure.flags


def test_what_broke_a_round_may_be_told_a_moment_later() -> None:
    """A cluster learns of a container's end after the transfer that it broke; nobody waits where all is well."""
    told: Iterator[list[str]] = iter([[], [], ["n01 was started again"]])
    cluster = Cluster((), {}, incidents=lambda: next(told))

    assert [] == _incidents(cluster, 0.0)
    assert ["n01 was started again"] == _incidents(cluster, 30.0)
    assert () == _incidents(Cluster((), {}), 0.0)


class Away(Node):
    """A node whose agent went with its host."""

    def end(self) -> str | None:
        """Nobody can tell."""
        raise Unreachable(f"health at {self.url}: timed out")


def test_a_seeder_that_went_with_its_host_is_named() -> None:
    """Leechers only know that bytes stop; those whose own agents went are in the failure already."""
    what = cell("http", seeders=1)
    stopped = round_of(what, 0, 1.0, error="n01: the deadline passed with 5 of 10 bytes")
    nodes = [Away(name, "http://10.0.0.1:7070", "token", {}) for name in (*stopped.seeders, "n07")]

    named = _with_ends(stopped, nodes, known=False).failure
    lost = f"the agent of {stopped.seeders[0]} was lost: health at http://10.0.0.1:7070: timed out"
    assert f"{lost}; n01: the deadline passed with 5 of 10 bytes" == named
    assert stopped == _with_ends(stopped, nodes, known=True)
    fine = round_of(what, 0, 1.0)
    assert fine == _with_ends(fine, nodes, known=False)


class Resisting(Small):
    """A machine on which clusters do not go."""

    @contextmanager
    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> Iterator[Cluster]:
        with super().cluster(shape, say, largest) as cluster:
            yield cluster
        raise NotReady(f"namespace x{shape.nodes} was not gone within 180 s")


def test_a_cluster_that_does_not_go_is_told_and_ends_nothing_else(tmp_path: Path) -> None:
    """The cells after it are measured all the same, and the campaign ends with an error that names it."""
    events: list[Event] = []
    blocks = [Block(nodes, 1, MB, None, (HTTP,)) for nodes in (2, 3)]
    run = campaign(Resisting(tmp_path, 10**10), tmp_path, Terms(1, 1), events)
    for block in blocks:
        run.run([block])
    rounds = [round_ for block in blocks for round_ in run.rounds_of(block.cells[0])]

    with pytest.raises(NotReady, match=r"not all is taken down: http-n02: namespace x2 .*; http-n03: namespace x3"):
        run.leave()
    assert [True, True] == [round_.success for round_ in rounds]
    assert 2 == sum(event["what"] == "trouble" for event in events)
