"""Which round runs next, on which clusters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pytest_codexbench import experiment
from pytest_codexbench.agent.client import Node
from pytest_codexbench.backends import Backend, Cluster, started_again
from pytest_codexbench.disturbances import named
from pytest_codexbench.errors import BenchError, CannotRun, NotReady, Unreachable
from pytest_codexbench.forecast import Experience, bytes_text
from pytest_codexbench.matrix import Block, Cell, Shape
from pytest_codexbench.metrics import of_round
from pytest_codexbench.plan import WARM_UP, WARM_UP_SIZE, Draw, Needs, deadline_s, draw, visits
from pytest_codexbench.records import Environment, Journal, Lookup, Meeting, Note, Round, Story
from pytest_codexbench.series import Database, Unanswered
from pytest_codexbench.systems import find, needs_of

Event = Mapping[str, Any]
Say = Callable[[Event], None]

# Of what is free, this much may be used.
MOST_DISK, MOST_MEMORY = 0.95, 0.9
# A shape that did not come up this often is not tried again.
MOST_TRIES = 2
# A database shows what it took in some seconds later, and may remember for as long that there was nothing.
VISIBLE_S = 5.0
LINE_EVERY_S = 0.2
WAITING_S = 5.0
LOOK_S = 0.5

RUNS = {
    "download": experiment.disseminate,
    "upload": experiment.upload,
    "reliability": experiment.disseminate,
    "stability": experiment.rest,
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign keeps to. ``deadline_s`` bounds a transfer, ``budget_s`` all of it; both are seconds.

    ``largest`` is the size in bytes of the largest file.
    """

    rounds: int
    seed: int
    largest: int = WARM_UP_SIZE
    deadline_s: float | None = None
    budget_s: float | None = None
    workers: int = 1


@dataclass(slots=True)
class _Up:
    """A cluster that is up, and how to take it down."""

    cluster: Cluster
    environment: Environment
    stack: ExitStack
    warm: bool = False


class Campaign:
    """Runs the rounds of blocks: keeps the clusters of one size while they are needed, writes every round down.

    A context manager: at its end all clusters are gone. ``story`` holds what a resumed run has already.
    """

    def __init__(
        self,
        backend: Backend,
        journal: Journal,
        terms: Terms,
        known: Experience,
        say: Say,
        story: Story | None = None,
        database: Database | None = None,
    ) -> None:
        self.database = database
        self._unlooked: list[tuple[Round, tuple[float, float], float]] = []
        self._meetings = list(story.meetings) if story else []
        self.backend, self.journal, self.terms, self.known, self.say = backend, journal, terms, known, say
        self._begun = time.monotonic()
        self._rounds: dict[Cell, dict[int, Round]] = {}
        for round_ in story.measured() if story else ():
            self._rounds.setdefault(round_.cell, {})[round_.index] = round_
        self._up: dict[Shape, _Up] = {}
        self._tries: dict[Shape, int] = {}
        self._down_for: dict[Shape, BenchError] = {}
        self._troubles: dict[Cell, BenchError] = {}
        self._left_out: dict[Cell, str] = {}
        self._noted: set[Cell] = set()
        self._broken: BenchError | None = None
        self._resisted: list[str] = []
        self._out_of_time = False

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def needs(self, cell: Cell) -> Needs:
        """What one node of the cell's system takes."""
        return needs_of(cell.shape)

    def reason(self, cell: Cell) -> str | None:
        """Why this machine cannot run the cell, with the figure and the way out; None if it can."""
        if why := self.backend.cannot(cell.shape):
            return f"{cell.system}: {why}"
        asked = named(cell.disturbance).asks if cell.disturbance else ""
        if asked and (why := self.backend.cannot_upset(asked)):
            return f"{cell.disturbance}: {why}"
        cost, room = self.known.cost(cell, self.needs(cell)), self.backend.room()
        if room.disk is not None and cost.disk > room.disk * MOST_DISK:
            return (
                f"needs {bytes_text(cost.disk)} of disk, {bytes_text(room.disk)} are free in {room.where}, of which "
                f"{MOST_DISK:.0%} may be used; {room.more_disk}"
            )
        if cost.memory > self._memory() * MOST_MEMORY:
            return (
                f"needs {bytes_text(cost.memory)} of memory, {bytes_text(self._memory())} are free, of which "
                f"{MOST_MEMORY:.0%} may be used; {room.more_memory}"
            )
        return None

    def _memory(self, keep: tuple[int, int | None] | None = None) -> float:
        """Free memory once the clusters that are up are gone; those of the size ``keep`` stay."""
        leaving = [shape for shape in self._up if (shape.nodes, shape.link) != keep]
        return self.backend.room().memory + sum(self._taken(shape) for shape in leaving)

    def _taken(self, shape: Shape) -> float:
        return needs_of(shape).memory * shape.nodes

    def rounds_of(self, cell: Cell) -> list[Round]:
        """What was measured of the cell, in order.

        Raises:
            CannotRun: if it was left out, with the reason.
            NotReady: if its cluster did not come up for all of its rounds, or the journal could not be written.
        """
        rounds = [round_ for _, round_ in sorted(self._rounds.get(cell, {}).items())]
        if why := self._left_out.get(cell):
            self._note("skipped", cell, why)
            raise CannotRun(why)
        lacking = len(rounds) < self.terms.rounds
        if lacking and (trouble := self._broken or self._troubles.get(cell)):
            self._note("error", cell, str(trouble))
            raise NotReady(str(trouble)) from trouble
        if not rounds and self._out_of_time:
            why = "no time was left in the budget; give more by --cb-budget, or take fewer cells"
            self._note("skipped", cell, why)
            raise CannotRun(why)
        return rounds

    def _note(self, what: str, cell: Cell, text: str) -> None:
        if cell not in self._noted and not self._broken:
            self._noted.add(cell)
            self._write(Note(what, cell, text))

    def run(self, blocks: Sequence[Block]) -> None:
        """Run all rounds of these blocks that are not there yet; troubles are kept for ``rounds_of``."""
        self._visit(blocks)
        self._look_up(all_of_them=True)

    def _visit(self, blocks: Sequence[Block]) -> None:
        budgeted = self.terms.budget_s is not None
        runnable = [block for block in map(self._runnable, blocks) if block.variants]
        apart = [] if budgeted else [block for block in runnable if not self._fits(block)]
        for block in apart:
            self._run_apart(block)
        for block, index in visits(
            [block for block in runnable if block not in apart], self.terms.rounds, budgeted, self.terms.seed
        ):
            drawn = draw(block, index, self.terms.seed)
            for cell in map(block.cell, drawn.order):
                if index in self._rounds.get(cell, {}):
                    continue
                if not self._time_left(cell):
                    self._out_of_time = True
                    return
                self._round(cell, drawn, alone=not self._fits(block))

    def _runnable(self, block: Block) -> Block:
        """The block with the cells that this machine can run; the reasons of the others are kept."""
        lacking = [cell for cell in block.cells if len(self._rounds.get(cell, {})) < self.terms.rounds]
        reasons = {cell: why for cell in lacking if (why := self.reason(cell))}
        self._left_out |= reasons
        return block.only(set(block.cells) - set(reasons))

    def _run_apart(self, block: Block) -> None:
        """The cells of a block one after the other: their clusters do not fit into memory together."""
        for cell in block.cells:
            for index in range(self.terms.rounds):
                self._round(cell, draw(block, index, self.terms.seed), alone=True)
            self.leave_all()

    def _fits(self, block: Block) -> bool:
        """Whether clusters of all its systems fit into memory together."""
        size = block.nodes, block.link
        wanted = sum(self._taken(cell.shape) for cell in block.cells if cell.shape not in self._up)
        return len(block.variants) == 1 or wanted <= self._memory(keep=size) * MOST_MEMORY

    def _left_s(self) -> float | None:
        """What is left of the budget; None without one."""
        return None if self.terms.budget_s is None else self.terms.budget_s - (time.monotonic() - self._begun)

    def _time_left(self, cell: Cell) -> bool:
        left_s = self._left_s()
        if left_s is None:
            return True
        done = self._rounds.get(cell, {}).values()
        expected_s = max((r.seconds["round_s"] for r in done), default=self.known.cost(cell, self.needs(cell)).seconds)
        return expected_s + (0 if cell.shape in self._up else self.backend.cluster_s) <= left_s

    def _round(self, cell: Cell, drawn: Draw, alone: bool = False) -> None:
        """One round of one cell, unless it is there already or its cluster does not come up."""
        if self._broken or drawn.index in self._rounds.get(cell, {}):
            return
        try:
            up = self._cluster(cell, alone)
        except BenchError as trouble:
            if trouble is not self._down_for.get(cell.shape):
                self.say({"what": "trouble", "text": f"{cell.shape}: {trouble}"})
            self._down_for[cell.shape] = self._troubles[cell] = trouble
            return
        try:
            if why := experiment.unfit(cell, up.environment.probe):
                raise NotReady(why)
            with self._alone(cell, up.cluster):
                begun_s = time.time()
                round_ = self._measured(cell, drawn, up, "draw only" if alone else "draw and time")
            if self._broken:
                return
            self._rounds.setdefault(cell, {})[drawn.index] = round_
        except BenchError as trouble:
            if str(trouble) != str(self._troubles.get(cell)):
                self.say({"what": "trouble", "text": f"{cell}: {trouble}"})
            self._troubles[cell] = trouble
            return
        if self.database is not None:
            self._unlooked.append((round_, (begun_s, time.time()), time.monotonic() + VISIBLE_S))
            self._look_up()
        # programs that were killed, or whose disk was another one, are not what the next round is to find
        killed = cell.disturbance and named(cell.disturbance).kills
        if round_.left_on or killed or (not round_.success and not self._healthy(up.cluster)):
            self._down(cell.shape)

    def _measured(self, cell: Cell, drawn: Draw, up: _Up, paired: str) -> Round:
        """The round, written down before anything else happens."""
        rounds = None if cell.kind == "stability" and self.terms.budget_s else self.terms.rounds
        begin = {"cell": str(cell), "index": drawn.index, "rounds": rounds, "size": cell.size}
        leechers = [up.cluster.nodes[position].name for position in drawn.leechers]
        leechers = leechers if cell.moves == "download" else leechers[:1]
        self.say({"what": "begin", **begin, "leechers": leechers})
        setting = experiment.Setting(
            nodes=up.cluster.nodes,
            environment=up.environment,
            deadline_s=deadline_s(cell.size, self.terms.deadline_s),
            paired=paired,
            also_ran=tuple(str(shape) for shape in self._up if shape != cell.shape),
            relays=self.needs(cell).relays,
            copies=find(cell.shape.variant.system).copies,
            heard=_thinned(self.say),
        )
        _incidents(up.cluster)  # what was before is not this round's
        round_ = RUNS[cell.kind](cell, drawn, setting)
        incidents = _unwanted(round_, _incidents(up.cluster, 0.0 if round_.success else up.cluster.late_s))
        known = not isinstance(incidents, BenchError) and bool(incidents)
        round_ = _with_ends(_spoilt(round_, incidents), up.cluster.nodes, known)
        self._write(round_)
        unkept = str(self._broken) if self._broken else None
        seconds = of_round(round_)["t100_s" if cell.moves == "download" else "publish_s"]
        success, failure = round_.success and not unkept, unkept or round_.failure
        told = {"success": success, "failure": failure, "round_s": round_.seconds["round_s"]}
        self.say({"what": "end", **begin, **told, "seconds": seconds if success else None})
        return round_

    def _look_up(self, all_of_them: bool = False) -> None:
        """Add what a database has of rounds that it had the time to take in; one that does not answer is told of."""
        while self.database is not None and self._unlooked and not self._broken:
            round_, window_s, visible_at = self._unlooked[0]
            if (wait_s := visible_at - time.monotonic()) > 0:
                if not all_of_them:
                    return
                time.sleep(wait_s)
            self._unlooked.pop(0)
            cell, index = str(round_.cell), round_.index
            try:
                series = self.database.of_round(cell, index, *window_s)
                trouble = None if series else "the database has no sample of it"
            except Unanswered as error:
                series, trouble = {}, str(error)
            self._write(Lookup(cell, index, series, trouble))

    def met(self, test: str) -> list[Meeting]:
        """What was recorded of a test with several deployments, before this campaign."""
        return [meeting for meeting in self._meetings if meeting.test == test]

    def time_left_for(self, bring_up: bool) -> bool:
        """Whether there is time for a round of such a test, of which nobody knows how long it takes."""
        left_s = self._left_s()
        return left_s is None or left_s > (self.backend.cluster_s if bring_up else 0.0)

    def write(self, meeting: Meeting) -> None:
        """Write down a round of such a test.

        Raises:
            NotReady: if the journal cannot be written.
        """
        self._write(meeting)
        if self._broken is not None:
            raise NotReady(str(self._broken))

    def _write(self, line: Round | Note | Meeting | Lookup) -> None:
        try:
            self.journal.add(line)
        except OSError as error:
            path = self.journal.path
            self._broken = NotReady(
                f"{path} cannot be written, so nothing more is measured: {error.strerror or error}; mend that, and go "
                f"on with --cb-resume={path.parent.name}"
            )

    def cluster(self, shape: Shape) -> Cluster:
        """A running cluster of that shape, for tests of one's own; clusters of other sizes are taken down.

        Raises:
            NotReady: if it does not come up.
        """
        self._leave_others(shape)
        if shape not in self._up:
            self._up[shape] = self._bring_up(shape)
        return self._up[shape].cluster

    def _cluster(self, cell: Cell, alone: bool) -> _Up:
        """The cluster of a cell, warmed up; one that a test used by hand, or that broke, is replaced by a fresh one."""
        shape = cell.shape
        self._leave_others(shape, alone)
        if shape in self._up and self._up[shape].warm and self._up[shape].cluster.whole():
            return self._up[shape]
        if self._tries.get(shape, 0) >= MOST_TRIES:
            raise self._down_for[shape]
        self._tries[shape] = self._tries.get(shape, 0) + 1
        if shape in self._up:
            self._down(shape)
        try:
            self._warm(cell)
        except BaseException:
            if shape in self._up:
                self._down(shape)
            raise
        self._tries[shape] = 0
        return self._up[shape]

    def _warm(self, cell: Cell) -> None:
        """Bring the cell's cluster up, probe what it runs on, spread a small file over it."""
        shape = cell.shape
        up = self._up[shape] = self._bring_up(shape)
        small = Block(shape.nodes, cell.seeders, WARM_UP_SIZE, shape.link, (shape.variant,))
        with self._alone(cell, up.cluster):
            # where nodes have hosts, their links are limited by somebody else
            hosts, limit = up.cluster.hosts, shape.link if up.cluster.hosts else None
            found = experiment.probe(up.cluster.nodes, hosts, limit)
            up.environment = up.environment.with_probe(found, up.cluster.versions)
            done = self._measured(small.cells[0], draw(small, WARM_UP, self.terms.seed), up, "draw only")
        if not done.success and not self._healthy(up.cluster):
            # what broke a node here is for a round that counts to find; it starts on whole nodes, though cold
            self._down(shape)
            self._up[shape] = _Up((fresh := self._bring_up(shape)).cluster, up.environment, fresh.stack)
        self._up[shape].warm = True

    def _bring_up(self, shape: Shape) -> _Up:
        self.say({"what": "cluster", "text": f"{shape}: starting {shape.nodes} nodes"})
        stack = ExitStack()
        try:
            with stack:
                say = self.say
                cluster = stack.enter_context(
                    self.backend.cluster(
                        shape,
                        lambda text: say({"what": "cluster", "text": text}),
                        max(self.terms.largest, WARM_UP_SIZE),
                    )
                )
                agents = [{"name": node.name, "url": node.url} for node in cluster.nodes]
                self.say({"what": "up", "cluster": str(shape), "agents": agents})
                environment = self.backend.environment(self.terms.workers)
                if hosts := cluster.hosts:
                    environment = replace(environment, colocated=len(set(hosts)) < len(hosts))
                return _Up(cluster, environment, stack.pop_all())
        except OSError as error:
            raise NotReady(f"{shape} cannot be started: {error}") from error

    def _leave_others(self, shape: Shape, alone: bool = False) -> None:
        """Take down the clusters of other sizes; if ``alone``, of other systems too."""
        for other in list(self._up):
            if (other.nodes, other.link) != (shape.nodes, shape.link) or (alone and other != shape):
                self._down(other)

    def _down(self, shape: Shape) -> None:
        """Take a cluster down; one that resists is told at once, and again when the campaign ends."""
        self.say({"what": "down", "cluster": str(shape)})
        try:
            self._up.pop(shape).stack.close()
        except (BenchError, OSError) as trouble:
            self._resisted.append(f"{shape}: {trouble}")
            self.say({"what": "trouble", "text": self._resisted[-1]})

    def leave_all(self) -> None:
        """Take all clusters down: others are to come up."""
        while self._up:
            self._down(next(iter(self._up)))

    def leave(self) -> None:
        """Take down all clusters, also if one of them resists.

        Raises:
            NotReady: with what any cluster of the campaign left behind.
        """
        self.leave_all()
        if self._resisted:
            resisted, self._resisted = self._resisted, []
            raise NotReady(f"not all is taken down: {'; '.join(resisted)}")

    def _healthy(self, cluster: Cluster) -> bool:
        """Whether every agent answers and its node runs, and all that they need beside them."""
        try:
            return cluster.whole() and all(node.runs() for node in cluster.nodes)
        except BenchError:
            return False

    @contextmanager
    def _alone(self, cell: Cell, cluster: Cluster) -> Iterator[None]:
        """Nothing else is measured on the cluster's hosts inside the block; whom it waits for is said now and then."""
        told_at = -math.inf

        def waiting(other: str) -> None:
            nonlocal told_at
            if (now := time.monotonic()) - told_at > WAITING_S:
                told_at = now
                self.say({"what": "waiting", "text": f"{cell}: waits until {other} is through"})

        with self.backend.alone(cluster.hosts, waiting, self._left_s()):
            yield


def _incidents(cluster: Cluster, within_s: float = 0.0) -> Sequence[str] | BenchError:
    """What happened to the nodes; where nothing is known yet, what is in ``within_s`` seconds."""
    end = time.monotonic() + within_s
    try:
        while not (told := cluster.incidents()) and time.monotonic() < end:
            time.sleep(LOOK_S)
    except BenchError as error:
        return error
    return told


def _unwanted(round_: Round, incidents: Sequence[str] | BenchError) -> Sequence[str] | BenchError:
    """What happened to nodes without having been wanted: of one that was killed, its container is started again."""
    if isinstance(incidents, BenchError) or round_.happened is None or not named(round_.happened.name).kills:
        return incidents
    wanted = tuple(started_again(name) for name in round_.happened.nodes)
    return [each for each in incidents if not each.startswith(wanted)]


def _spoilt(round_: Round, incidents: Sequence[str] | BenchError) -> Round:
    """The round as a failed one, if anything happened to its nodes; where nobody can tell, flagged."""
    if isinstance(incidents, BenchError):
        return replace(round_, flags=(*round_.flags, f"what happened to its nodes is not known: {incidents}"))
    if not incidents:
        return round_
    told = [*incidents, *([round_.failure] if round_.failure else [])]
    return replace(round_, error="; ".join(told))


def _with_ends(round_: Round, nodes: Sequence[Node], known: bool) -> Round:
    """A failed round also names the nodes that ended and are not named yet: a leecher may only know that bytes stop.

    Unless it is ``known`` what happened, so too a seeder whose agent is gone, with all of its host as it may be.
    """
    ends = []
    for node in nodes if not round_.success else ():
        try:
            end = node.end()
        except Unreachable as error:
            if not known and node.name in round_.seeders:
                ends.append(experiment.lost(node, error))
            continue
        except BenchError:
            continue  # one that answers, though not to this, has not ended
        if end and f"{node.name} {end}" not in str(round_.failure):
            ends.append(f"{round_.cell.shape.variant.system} node {node.name} {end}")
    return replace(round_, error="; ".join([*ends, *filter(None, [round_.failure])])) if ends else round_


def _thinned(say: Say) -> Callable[[str, Mapping[str, Any]], None]:
    """Passes on what is heard of each node at most five times a second."""
    told: dict[str, float] = {}

    def heard(name: str, line: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if "held" in line and now - told.get(name, -1.0) > LINE_EVERY_S:
            told[name] = now
            say({"what": "line", "node": name, "held": line["held"], "received": line["received"], "t_s": line["t_s"]})

    return heard
