"""What a storage network must offer to be measured, and where to find one by its name."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Shape, Variant
from pytest_codexbench.plan import Needs

GROUP = "codexbench.systems"
AVAILABLE, CONTIGUOUS = "available", "contiguous"

Contact = Mapping[str, str]
"""What a node tells of itself so that others can join it or fetch from it: always ``address``, more by system."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one node lives: its name, its address, a folder of its own, the cluster's services by name (URLs).

    ``largest`` is the size in bytes of the largest file that it will have to hold, one at a time. ``ports`` are those
    of a program that others started, in a container beside the agent; empty where the driver starts it and chooses.
    """

    name: str
    address: str
    folder: Path
    token: str
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    largest: int = 10**9
    ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def control(self) -> str:
        """URL of the socket on which a node program of this project listens to its agent."""
        return f"unix:{self.folder}/node.sock"

    @property
    def data(self) -> Path:
        """The folder for what the node stores."""
        return self.folder / "data"


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a program."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handle:
    """What stands for a published file: all its seeders agree on ``id``; ``ticket`` is what else a fetch needs."""

    id: str
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """The answer to a publish; ``seconds`` are its parts by name, among them ``publish_s``."""

    handle: Handle
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Want:
    """A fetch: what, from whom, how large, until when. Moments are of ``time.perf_counter_ns``.

    ``again``: an earlier fetch of it broke off because the node was killed; what that one left may be used.
    """

    handle: Handle
    size: int
    sources: Sequence[Contact]
    position: int
    start_ns: int
    deadline_ns: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """The state of a fetch at one moment: bytes received, bytes held by view. ``news`` names a moment of its own."""

    t_ns: int
    received: int
    held: Mapping[str, int]
    news: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The end of a fetch: the file, its digest where the bytes were read through, or a URL that gives them back."""

    path: Path | None = None
    digest: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and when it was seen, in nanoseconds since 1970 by its node's host."""

    payload: bytes
    seen_ns: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of files that a node took in and gave out, without any header; None where it does not tell."""

    payload_rx_bytes: int | None = None
    payload_tx_bytes: int | None = None
    more: Mapping[str, float] = field(default_factory=dict)


class Driver(Protocol):
    """One node, as the agent beside it drives it. Every method ends in time, or raises a ``BenchError``.

    Calls come one after the other, from different threads, but for fetches, of which several may go on. Each in time:
    60 s for a start, 120 s for ``join``, for ``delete`` 240 s and a second for each 10 MB; ``fetch`` gives an arrival
    at least once a second.
    """

    @property
    def views(self) -> tuple[str, ...]:
        """The views that its arrivals tell: some or all of the system's."""

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """How to start the node's program; ``bootstrap`` are contacts of nodes that run already."""

    def ready(self) -> Contact | None:
        """One look at the node: its contact once it can be used; None, or an ``AgentError``, while it comes up."""

    def versions(self) -> Mapping[str, str]:
        """Version by program, asked of the running node."""

    def join(self, others: Sequence[Contact]) -> None:
        """Make the node know the others."""

    def publish(self, file: Path, deadline_s: float) -> Published:
        """Make ``file`` fetchable by other nodes."""

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """Fetch a file: an arrival for each change, and at least one a second; the result is its end."""

    def delete(self, handle: Handle) -> None:
        """Make the node forget the file and free its room. No error if it has none."""

    def holds(self, handle: Handle | None) -> bool:
        """Whether the node still has anything of the file; None: of any file, after a publish that broke off."""

    def traffic(self) -> Traffic:
        """Its counters since it was started."""


@runtime_checkable
class Messenger(Protocol):
    """What a driver of a network of messages can do besides; such a network stores no file.

    A message is of one shard, and seen by those nodes alone that take part in it.
    """

    def subscribe(self, shard: int) -> None:
        """Take part in a shard, besides that of the node's own settings; again is no error."""

    def peers(self) -> int:
        """How many nodes it is connected to."""

    def send(self, payload: bytes, shard: int) -> int:
        """Publish a message: the moment before, in nanoseconds since 1970 by the node's host."""

    def receive(self, shard: int) -> list[Message]:
        """What came since it was asked last; its own messages too."""


@runtime_checkable
class ServesAgain(Protocol):
    """What a driver also has if its node, killed and started again with all its data, must be told what it serves."""

    def serve_again(self, file: Path, handle: Handle, deadline_s: float) -> None:
        """Make ``file``, which was published as ``handle``, fetchable again."""


class System(Protocol):
    """One storage network: how to start a node and how to use one. Its class is called without arguments.

    What it tells of itself may be plain attributes of the class.
    """

    @property
    def name(self) -> str:
        """The entry point's name."""

    @property
    def views(self) -> tuple[str, ...]:
        """All views that some variant of it can tell."""

    @property
    def needs_bootstrap(self) -> bool:
        """Whether all nodes but the first need the first one's contact to start."""

    @property
    def copies(self) -> bool:
        """Whether publishing copies the bytes into the network; without it there is no upload to compare."""

    @property
    def publishing(self) -> str:
        """What a publish is, in words."""

    def wrong(self, variant: Variant) -> str | None:
        """What is wrong with the variant's settings: the key, the value, what would be right; None if nothing is."""

    def missing(self, variant: Variant) -> str | None:
        """Why it cannot run as processes on this machine, with the way out; None if it can."""

    def needs(self, variant: Variant) -> Needs:
        """What one node takes."""

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """Programs that a cluster needs once, by name, with ``{address}`` and ``{port}`` to be filled in."""

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """Version by program, without starting any node."""

    def driver(self, place: Place) -> Driver:
        """The driver of the node at ``place``."""


@cache
def find(name: str) -> System:
    """The system of that name, of this distribution or of anybody's, by its entry point.

    Raises:
        WrongInput: if none has it, with those that there are; if it cannot be loaded, with the reason.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise WrongInput(f"no system {name!r}; installed ones: {', '.join(sorted(found)) or 'none'}")
    point = found[name]
    try:
        system: System = point.load()()
    except Exception as error:  # anybody's module may fail in any way, and must not take the others with it
        raise WrongInput(
            f"system {name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if system.name != name:
        raise WrongInput(f"system {name!r} ({point.value}) calls itself {system.name!r}; both must be the same")
    return system


def passes_messages(system: System) -> bool:
    """Whether it is a network of messages: no file can be spread in it, and tests alone that deploy it use it."""
    return bool(getattr(system, "passes_messages", False))


def needs_of(shape: Shape) -> Needs:
    """What one node of a cluster of that shape takes."""
    return find(shape.variant.system).needs(shape.variant)


def unknown_setting(variant: Variant, known: Sequence[str]) -> str | None:
    """The first setting of a variant that is not among ``known``, in words; None without one."""
    for key, value in variant.settings:
        if key not in known:
            return f"{key} = {value!r}: no such setting; there are {', '.join(known) or 'none'}"
    return None


def names() -> tuple[str, ...]:
    """The names of all installed systems."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))
