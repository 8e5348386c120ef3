"""What was measured, as it is written down: a line a round."""

from __future__ import annotations

import fcntl
import gc
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import BenchError
from pytest_codexbench.matrix import Cell, Shape, Variant, size_text
from pytest_codexbench.plan import WARM_UP
from pytest_codexbench.timeline import Timeline

SCHEMA = 1
JOURNAL = "records.jsonl"
OK, CORRUPT, LATE, FAILED = "ok", "corrupt", "late", "failed"


OF_A_MOMENT = ("rss_bytes", "disk_bytes", "started_at_s")


@dataclass(frozen=True, slots=True)
class Counters:
    """What one node used over a round. Bytes and seconds; None where nobody can tell.

    The last three are of one moment, not over a round: memory that is resident, bytes on its disk, and when its program
    was started, in seconds since 1970.
    """

    wire_rx_bytes: int | None = None
    wire_tx_bytes: int | None = None
    payload_rx_bytes: int | None = None
    payload_tx_bytes: int | None = None
    cpu_s: float | None = None
    rss_peak_bytes: int | None = None
    more: Mapping[str, float] = field(default_factory=dict)
    rss_bytes: int | None = None
    disk_bytes: int | None = None
    started_at_s: float | None = None

    def since(self, before: Counters) -> Counters:
        """What was added since ``before``; the peak of memory stays as it is, as does what is of one moment."""

        def grown(now: float | None, then: float | None) -> Any:
            return None if now is None or then is None else now - then

        return Counters(
            wire_rx_bytes=grown(self.wire_rx_bytes, before.wire_rx_bytes),
            wire_tx_bytes=grown(self.wire_tx_bytes, before.wire_tx_bytes),
            payload_rx_bytes=grown(self.payload_rx_bytes, before.payload_rx_bytes),
            payload_tx_bytes=grown(self.payload_tx_bytes, before.payload_tx_bytes),
            cpu_s=grown(self.cpu_s, before.cpu_s),
            rss_peak_bytes=self.rss_peak_bytes,
            more={key: value - before.more[key] for key, value in self.more.items() if key in before.more},
            rss_bytes=self.rss_bytes,
            disk_bytes=self.disk_bytes,
            started_at_s=self.started_at_s,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is of one moment only where it was asked for."""
        told = {name: getattr(self, name) for name in self.__slots__ if name != "more"}
        kept = {name: value for name, value in told.items() if name not in OF_A_MOMENT or value is not None}
        return {**kept, "more": dict(self.more)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Counters:
        """The inverse of ``to_json``."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One node's part of a round. ``seconds`` are its other durations by name, such as ``publish_s``."""

    node: str
    kind: str
    outcome: str
    timelines: Mapping[str, Timeline] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    log_tail: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "node": self.node,
            "kind": self.kind,
            "outcome": self.outcome,
            "timelines": {view: timeline.to_json() for view, timeline in self.timelines.items()},
            "seconds": dict(self.seconds),
            "error": self.error,
            "log_tail": self.log_tail,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Transfer:
        """The inverse of ``to_json``."""
        timelines = {view: Timeline.from_json(timeline) for view, timeline in data["timelines"].items()}
        return cls(**{**data, "timelines": timelines})


@dataclass(frozen=True, slots=True)
class Happened:
    """What was done to a swarm in one round, and when: seconds since the fetches began, by the clock of the runner.

    ``nodes`` are those it was done to. It began ``begun_s``, when the file was there to ``percent``; it was over
    ``ended_s``, and those it was done to served again ``ready_s``. After its end new bytes came within ``recovery_s``:
    infinite, if none came. ``seen`` is what was read back of it. ``void`` says why it was none: the round then counts
    for nothing.
    """

    name: str
    nodes: tuple[str, ...] = ()
    percent: float | None = None
    begun_s: float | None = None
    ended_s: float | None = None
    ready_s: float | None = None
    recovery_s: float | None = None
    seen: Mapping[str, float] = field(default_factory=dict)
    void: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; a recovery that was not reached is null, and said."""
        told = {name: _plain(getattr(self, name)) for name in self.__slots__}
        never = self.recovery_s == math.inf
        return {
            **told,
            "nodes": list(self.nodes),
            "recovery_s": None if never else self.recovery_s,
            "recovered": not never,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Happened:
        """The inverse of ``to_json``."""
        told = {key: value for key, value in data.items() if key != "recovered"}
        recovery_s = told["recovery_s"] if data["recovered"] else math.inf
        return cls(**{**told, "nodes": tuple(told["nodes"]), "recovery_s": recovery_s})


@dataclass(frozen=True, slots=True)
class Environment:
    """Where it was measured. Two results compare only if these agree, or the comparison says where they do not.

    ``versions`` by program; ``machine`` is plain data of processor, cores and memory; ``probe`` holds the measured
    ``wire_mb_s`` and ``disk_mb_s`` of the cluster; ``wire`` says how bytes on the wire were counted.
    """

    backend: str
    isolation: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    kernel: str
    colocated: bool
    workers: int
    wire: str
    probe: Mapping[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Environment:
        """The inverse of ``to_json``."""
        return cls(**data)

    def with_probe(self, probe: Mapping[str, float | None], versions: Mapping[str, str]) -> Environment:
        """The same place, with what a cluster's probe found and the versions its nodes tell."""
        return replace(self, probe=probe, versions={**self.versions, **versions})


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class Round:
    """Raw truth, one line of the journal; all that is shown is derived from these.

    ``seconds`` of the round as a whole: ``make_s``, ``start_skew_s``, ``round_s``. ``nodes`` are the counters of
    every node over the measured part. ``flags`` are what makes it less than perfect, in words; ``left_on`` are the
    nodes that still held something of the file after its deletion: nothing more is measured on them. ``relays`` and
    ``copies`` are the system's: leechers pass on what they have; publishing copies the bytes into the network.
    ``series`` is what a database of metrics had of the round, by metric, where one was asked: a line of its own.
    ``happened`` is what was done to the swarm meanwhile; ``rest`` what each node holds after the deletion, in a soak.
    """

    cell: Cell
    index: int
    seed: int
    seeders: tuple[str, ...]
    transfers: tuple[Transfer, ...]
    nodes: Mapping[str, Counters]
    environment: Environment
    started_at: str
    handle: str = ""
    digest: str = ""
    deadline_s: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    cold_cache: bool = True
    paired: str = "draw and time"
    also_ran: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    left_on: tuple[str, ...] = ()
    relays: bool = True
    copies: bool = True
    error: str | None = None
    series: Mapping[str, Any] = field(default_factory=dict)
    happened: Happened | None = None
    rest: Mapping[str, Counters] = field(default_factory=dict)

    @property
    def warmup(self) -> bool:
        """Whether it only warmed the cluster up and is in no statistics."""
        return self.index == WARM_UP

    @property
    def success(self) -> bool:
        """Every transfer that was to be measured ended with all bytes, checked, in time."""
        measured = [transfer for transfer in self.transfers if transfer.kind == self.cell.moves]
        wanted = self.cell.leechers if self.cell.moves == "download" else 1
        whole = self.error is None and self.void is None
        return whole and len(measured) == wanted and all(t.outcome == OK for t in self.transfers)

    @property
    def void(self) -> str | None:
        """Why it counts for nothing: what was to happen did not; None if it counts."""
        return self.happened.void if self.happened else None

    @property
    def failure(self) -> str | None:
        """What went wrong first, or None."""
        if self.void is not None:
            return f"void: {self.void}"
        return self.error or next((t.error for t in self.transfers if t.outcome != OK and t.error), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data: one line of the journal."""
        return {
            "kind": "round",
            "schema": SCHEMA,
            "cell": cell_to_json(self.cell),
            "index": self.index,
            "warmup": self.warmup,
            "success": self.success,
            "seed": self.seed,
            "seeders": list(self.seeders),
            "started_at": self.started_at,
            "handle": self.handle,
            "digest": self.digest,
            "deadline_s": self.deadline_s,
            "seconds": dict(self.seconds),
            "cold_cache": self.cold_cache,
            "paired": self.paired,
            "also_ran": list(self.also_ran),
            "flags": list(self.flags),
            "left_on": list(self.left_on),
            "relays": self.relays,
            "copies": self.copies,
            "error": self.error,
            **({"happened": self.happened.to_json()} if self.happened else {}),
            **({"rest": {name: each.to_json() for name, each in self.rest.items()}} if self.rest else {}),
            "transfers": [transfer.to_json() for transfer in self.transfers],
            "nodes": {name: counters.to_json() for name, counters in self.nodes.items()},
            "environment": self.environment.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Round:
        """The inverse of ``to_json``."""
        plain = ("index", "seed", "started_at", "handle", "digest", "deadline_s", "seconds", "cold_cache")
        also = ("paired", "relays", "copies")
        return cls(
            cell=cell_from_json(data["cell"]),
            seeders=tuple(data["seeders"]),
            transfers=tuple(Transfer.from_json(transfer) for transfer in data["transfers"]),
            nodes={name: Counters.from_json(counters) for name, counters in data["nodes"].items()},
            environment=Environment.from_json(data["environment"]),
            also_ran=tuple(data["also_ran"]),
            flags=tuple(data["flags"]),
            left_on=tuple(data["left_on"]),
            error=data["error"],
            happened=Happened.from_json(data["happened"]) if data.get("happened") else None,
            rest={name: Counters.from_json(counters) for name, counters in data.get("rest", {}).items()},
            **{name: data[name] for name in (*plain, *also)},
        )


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """Plain data, with the id and the key for people and scripts."""
    variant = cell.shape.variant
    return {
        "id": str(cell),
        "key": cell.key,
        "kind": cell.kind,
        "variant": variant.name,
        "system": variant.system,
        "settings": dict(variant.settings),
        "nodes": cell.shape.nodes,
        "seeders": cell.seeders,
        "size": cell.size,
        "size_text": size_text(cell.size),
        "link": cell.shape.link,
        **({"disturbance": cell.disturbance} if cell.disturbance else {}),
    }


def cell_from_json(data: dict[str, Any]) -> Cell:
    """The inverse of ``cell_to_json``."""
    variant = Variant(data["variant"], data["system"], tuple(sorted(data["settings"].items())))
    shape = Shape(variant, data["nodes"], data["link"])
    return Cell(shape, data["seeders"], data["size"], data["kind"], data.get("disturbance", ""))


@dataclass(frozen=True, slots=True)
class Note:
    """Something a run has to say of a cell that is no round: ``what`` is ``skipped`` or ``error``."""

    what: str
    cell: Cell
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain data: one line of the journal."""
        return {"kind": "note", "schema": SCHEMA, "what": self.what, "cell": cell_to_json(self.cell), "text": self.text}


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a database of metrics had of a round, added after the round itself; ``trouble`` if it had nothing."""

    cell: str
    index: int
    series: Mapping[str, Any]
    trouble: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data: one line of the journal."""
        told = {"cell": self.cell, "index": self.index, "series": dict(self.series), "trouble": self.trouble}
        return {"kind": "series", "schema": SCHEMA, **told}

    def of(self, round_: Round) -> Round:
        """The round with it."""
        flags = (f"no series: {self.trouble}",) if self.trouble else ()
        return replace(round_, series=self.series, flags=(*round_.flags, *flags))


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one node saw of a message: how many copies, and the seconds since it was sent; ``error`` if it broke."""

    node: str
    copies: int = 0
    latency_s: float | None = None
    error: str | None = None
    seen_ns: int | None = None

    def since(self, sent_ns: int) -> Delivery:
        """With its latency, counted from a moment of the same clock."""
        seen = self.seen_ns
        return self if seen is None else replace(self, latency_s=(seen - sent_ns) / 1e9, seen_ns=None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"node": self.node, "copies": self.copies, "latency_s": self.latency_s, "error": self.error}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Delivery:
        """The inverse of ``to_json``."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Meeting:
    """One round of a test with several deployments: what was measured of them together.

    ``test`` is its name, ``deployments`` are plain data of each: its name, variant, nodes, whom it meets. ``measures``
    are figures by name, with the unit in it. It succeeded if nothing is told in ``error``.
    """

    test: str
    index: int
    deployments: tuple[Mapping[str, Any], ...]
    environment: Environment
    started_at: str
    seconds: float
    measures: Mapping[str, float] = field(default_factory=dict)
    deliveries: tuple[Delivery, ...] = ()
    flags: tuple[str, ...] = ()
    error: str | None = None

    @property
    def success(self) -> bool:
        """Whether all of it was as it should be."""
        return self.error is None

    def to_json(self) -> dict[str, Any]:
        """Plain data: one line of the journal."""
        return {
            "kind": "meeting",
            "schema": SCHEMA,
            "test": self.test,
            "index": self.index,
            "success": self.success,
            "deployments": [dict(one) for one in self.deployments],
            "started_at": self.started_at,
            "seconds": self.seconds,
            "measures": dict(self.measures),
            "deliveries": [delivery.to_json() for delivery in self.deliveries],
            "flags": list(self.flags),
            "error": self.error,
            "environment": self.environment.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Meeting:
        """The inverse of ``to_json``."""
        return cls(
            deployments=tuple(data["deployments"]),
            deliveries=tuple(Delivery.from_json(delivery) for delivery in data["deliveries"]),
            flags=tuple(data["flags"]),
            environment=Environment.from_json(data["environment"]),
            **{name: data[name] for name in ("test", "index", "started_at", "seconds", "measures", "error")},
        )


@dataclass(frozen=True, slots=True)
class Story:
    """What a journal holds: rounds, notes and meetings in order, and what could not be read, in words."""

    rounds: tuple[Round, ...]
    notes: tuple[Note, ...]
    problems: tuple[str, ...]
    meetings: tuple[Meeting, ...] = ()

    def measured(self) -> Iterator[Round]:
        """The rounds that count: without warm-ups."""
        return (round_ for round_ in self.rounds if not round_.warmup)


class Journal:
    """The file that a run's lines are added to; safe with several writers, and against being killed at any moment."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL

    def add(self, line: Round | Note | Meeting | Lookup) -> None:
        """Write one line and wait until the disk has it.

        Raises:
            OSError: as the disk says; what is in the file already stays readable.
        """
        data = json.dumps(line.to_json(), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            end = os.fstat(fd).st_size
            if end and os.pread(fd, 1, end - 1) != b"\n":  # a writer was killed in the middle of its line
                data = b"\n" + data
            _write_whole(fd, data, end)
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self) -> Story:
        """All that can be read of it; an absent file is an empty story."""
        return read_journal(self.path)


def _write_whole(fd: int, data: bytes, end: int) -> None:
    """All of it or, on a full disk, nothing."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        os.ftruncate(fd, end)
        raise


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a journal, one after the other: it may be larger than the memory. None of one that is not there."""
    if path.exists():
        with path.open("rb") as file:
            yield from file


# What a damaged line may raise, down to a number that no counter can hold.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, BenchError)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage inside: what is read has no cycles, and millions of new marks make it search all the time.

    A journal of 100 MB is read in a quarter of the time so.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Reader:
    """What was read of a journal so far."""

    def __init__(self) -> None:
        self.rounds: dict[tuple[Cell, int], Round] = {}
        self.warmups: list[Round] = []
        self.notes: list[Note] = []
        self.meetings: dict[tuple[str, int], Meeting] = {}
        self.lookups: dict[tuple[str, int], Lookup] = {}
        self.kinds: Mapping[str, Callable[[dict[str, Any]], str | None]] = {
            "round": self._round,
            "note": self._note,
            "meeting": self._meeting,
            "series": self._series,
        }

    def take(self, line: bytes) -> str | None:
        """Take in one line; what is wrong with it, in words."""
        data = json.loads(line)
        if data["schema"] != SCHEMA:
            return f"schema {data['schema']!r} is not known here (this version reads {SCHEMA})"
        take = self.kinds.get(data["kind"])
        return take(data) if take else f"kind {data['kind']!r} is not known here"

    def _round(self, data: dict[str, Any]) -> str | None:
        round_ = Round.from_json(data)
        if round_.warmup:
            self.warmups.append(round_)
        elif (round_.cell, round_.index) in self.rounds:
            return f"{round_.cell} round {round_.index} is there already; the first one counts"
        else:
            self.rounds[round_.cell, round_.index] = round_
        return None

    def _note(self, data: dict[str, Any]) -> None:
        self.notes.append(Note(data["what"], cell_from_json(data["cell"]), data["text"]))

    def _meeting(self, data: dict[str, Any]) -> None:
        meeting = Meeting.from_json(data)
        self.meetings.setdefault((meeting.test, meeting.index), meeting)

    def _series(self, data: dict[str, Any]) -> None:
        found = Lookup(data["cell"], data["index"], data["series"], data["trouble"])
        self.lookups[found.cell, found.index] = found

    def story(self, problems: Sequence[str]) -> Story:
        """All of it: what belongs to a round, with the round."""
        for (cell, index), round_ in self.rounds.items():
            if (lookup := self.lookups.get((str(cell), index))) is not None:
                self.rounds[cell, index] = lookup.of(round_)
        rounds = (*self.warmups, *self.rounds.values())
        return Story(rounds, tuple(self.notes), tuple(problems), tuple(self.meetings.values()))


@_uncollected()
def read_journal(path: Path) -> Story:
    """What the journal holds. Unreadable lines, doubled rounds and unknown schemas are told of and left out."""
    reader, problems = _Reader(), list[str]()
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            problem = reader.take(line)
        except UNREADABLE as error:
            problem = f"not readable, left out ({type(error).__name__}: {str(error)[:80]})"
        if problem:
            problems.append(f"{path.name}, line {number}: {problem}")
    return reader.story(problems)
