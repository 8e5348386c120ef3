"""The disturbing of one round: waits for its moment, does what is to happen, and puts it right."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pytest_codexbench.agent.client import Download, Node
from pytest_codexbench.disturbances import CPU_SHARE, DISK, LOSS_PERCENT, NETWORK, PROCESSOR, ROOM_SHARE, Disturbance
from pytest_codexbench.errors import BenchError
from pytest_codexbench.matrix import Cell
from pytest_codexbench.records import OK, Happened
from pytest_codexbench.rpc import Message
from pytest_codexbench.stats import median
from pytest_codexbench.systems import Handle, needs_of
from pytest_codexbench.together import each

# A disk is made in whole pages, and file systems keep some for themselves.
DISK_MARGIN, DISK_LEAST = 1.02, 8_000_000
GRACE_S = 2.0

Again = Callable[[], Handle | None]


def _mended(node: Node) -> bool:
    """Take away what holds a node back; whether it is gone."""
    try:
        node.mend()
        now = node.condition()
    except BenchError:
        return False
    return now["packets"] is None and not now["processor"]


class Calm:
    """A round in which nothing happens."""

    late: Node | None = None
    trouble: BenchError | None = None
    unmended: Sequence[str] = ()

    def prepare(self, name: str, handle: Handle, deadline_s: float) -> None:
        """What is so from before the start; ``name`` and ``handle`` are the file's."""

    def begin(self) -> None:
        """The fetches begin."""

    def heard(self, name: str, line: Message) -> None:
        """One line of a running fetch."""

    def first(self, node: Node, line: Message) -> bool:
        """Whether a line is of a fetch that is to begin with the others': of no late one, and of none that goes on."""
        return True

    def joins(self, node: Node) -> bool:
        """Wait until it is a late leecher's turn to fetch; whether it came at all."""
        return True

    def again(self, node: Node, download: Download) -> bool:
        """Whether a fetch that broke off is to go on: its node was killed, and is there again."""
        return False

    def ended(self, node: Node) -> None:
        """A node's fetch is over, well or not."""

    def settle(self) -> None:
        """What lasted to the end is read back; then everything is put right."""

    def put_right(self) -> None:
        """Nothing holds a node back any longer; of one that cannot be told so, the cluster is replaced."""

    def told(self, downloads: Sequence[Download]) -> Happened | None:
        """What happened, as it goes into the record; void if it was too late to disturb anybody."""
        return None


class Disturbing(Calm):
    """What happens to the swarm of one round.

    ``nodes`` are all of it, ``seeders`` and ``leechers`` as they were drawn: the first of each is who it happens to.
    Progress is what leechers tell while they fetch; all moments are of ``clock``, in the process that runs the round.
    """

    def __init__(
        self,
        what: Disturbance,
        cell: Cell,
        nodes: Sequence[Node],
        seeders: Sequence[Node],
        leechers: Sequence[Node],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.what, self.cell, self.nodes, self.leechers, self.clock = what, cell, nodes, leechers, clock
        self.victims = {"seeder": seeders[:1], "leecher": leechers[:1]}.get(what.victim, nodes)
        # the leecher that joins later than the others
        self.late = self.victims[0] if self.what.name == "late-leecher" else None
        self._name, self._handle, self._deadline_s = "", Handle(""), 0.0
        self._lock = threading.Lock()
        self._through: set[str] = set()
        self._held: dict[str, int] = {}
        self._received: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._grew: dict[str, float] = {}
        self._base: dict[str, int] = {}
        self._begun_at = self.clock()
        self._begun: float | None = None
        self._ended: float | None = None
        self._ready: float | None = None
        self._percent: float | None = None
        self._seen: dict[str, float] = {}
        self._void: str | None = None
        self._now, self._over, self._done = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # --- before the start ---------------------------------------------------------------------------------------------

    def prepare(self, name: str, handle: Handle, deadline_s: float) -> None:
        """What is so from before the start; ``name`` and ``handle`` are the file's."""
        self._name, self._handle, self._deadline_s = name, handle, deadline_s
        try:
            if self.what.asks == NETWORK and self.what.percent is None:
                each(self.victims, lambda node: node.hinder(lose=LOSS_PERCENT))
            elif self.what.asks == PROCESSOR:
                each(self.victims, lambda node: node.hinder(processor=CPU_SHARE))
            elif self.what.asks == DISK:
                for node in self.victims:
                    node.hinder(disk=self.room)
                    self._start_again(node)
        except BenchError as error:
            self._void = f"{self.what.name} could not be brought about: {error}"

    @property
    def room(self) -> int:
        """Bytes of a disk that is nearly full: what the system says that a leecher stores, and a little more."""
        return max(DISK_LEAST, int(ROOM_SHARE * needs_of(self.cell.shape).leecher_copies * self.cell.size))

    def begin(self) -> None:
        """The fetches begin."""
        self._begun_at = self.clock()
        if self.what.percent is None:
            self._begun = 0.0 if self.what.asks else None
            return
        self._thread = threading.Thread(target=self._work, name="disturbing", daemon=True)
        self._thread.start()

    # --- while they fetch ---------------------------------------------------------------------------------------------

    def heard(self, name: str, line: Message) -> None:
        """One line of a running fetch."""
        now = self.clock()
        with self._lock:
            if "started" in line:
                self._started.setdefault(name, now)
            if "received" not in line:
                return
            self._held[name] = max(self._held.get(name, 0), int(line["held"]))
            received = int(line["received"])
            if self._ended is not None and name not in self._grew and received > self._base.get(name, 0):
                self._grew[name] = now
            self._received[name] = received
            if self.what.percent is not None and self._progress() >= self.what.percent:
                self._now.set()

    def _progress(self) -> float:
        """How much of the file is there, in percent, where it counts for the moment."""
        watched = self.victims if self.what.own else [node for node in self.leechers if node is not self.late]
        return 100 * median([self._held.get(node.name, 0) for node in watched]) / self.cell.size

    def first(self, node: Node, line: Message) -> bool:
        """Whether a line is of a fetch that is to begin with the others': of no late one, and of none that goes on."""
        return node is not self.late and not ("started" in line and node.name in self._started)

    def joins(self, node: Node) -> bool:
        """Wait until it is a late leecher's turn to fetch; whether it came at all."""
        if node is self.late:
            self._done.wait(self._deadline_s)
            return self._void is None and self._begun is not None
        return True

    def again(self, node: Node, download: Download) -> bool:
        """Whether a fetch that broke off is to go on: its node was killed, and is there again."""
        if download.transfer.error is None or not self.what.kills or self.what.victim != "leecher":
            return False
        if node not in self.victims or self.what.down_s is None or not self._now.is_set():
            return False
        self._done.wait(self.what.down_s + self._deadline_s)
        return self._ready is not None

    def ended(self, node: Node) -> None:
        """A node's fetch is over; once all of those that did not wait are, nothing more happens."""
        with self._lock:
            self._through.add(node.name)
            if self._through >= {each.name for each in self.leechers if each is not self.late}:
                self._over.set()

    def _work(self) -> None:
        try:
            while not self._now.wait(0.05):
                if self._over.is_set():
                    return
            with self._lock:
                self._percent = self._progress()
            self._happen()
        except BenchError as error:
            if self._begun is None:
                self._void = f"{self.what.name} could not be brought about: {error}"
            else:
                self.trouble = error
        finally:
            self._done.set()

    def _happen(self) -> None:
        if self.late is not None:
            self._begun = self._since()
            self._end(self._begun)
        elif self.what.kills:
            self._kill(self.victims[0])
        else:
            self._cut(self.victims[0])

    def _since(self) -> float:
        return self.clock() - self._begun_at

    def _end(self, moment: float) -> None:
        """It is over: from here on new bytes count as recovery."""
        with self._lock:
            self._base = dict(self._received)
            self._ended = moment

    def _kill(self, node: Node) -> None:
        node.kill()
        moment = self._since()
        if node.condition()["runs"]:
            self._void = f"{node.name} was to be killed, but its program runs"
            return
        self._begun = moment
        if self.what.down_s is None:
            self._end(moment)
            return
        if self._over.wait(self.what.down_s):
            return
        self._end(self._since())
        self._start_again(node)
        if node not in self.leechers:
            node.serve_again(self._name, self._handle, self._deadline_s)
        self._ready = self._since()

    def _start_again(self, node: Node) -> None:
        """With its data, and known to the others as before."""
        others = [other for other in self.nodes if other is not node]
        node.start_again([others[0].contact])
        each(self.nodes, lambda one: one.join([other.contact for other in self.nodes if other is not one]))

    def _cut(self, node: Node) -> None:
        node.hinder(cut=True)
        moment = self._since()
        packets = node.condition()["packets"]
        if packets is None or packets["pass"]:
            self._void = f"the link of {node.name} was to be cut, but packets pass"
            return
        self._begun = moment
        self._over.wait(self.what.down_s)
        self._see_dropped(node)
        node.mend()
        self._end(self._since())
        self._ready = self._since()

    # --- after the end ------------------------------------------------------------------------------------------------

    def over(self) -> None:
        """All fetches have ended: nothing more happens."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(self._deadline_s)

    def settle(self) -> None:
        """What lasted to the end is read back; then everything is put right."""
        self.over()
        try:
            if self.what.percent is None and self._void is None:
                self._read_back()
        except BenchError as error:
            self._void = f"whether there was {self.what.name} cannot be told: {error}"
        finally:
            self.put_right()

    def put_right(self) -> None:
        """Nothing holds a node back any longer; of one that cannot be told so, the cluster is replaced."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(GRACE_S)  # after a Ctrl-C it may be in the middle of something
        if self.what.asks in (NETWORK, PROCESSOR):
            self.unmended = [node.name for node in self.victims if not _mended(node)]

    def _read_back(self) -> None:
        for node in self.victims:
            if self.what.asks == NETWORK:
                self._see_dropped(node)
            elif self.what.asks == PROCESSOR:
                seen: Mapping[str, float] = node.condition()["processor"]
                share = seen.get("processor_share")
                if share is None or share > CPU_SHARE:
                    self._void = f"the processor of {node.name} was not limited"
                self._seen["throttled"] = self._seen.get("throttled", 0) + seen.get("throttled", 0)
            elif self.what.asks == DISK:
                self._seen["disk_bytes"] = size = node.condition()["disk_bytes"]
                if size > self.room * DISK_MARGIN:
                    self._void = f"the disk of {node.name} has {size} bytes, not {self.room}"
        if self.what.asks == NETWORK and not self._seen.get("dropped_packets"):
            self._void = "no packet was lost"

    def _see_dropped(self, node: Node) -> None:
        packets = node.condition()["packets"]
        if packets is not None:
            self._seen["dropped_packets"] = self._seen.get("dropped_packets", 0) + packets["dropped"]

    def told(self, downloads: Sequence[Download]) -> Happened:
        """What happened, as it goes into the record; void if it was too late to disturb anybody."""
        void = self._void or self._too_late(downloads)
        return Happened(
            name=self.what.name,
            nodes=tuple(node.name for node in self.victims),
            percent=self._percent,
            begun_s=self._begun,
            ended_s=self._ended,
            ready_s=self._ready,
            recovery_s=None if void else self._recovery_s(downloads),
            seen=self._seen,
            void=void,
        )

    def _too_late(self, downloads: Sequence[Download]) -> str | None:
        if self.what.percent is None:
            return None
        if self._begun is None:
            return f"{self.what.name} did not happen: the moment, {self.what.moment}, never came"
        ends = self._ends(downloads)
        watched = [node.name for node in (self.victims if self.what.own else self.leechers) if node is not self.late]
        last = max((ends.get(name, math.inf) for name in watched), default=math.inf)
        if self._begun >= last:
            return f"{self.what.name} came too late: {self._begun:.2f} s, when all was there since {last:.2f} s"
        return None

    def _ends(self, downloads: Sequence[Download]) -> dict[str, float]:
        """When each leecher had all, since the fetches began; infinite for one that never had."""
        ends = {}
        for download in downloads:
            transfer = download.transfer
            line = next(iter(transfer.timelines.values()), None)
            started = self._started.get(transfer.node, self._begun_at) - self._begun_at
            ends[transfer.node] = started + line.seconds_to(100) if line is not None else math.inf
        return ends

    def _recovery_s(self, downloads: Sequence[Download]) -> float | None:
        """From the end of it to the first new bytes: the median over the leechers that still lacked some."""
        if self._ended is None:
            # killed, and it was all over before it was started again: all gave up, or had the rest from each other
            lost = any(download.transfer.outcome != OK for download in downloads)
            return math.inf if lost and self.what.down_s is not None else None
        ends, ended = self._ends(downloads), self._ended
        affected = self.victims if self.what.victim == "leecher" else self.leechers
        names = [node.name for node in affected if ends.get(node.name, math.inf) > ended]
        # what was under way still comes to one that then gives up
        gave_up = {download.transfer.node for download in downloads if download.transfer.outcome != OK}
        moments = [math.inf if name in gave_up else self._grew.get(name, math.inf) for name in names]
        grew = [moment - self._begun_at - ended for moment in moments]
        return median(grew) if grew else None
