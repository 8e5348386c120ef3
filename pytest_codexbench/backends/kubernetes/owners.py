"""Who holds what in a cluster, and whether he still lives."""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pytest_codexbench.backends.kubernetes.api import TIMEOUTS, Api
from pytest_codexbench.errors import BenchError, NotReady

if TYPE_CHECKING:
    from kubernetes.client import V1Lease, V1ObjectMeta

MANAGED, OWNER, RUN = "app.kubernetes.io/managed-by", "codexbench/owner", "codexbench/run"
OURS = "codexbench"
PROCESS = "codexbench/process"
# Leases are where every run on the cluster finds them.
COMMON = "default"
RENEW_S = 15.0
# A process of another host that was not heard of for so long holds no host any more; after the longer time what it left
# is removed.
SILENT_S, DEAD_S = 60.0, 600.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process on one machine: ``where`` tells machine, boot and container, ``started`` is in seconds."""

    where: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        return cls(_here(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, text: str) -> Process | None:
        """From an annotation; None if that is none of ours."""
        try:
            told = json.loads(text)
            return cls(str(told["where"]), int(told["pid"]), float(told["started"]))
        except (ValueError, TypeError, KeyError):
            return None

    def __str__(self) -> str:
        return json.dumps({"where": self.where, "pid": self.pid, "started": self.started})

    @property
    def lives(self) -> bool | None:
        """Whether it does; None if it is of another machine."""
        if self.where != _here():
            return None
        try:
            # the clock may have been set: a process's moment of start is as exact as that
            return abs(psutil.Process(self.pid).create_time() - self.started) < 2.0
        except psutil.Error:
            return False


def _here() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    words = [socket.gethostname(), boot.read_text(encoding="ascii").strip() if boot.exists() else ""]
    with suppress(OSError):
        words.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that has something in the cluster; ``silent_s`` since it was heard of, by the server's clock."""

    name: str
    process: Process | None
    silent_s: float
    run: str = ""

    def gone(self, after_s: float) -> bool:
        """Whether it has ended, as its own machine knows, or as one of another must be taken to after so long."""
        lives = self.process.lives if self.process else None
        return self.silent_s > after_s if lives is None else not lives


class Register:
    """The leases of this process: one that says that it lives, and one for each host that it measures on."""

    def __init__(self, api: Api, run: str) -> None:
        self.api, self.run = api, run
        self.name = f"codexbench-{secrets.token_hex(6)}"
        self._lock = threading.Lock()
        self._users = 0
        self._end = threading.Event()
        self._renewal: threading.Thread | None = None
        self._held: dict[str, V1ObjectMeta] = {}

    @contextmanager
    def entered(self) -> Iterator[str]:
        """Be known as alive inside the block: the name by which others know this process."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._put(self.name, {PROCESS: str(Process.this())})
                self._end = threading.Event()
                self._renewal = threading.Thread(target=self._renew, args=(self._end,), name="renewal", daemon=True)
                self._renewal.start()
        try:
            yield self.name
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._end.set()
                    if self._renewal is not None:  # a renewal under way would make it anew
                        self._renewal.join()
                    remove_lease(self.api, self.name)

    def _renew(self, end: threading.Event) -> None:
        while not end.wait(RENEW_S):
            # one that cannot be made is made up for by the next
            with suppress(BenchError):
                self._put(self.name, {PROCESS: str(Process.this())})

    def _put(self, name: str, annotations: Mapping[str, str]) -> None:
        """Make the lease, or renew it."""
        body = self._lease(name, annotations)

        def renew() -> None:
            self.api.leases.patch_namespaced_lease(name, COMMON, body, _request_timeout=TIMEOUTS)

        def make() -> None:
            self.api.leases.create_namespaced_lease(COMMON, body, _request_timeout=TIMEOUTS)

        self.api.ask(f"lease {name}", renew, absent=lambda: self.api.ask(f"lease {name}", make))

    def _lease(self, name: str, annotations: Mapping[str, str]) -> V1Lease:
        from kubernetes.client import V1Lease, V1LeaseSpec, V1ObjectMeta

        labels = {MANAGED: OURS, OWNER: self.name, RUN: self.run}
        return V1Lease(
            metadata=V1ObjectMeta(name=name, labels=labels, annotations=dict(annotations)),
            spec=V1LeaseSpec(holder_identity=self.name, renew_time=datetime.now(UTC)),
        )

    @contextmanager
    def alone_on(
        self,
        hosts: Iterable[str],
        waiting: Callable[[str], None],
        most_s: float | None = None,
        look_s: float = 1.0,
    ) -> Iterator[None]:
        """No other process measures on these hosts inside the block; ``waiting`` hears whom it waits for.

        Raises:
            NotReady: if it waited for ``most_s`` seconds, where that is a number.
        """
        end = math.inf if most_s is None else time.monotonic() + most_s
        try:
            # in one order everywhere, or two processes would wait for each other
            for name in sorted({f"codexbench-on-{host}"[:253] for host in hosts}):
                while (other := self._taken(name)) is not None:
                    if time.monotonic() > end:
                        raise NotReady(
                            f"{other} was not through with {name.removeprefix('codexbench-on-')} in {most_s:.0f} s"
                        )
                    waiting(other)
                    self._end.wait(look_s)
            yield
        finally:
            for name, about in reversed(list(self._held.items())):
                remove_lease(self.api, name, about)
            self._held.clear()

    def lost(self) -> list[str]:
        """Which hosts of ours others have taken, since this process was not heard of for too long: a line each."""
        if not self._held:
            return []
        there: dict[str, Any] = {
            str(lease.metadata.name): lease.metadata for lease in census(self.api)[1] if lease.metadata
        }
        told = []
        for name, about in self._held.items():
            if name not in there or there[name].uid != about.uid:
                other = (there[name].labels or {}).get(RUN, "another run") if name in there else "another run"
                told.append(f"{other} may have measured on {name.removeprefix('codexbench-on-')} too")
        return told

    def _taken(self, name: str) -> str | None:
        """Take a host's lease; else who has it. That of a process that is gone is removed, for the next look."""
        body = self._lease(name, {PROCESS: str(Process.this())})
        leases = self.api.leases

        def make() -> Any:
            return leases.create_namespaced_lease(COMMON, body, _request_timeout=TIMEOUTS)

        made: Any = self.api.ask(f"lease {name}", make, conflict=lambda: None)
        if made is not None:
            self._held[name] = made.metadata
            return None
        found: Any = self.api.ask(
            f"lease {name}",
            lambda: leases.read_namespaced_lease(name, COMMON, _request_timeout=TIMEOUTS),
            absent=lambda: None,
        )
        if found is None:
            return "a moment"
        holder = (found.metadata.labels or {}).get(OWNER, "")
        if holder == self.name:  # made by a request of which the answer was lost
            self._held[name] = found.metadata
            return None
        owner = census(self.api)[0].get(holder)
        if owner is None or owner.gone(SILENT_S):
            remove_lease(self.api, name, found.metadata)
        return f"{owner.run or holder}" if owner else "one that is gone"


def census(api: Api) -> tuple[Mapping[str, Owner], list[V1Lease]]:
    """Every process that is known to have something in the cluster, by its name; and all leases of runs."""

    def look() -> tuple[list[V1Lease], datetime]:
        answer: Any = api.leases.list_namespaced_lease_with_http_info(
            COMMON, label_selector=f"{MANAGED}={OURS}", _request_timeout=TIMEOUTS
        )
        told, _, headers = answer
        return told.items, parsedate_to_datetime(headers["Date"])

    leases, now = api.ask("the leases of runs", look)
    told = {}
    for lease in leases:
        about: Any = lease.metadata
        labels = about.labels or {}
        if labels.get(OWNER) == about.name:
            process = Process.read((about.annotations or {}).get(PROCESS, ""))
            told[about.name] = Owner(about.name, process, (now - _heard(about)).total_seconds(), labels.get(RUN, ""))
    return told, leases


def _heard(about: V1ObjectMeta) -> datetime:
    """When the server last wrote it, by the server's clock: nobody else's is to be trusted."""
    times = [entry.time for entry in about.managed_fields or ()]
    return max(time for time in (*times, about.creation_timestamp) if time is not None)


def remove_lease(api: Api, name: str, known: V1ObjectMeta | None = None) -> None:
    """Remove a lease; where it is ``known``, only that one and none that was made since."""
    from kubernetes.client import V1DeleteOptions, V1Preconditions

    only = V1Preconditions(uid=known.uid) if known else None

    def remove() -> None:
        api.leases.delete_namespaced_lease(
            name, COMMON, body=V1DeleteOptions(preconditions=only), _request_timeout=TIMEOUTS
        )

    api.ask(f"lease {name}", remove, absent=lambda: None, conflict=lambda: None)
