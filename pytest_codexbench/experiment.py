"""One round: seed, fetch, check, forget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pytest_codexbench.agent.client import Download, Heard, Node, Ready
from pytest_codexbench.disturbances import UNDISTURBED, named
from pytest_codexbench.disturbing import Calm, Disturbing
from pytest_codexbench.errors import AgentError, BadTransfer, BenchError, Unreachable
from pytest_codexbench.matrix import Cell, rate_text
from pytest_codexbench.plan import Draw
from pytest_codexbench.records import CORRUPT, FAILED, OK, Counters, Environment, Happened, Round, Transfer
from pytest_codexbench.rpc import Message, load_quick_reader
from pytest_codexbench.systems import Handle
from pytest_codexbench.timeline import Sample, Watch, merged
from pytest_codexbench.together import FEW, each

PROBE_S = 0.5
PROBE_WIRE_BYTES = 1 << 30
PROBE_DISK_BYTES = 64 << 20
# More than the burst that containerd asks for by default, 2^32 - 1 bits.
PROBE_LIMIT_S, PROBE_LIMIT_BYTES = 25.0, 1 << 30
MOST_LIMIT_ERROR = 0.05
# A round whose leechers may have started further apart than this part of the fastest download is flagged.
MOST_SKEW = 0.05
# All fetches of a round must have their threads by then.
START_S = 60


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all rounds that a campaign runs on one cluster at one time.

    ``ready`` is called when all is there for the leechers to begin: it may wait for others.
    """

    nodes: Sequence[Node]
    environment: Environment
    deadline_s: float
    paired: str = "draw and time"
    also_ran: tuple[str, ...] = ()
    relays: bool = True
    copies: bool = True
    heard: Heard = field(default=lambda name, line: None)
    ready: Callable[[], None] = field(default=lambda: None)


def disseminate(cell: Cell, draw: Draw, setting: Setting) -> Round:
    """Spread one file from the drawn seeders to all other nodes; what goes wrong with nodes is in the record."""
    files = named(cell.disturbance).files if cell.disturbance else 1
    course = _Course(cell, draw, setting) if files == 1 else _Several(cell, draw, setting, files)
    return course.run(_fetch_everywhere)


def upload(cell: Cell, draw: Draw, setting: Setting) -> Round:
    """Publish one file at the drawn node; then, outside the clock, the other node fetches it as the proof."""
    return _Course(cell, draw, setting).run(_fetch_as_proof)


def rest(cell: Cell, draw: Draw, setting: Setting) -> Round:
    """The same, and then what each node holds once the file is deleted."""
    round_ = disseminate(cell, draw, setting)
    held = each(setting.nodes, _rest)
    return replace(round_, rest=dict(zip((node.name for node in setting.nodes), held, strict=True)))


def _rest(node: Node) -> Counters:
    try:
        return node.rest()
    except BenchError:
        return Counters()


def probe(nodes: Sequence[Node], hosts: Sequence[str] = (), limit: int | None = None) -> Mapping[str, float | None]:
    """What the cluster's wire and disk (of its first node) carry, in 10^6 B/s.

    The wire between two nodes, or where there are several ``hosts``, from each host to the next: the slowest. With a
    ``limit`` in bits a second that somebody else sees to, the rate after a burst is spent, and the largest
    ``burst_bytes``.
    """
    ring = list(dict(reversed(list(zip(hosts, nodes, strict=False)))).values())
    limits = (PROBE_S, PROBE_WIRE_BYTES) if limit is None else (PROBE_LIMIT_S, PROBE_LIMIT_BYTES)
    rate = None if limit is None else carried_mb_s(limit)
    turns = _turns(ring) if len(ring) > 1 else [[(nodes[0], nodes[1])]]
    told = [one for turn in turns for one in each(turn, lambda pair: pair[0].probe_wire(pair[1], *limits, rate))]
    bursts = {"burst_bytes": max(one["burst_bytes"] for one in told)} if limit is not None else {}
    return {
        "wire_mb_s": min(one["wire_mb_s"] for one in told),
        **bursts,
        "disk_mb_s": nodes[0].disk_mb_s(PROBE_DISK_BYTES),
    }


def _turns(ring: Sequence[Node]) -> list[list[tuple[Node, Node]]]:
    """Each node and the next, in turns in which every node either sends or receives: both at once slow each other."""
    pairs = list(zip(ring, [*ring[1:], ring[0]], strict=True))
    odd = len(ring) % 2
    whole = pairs[: len(pairs) - odd]
    return [turn for turn in (whole[::2], whole[1::2], pairs[len(pairs) - odd :]) if turn]


def carried_mb_s(link_bps: int) -> float:
    """10^6 bytes of payload a second that TCP carries over a link: 1448 of the 1514 bytes of each full frame."""
    return link_bps / 8e6 * 1448 / 1514


def unfit(cell: Cell, found: Mapping[str, float | None]) -> str | None:
    """Why nothing can be measured on links of which a probe found that; None if it can.

    A rate is to be within 5 %, and so is the time that a burst may save on the cell's file.
    """
    link, rate, burst = cell.shape.link, found.get("wire_mb_s"), found.get("burst_bytes")
    if link is None or rate is None or burst is None:
        return None
    asked, wanted = f"links of {rate_text(link)} are asked for", carried_mb_s(link)
    if burst > MOST_LIMIT_ERROR * cell.size:
        return (
            f"{asked}, but {burst / 1e6:.3g} MB pass them at once before the limit holds, {burst / cell.size:.3g} x "
            f"the file, where {MOST_LIMIT_ERROR:g} x may: the cluster's network (CNI) must limit links with a small "
            "burst; or leave out the link, or take larger files"
        )
    if abs(rate / wanted - 1) > MOST_LIMIT_ERROR:
        return (
            f"{asked}, which carry {wanted:.3g} MB/s, but {rate:.3g} MB/s came through: the cluster's network (CNI) "
            f"does not keep to the limit within {MOST_LIMIT_ERROR:.0%}; or leave out the link"
        )
    return None


class _Course:
    """The steps of one round, and what is known after each: a step that fails leaves what came before."""

    def __init__(self, cell: Cell, draw: Draw, setting: Setting) -> None:
        self.cell, self.draw, self.setting = cell, draw, setting
        self.seeders = [setting.nodes[position] for position in draw.seeders]
        self.leechers = [setting.nodes[position] for position in draw.leechers]
        self.name = f"p{draw.seed:012x}"
        self.handle: Handle | None = None
        self.handles: dict[str, Handle] = {}
        self.digest = ""
        self.seconds: dict[str, float] = {}
        self.transfers: list[Transfer] = []
        self.counters: Mapping[str, Counters] = {}
        self.flags: list[str] = []
        self.left_on: list[str] = []
        self.cold_cache = False
        self.upset = Calm()
        if cell.disturbance not in ("", UNDISTURBED):
            what = named(cell.disturbance)
            self.upset = Disturbing(what, cell, setting.nodes, self.seeders, self.leechers)
        self.happened: Happened | None = None

    def run(self, fetch: Callable[[_Course], None]) -> Round:
        load_quick_reader()
        started_at, begun = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
        error = None
        try:
            self.make()
            self.publish()
            fetch(self)
        except BenchError as failure:
            error = str(failure)
        finally:
            self.upset.put_right()
            self.left_on += self.upset.unmended
            self.flags += [f"{name} may still be held back" for name in self.upset.unmended]
        if self.upset.trouble is not None:
            error = error or str(self.upset.trouble)
        self.forget()
        self.seconds["round_s"] = time.perf_counter() - begun
        return Round(
            cell=self.cell,
            index=self.draw.index,
            seed=self.draw.seed,
            seeders=tuple(node.name for node in self.seeders),
            transfers=tuple(self.transfers),
            nodes=self.counters,
            environment=self.setting.environment,
            started_at=started_at,
            handle=self.handle.id if self.handle else "",
            digest=self.digest,
            deadline_s=self.setting.deadline_s,
            seconds=self.seconds,
            cold_cache=self.cold_cache,
            paired=self.setting.paired,
            also_ran=self.setting.also_ran,
            flags=tuple(self.flags),
            left_on=tuple(self.left_on),
            relays=self.setting.relays,
            copies=self.setting.copies,
            error=error,
            happened=self.happened,
        )

    def make(self) -> None:
        """The file on every seeder, before any clock starts; all must have made the same."""
        made = each(self.seeders, lambda node: node.make(self.name, self.cell.size, self.draw.seed))
        self.digest = made[0][0]
        self.seconds["make_s"] = max(seconds for _, seconds in made)
        for node, (digest, _) in zip(self.seeders, made, strict=True):
            if digest != self.digest:
                raise BadTransfer(f"{node.name} made a file with digest {digest} and not {self.digest}")

    def publish(self) -> None:
        """Publish at each seeder, one after the other; all must agree on the handle."""
        alone = self.cell.kind == "upload"
        before = self._begun() if alone else {}
        published = []
        for node in self.seeders:
            published.append(node.publish(self.name, self.setting.deadline_s))
            self.handles[node.name] = published[-1].handle
        self.seconds["seed_s"] = max(one.seconds["publish_s"] for one in published)
        self.handle = published[0].handle
        for node, one in zip(self.seeders, published, strict=True):
            if one.handle.id != self.handle.id:
                raise BadTransfer(
                    f"{node.name} published the file as {one.handle.id}, but {self.seeders[0].name} as "
                    f"{self.handle.id}: same bytes, so the handles should be the same"
                )
        if alone:
            self.counters = _grown(before, self._counted())
            self.transfers.append(Transfer(self.seeders[0].name, "upload", OK, seconds=published[0].seconds))

    def cool(self) -> None:
        """Nothing that is stored anywhere is in the page cache any more, or the record says so."""
        self.cold_cache = all(each(self.setting.nodes, Node.drop_cache, FEW))
        if not self.cold_cache:
            self.flags.append("page cache not dropped")

    def fetch(self, leechers: Sequence[Node]) -> list[Download]:
        """All leechers at the same moment, each to its end."""
        if self.handle is None:
            raise BadTransfer("nothing was published")
        upset = self.upset
        moments = _Moments(sum(node is not upset.late for node in leechers))
        sources = [node.contact for node in self.seeders]
        handle, size, deadline_s = self.handle, self.cell.size, self.setting.deadline_s

        def one(turn: tuple[int, Node]) -> Download:
            position, node = turn
            seen: list[Message] = []

            def heard(name: str, line: Message) -> None:
                if upset.first(node, line):
                    moments.answered(line)
                if "t_s" in line or "view" in line:
                    seen.append(line)
                upset.heard(name, line)
                self.setting.heard(name, line)

            def ask(begin: Ready | None, again: bool) -> Download:
                return node.download(handle, size, sources, position, deadline_s, heard, begin, again)

            try:
                return _with_what_happens(node, upset, lambda: moments.together(node.name), ask)
            except AgentError as error:
                if node is not upset.late:
                    moments.without(node.name)
                return Download(_lost(node, size, seen, error))

        upset.begin()
        try:
            downloads = each(list(enumerate(leechers)), one)
        except BaseException:
            moments.abort()  # some may wait for others that a Ctrl-C kept from starting
            raise
        upset.settle()
        self.happened = upset.told(downloads)
        self.seconds["start_skew_s"] = moments.skew_s()
        return downloads

    def check(self, leechers: Sequence[Node], downloads: Sequence[Download]) -> list[Transfer]:
        """The digest of what each leecher got, outside the clock."""
        pairs = list(zip(leechers, downloads, strict=True))
        return each(pairs, lambda pair: _checked(*pair, self.digest, self.cell), FEW)

    def _counted(self) -> Mapping[str, Counters]:
        nodes = self.setting.nodes
        return dict(zip((node.name for node in nodes), each(nodes, _counters, FEW), strict=True))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What every node used inside the block."""
        before = self._begun()
        yield
        self.counters = _grown(before, self._counted())

    def _begun(self) -> Mapping[str, Counters]:
        """The counters so far; peaks of memory are counted from now on, or the record says that they are not."""
        told = each(self.setting.nodes, self._begin, FEW)
        if not all(reset for reset, _ in told):
            self.flags.append("peaks of memory may be older than the round")
        return {node.name: counters for node, (_, counters) in zip(self.setting.nodes, told, strict=True)}

    def _begin(self, node: Node) -> tuple[bool, Counters]:
        role = "seeder" if node in self.seeders else "leecher"
        try:
            return node.begin({"cell": str(self.cell), "round": str(self.draw.index), "role": role})
        except BenchError:
            return False, Counters()

    def forget(self) -> None:
        """Delete everywhere, and look that it is gone."""
        for node, why in zip(self.setting.nodes, each(self.setting.nodes, self._kept, FEW), strict=True):
            if why is not None:
                self.left_on.append(node.name)
                self.flags.append(f"{node.name} {why}")

    def _kept(self, node: Node) -> str | None:
        """What is said of a node that may still hold something; None if it holds nothing."""
        try:
            gone = node.delete(self.name, self.handles.get(node.name, self.handle), self.cell.size)
        except Unreachable as error:
            return f"could not be asked to delete the file: {error}"
        except BenchError as error:
            return f"still held the file after its deletion ({error})"
        return None if gone else "still held the file after its deletion"


class _Several(_Course):
    """The same for some files at once, which together have the size of the one: a course of its own for each."""

    def __init__(self, cell: Cell, draw: Draw, setting: Setting, files: int) -> None:
        super().__init__(cell, draw, setting)
        self.upset = Calm()
        part, rest = divmod(cell.size, files)
        sizes = [part + (rest if index == 0 else 0) for index in range(files)]
        self.parts = [
            _Course(replace(cell, size=size, kind="download", disturbance=""), self._draw(index), setting)
            for index, size in enumerate(sizes)
        ]
        self._got: list[list[Download]] = []

    def _draw(self, index: int) -> Draw:
        return replace(self.draw, seed=(self.draw.seed + index) % 2**48)

    def make(self) -> None:
        for part in self.parts:
            part.make()
        self.digest = self.parts[0].digest
        self.seconds["make_s"] = sum(part.seconds["make_s"] for part in self.parts)

    def publish(self) -> None:
        for part in self.parts:
            part.publish()
        self.handle = self.parts[0].handle
        self.seconds["seed_s"] = max(part.seconds["seed_s"] for part in self.parts)

    def fetch(self, leechers: Sequence[Node]) -> list[Download]:
        """All files at every leecher."""
        begun = time.perf_counter()
        began: list[float] = []

        def one(part: _Course) -> list[Download]:
            began.append(time.perf_counter() - begun)
            return part.fetch(leechers)

        self._got = each(self.parts, one)
        self.seconds["start_skew_s"] = max(part.seconds["start_skew_s"] for part in self.parts) + max(began)
        self.happened = self._told(max(began))
        return []

    def _told(self, latest_s: float) -> Happened:
        """That they were fetched at once: each leecher's last file had begun before its first one was there."""
        ends = [_end_s(download.transfer) for got in self._got for download in got]
        seen = {"files": float(len(self.parts))}
        apart = latest_s >= min(ends, default=0.0) or len(self.parts) < named(self.cell.disturbance).files
        void = f"{len(self.parts)} files were not fetched at once" if apart else None
        names = tuple(node.name for node in self.leechers)
        return Happened(self.cell.disturbance, names, begun_s=latest_s, seen=seen, void=void)

    def check(self, leechers: Sequence[Node], downloads: Sequence[Download]) -> list[Transfer]:
        """The digest of every file, outside the clock; a leecher has it all when it has each of them."""
        checked = [part.check(leechers, got) for part, got in zip(self.parts, self._got, strict=True)]
        return [_together(transfers) for transfers in zip(*checked, strict=True)]

    def forget(self) -> None:
        for part in self.parts:
            part.forget()
        for part in self.parts:
            # what a node holds of the others says nothing; now that all are deleted, it is asked again
            part.flags, part.left_on = [], []
            part.forget()
            self.left_on += part.left_on
            self.flags += part.flags
        self.left_on = list(dict.fromkeys(self.left_on))


def _end_s(transfer: Transfer) -> float:
    line = next(iter(transfer.timelines.values()), None)
    return line.end_ns / 1e9 if line is not None else 0.0


def _together(transfers: Sequence[Transfer]) -> Transfer:
    """Several transfers of one node, at once, as one: what it held of all files at each moment, the first error."""
    bad = next((transfer for transfer in transfers if transfer.outcome != OK), transfers[0])
    views = set.intersection(*(set(transfer.timelines) for transfer in transfers))
    lines = {view: merged([transfer.timelines[view] for transfer in transfers]) for view in views}
    return replace(bad, timelines=lines, seconds={})


def _fetch_everywhere(course: _Course) -> None:
    course.cool()
    if course.handle is not None:
        course.upset.prepare(course.name, course.handle, course.setting.deadline_s)
    with course.counted():
        course.setting.ready()
        downloads = course.fetch(course.leechers)
    course.transfers += course.check(course.leechers, downloads)
    fastest = min((line.seconds_to(100) for t in course.transfers for line in t.timelines.values()), default=0.0)
    if course.seconds["start_skew_s"] > MOST_SKEW * fastest:
        course.flags.append("leechers may have started too far apart (start_skew_s)")


def _fetch_as_proof(course: _Course) -> None:
    course.cool()
    downloads = course.fetch(course.leechers[:1])
    proofs = course.check(course.leechers[:1], downloads)
    course.transfers += [replace(proof, kind="proof") for proof in proofs]


def _with_what_happens(
    node: Node, upset: Calm, ready: Ready, ask: Callable[[Ready | None, bool], Download]
) -> Download:
    """One node's fetch: a late one begins when its moment has come, and one that was killed goes on."""
    if not upset.joins(node):
        raise AgentError("its moment to join never came")
    try:
        download = ask(None if node is upset.late else ready, False)
        return ask(None, True) if upset.again(node, download) else download
    finally:
        upset.ended(node)


def _checked(node: Node, download: Download, digest: str, cell: Cell) -> Transfer:
    transfer = download.transfer
    if transfer.outcome != OK:
        return transfer
    try:
        got = node.check(download, cell.size)
    except BenchError as error:
        return replace(transfer, outcome=FAILED, error=str(error))
    if got == digest:
        return transfer
    told = f"{node.name} fetched {cell.size} bytes, but their digest is {got} and not {digest}"
    return replace(transfer, outcome=CORRUPT, error=told)


def _lost(node: Node, size: int, seen: Sequence[Message], error: AgentError) -> Transfer:
    """The record of a transfer whose agent went away: what it had told until then."""
    watch, view = Watch(size), seen[0]["view"] if seen else ""
    for line in seen[1:]:
        watch.see(Sample(int(line["t_s"] * 1e9), line["received"], line["held"]))
    timelines = {view: watch.timeline()} if len(seen) > 1 else {}
    return Transfer(node.name, "download", FAILED, timelines, error=lost(node, error))


def lost(node: Node, error: AgentError) -> str:
    """That a node's agent went away, in words."""
    return f"the agent of {node.name} was lost: {error}"


class _Moments:
    """Bounds on when the leechers started, all on this host's clock: between the request and its first answer.

    ``parties`` of them start together.
    """

    def __init__(self, parties: int) -> None:
        self._start, self._waited = threading.Barrier(parties), set[str]()
        self._lock = threading.Lock()
        self._sent: list[float] = []
        self._answered: list[float] = []

    def together(self, name: str) -> None:
        """Wait until all agents wait for no more than the word to begin."""
        self._waited.add(name)
        try:
            self._start.wait(START_S)
        except threading.BrokenBarrierError:
            raise AgentError("the fetches were given up before they all had started") from None
        with self._lock:
            self._sent.append(time.perf_counter())

    def without(self, name: str) -> None:
        """One has failed: if it did before the start, the others are not to wait for it."""
        if name not in self._waited:
            with suppress(threading.BrokenBarrierError):
                self._start.wait(START_S)

    def abort(self) -> None:
        """Nobody waits any longer."""
        self._start.abort()

    def answered(self, line: Message) -> None:
        if "started" in line:
            with self._lock:
                self._answered.append(time.perf_counter())

    def skew_s(self) -> float:
        """The most that two starts can lie apart; for one leecher there is none."""
        return max(self._answered) - min(self._sent) if len(self._answered) > 1 else 0.0


def _counters(node: Node) -> Counters:
    try:
        return node.counters()
    except BenchError:
        return Counters()


def _grown(before: Mapping[str, Counters], after: Mapping[str, Counters]) -> Mapping[str, Counters]:
    return {name: counters.since(before[name]) for name, counters in after.items()}
