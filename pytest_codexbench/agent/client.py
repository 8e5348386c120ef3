"""A node as an experiment sees it: its agent's verbs as methods."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_codexbench.errors import AgentError, Unreachable
from pytest_codexbench.records import Counters, Transfer
from pytest_codexbench.rpc import Message, call, stream
from pytest_codexbench.systems import Contact, Handle, Published

# An agent says something at least once a second; this long a silence means that it hangs.
SILENCE_S = 30.0
# For verbs without a deadline of their own: a start and 1 s for each 10 MB that they may have to write or read.
VERB_S = 120.0
SLOWEST_DISK = 10_000_000

# How long an agent is asked again that was not reached, and how often.
PATIENCE_S = 60.0
AGAIN_S = 0.5

Heard = Callable[[str, Message], None]
"""Called with the node's name and each line of a running transfer."""

Ready = Callable[[], None]
"""Called when an agent waits for no more than the word to begin."""

Again = Callable[[], bool]
"""Whether it is of use to ask an agent again that was not reached: whether it may be the way to it that broke."""


@dataclass(frozen=True, slots=True)
class Download:
    """The end of one transfer: its record, and where the bytes are, who gives them back, or what their digest was."""

    transfer: Transfer
    digest: str | None = None
    path: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster, wherever it runs. Every method raises a ``BenchError`` if the agent does."""

    name: str
    url: str
    token: str = field(repr=False)
    contact: Contact

    def make(self, name: str, size: int, seed: int) -> tuple[str, float]:
        """Make a payload's file: its digest, and the seconds it took."""
        told = self._finish("make", {"name": name, "size": size, "seed": seed}, deadline_s=VERB_S + size / SLOWEST_DISK)
        return told["digest"], told["seconds"]

    def publish(self, name: str, deadline_s: float) -> Published:
        """Publish the file."""
        told = self._finish("publish", {"name": name, "deadline_s": deadline_s}, deadline_s=deadline_s + SILENCE_S)
        return Published(Handle(**told["handle"]), told["seconds"])

    def download(
        self,
        handle: Handle,
        size: int,
        sources: Sequence[Contact],
        position: int,
        deadline_s: float,
        heard: Heard,
        ready: Ready | None = None,
        again: bool = False,
    ) -> Download:
        """Fetch the file: ends with the record of the transfer, also of one that failed.

        ``again``: after one that broke off since the node was killed, in the same record.
        ``ready`` is called, once, when the agent waits for no more than the word to begin.
        """
        request = {
            "handle": {"id": handle.id, "ticket": handle.ticket},
            "size": size,
            "sources": [dict(source) for source in sources],
            "position": position,
            "deadline_s": deadline_s,
            **({"again": True} if again else {}),
        }
        told = self._finish("fetch", request, lambda line: heard(self.name, line), deadline_s + SILENCE_S, ready)
        return Download(Transfer.from_json(told["transfer"]), told["digest"], told["path"], told["url"])

    def check(self, download: Download, size: int = 0) -> str | None:
        """Digest of what was fetched; ``size`` is what it should be, for the time it takes to read it."""
        if download.digest is not None:
            return download.digest
        deadline_s = VERB_S + size / SLOWEST_DISK
        request = {"url": download.url, "path": download.path, "size": size, "deadline_s": deadline_s}
        return str(self._finish("check", request, deadline_s=deadline_s + SILENCE_S)["digest"])

    def delete(self, name: str, handle: Handle | None, size: int = 0) -> bool:
        """Delete the file of ``size`` bytes; whether it is gone."""
        told = {} if handle is None else {"handle": {"id": handle.id, "ticket": handle.ticket}}
        request = {"name": name, **told}
        return bool(self._finish("delete", request, deadline_s=2 * VERB_S + size / SLOWEST_DISK)["gone"])

    def drop_cache(self) -> bool:
        """Take all it stores out of the page cache; whether that worked."""
        return bool(self._finish("drop_cache")["dropped"])

    def counters(self) -> Counters:
        """What it used since it was started."""
        return Counters.from_json(self._call("counters"))

    def begin(self, part: Mapping[str, str]) -> tuple[bool, Counters]:
        """A round begins: whether the peak of memory is counted from now on, and the counters at that moment.

        ``part`` is the ``cell``, the ``round`` and the node's ``role`` in it.
        """
        told = self._call("begin", dict(part))
        return bool(told["reset"]), Counters.from_json(told["counters"])

    def disk_mb_s(self, size: int) -> float:
        """The rate at which its disk takes ``size`` bytes."""
        return float(self._finish("probe_disk", {"size": size})["disk_mb_s"])

    def listen(self) -> int:
        """The port at which it takes one stream of another node's probe."""
        return int(self._call("listen")["port"])

    def probe_wire(
        self, other: Node, seconds: float, most: int, limit_mb_s: float | None = None
    ) -> Mapping[str, float]:
        """``wire_mb_s`` of a TCP stream from here to another node; with a limit also its ``burst_bytes``."""
        request = {"address": other.contact["address"], "port": other.listen(), "seconds": seconds, "most": most}
        return self._finish("probe_wire", request | {"limit_mb_s": limit_mb_s})

    def join(self, contacts: Sequence[Contact]) -> None:
        """Make it know the others."""
        self._finish("join", {"contacts": [dict(contact) for contact in contacts]})

    def subscribe(self, shard: int) -> None:
        """Make a node of a network of messages take part in a shard."""
        self._call("subscribe", {"shard": shard})

    def peers(self) -> int:
        """How many nodes one of a network of messages is connected to."""
        return int(self._call("peers")["peers"])

    def send(self, payload: bytes, shard: int = 0) -> int:
        """Publish a message: the moment before, in nanoseconds since 1970 by its host."""
        return int(self._call("send", {"payload": payload.hex(), "shard": shard})["sent_ns"])

    def receive(self, payload: bytes, shard: int, deadline_s: float, linger_s: float = 0.0) -> list[int]:
        """Look for a message: when each copy was seen, in nanoseconds since 1970 by its host; none at the deadline."""
        request = {"payload": payload.hex(), "shard": shard, "deadline_s": deadline_s, "linger_s": linger_s}
        told = self._finish("receive", request, deadline_s=deadline_s + SILENCE_S)
        return [int(moment) for moment in told["seen_ns"]]

    def hear(self, prefix: bytes, shard: int, deadline_s: float) -> tuple[bytes, int] | None:
        """The first message that begins so, and when it was seen, in nanoseconds since 1970 by its host; or None."""
        request = {"payload": "", "prefix": prefix.hex(), "shard": shard, "deadline_s": deadline_s, "linger_s": 0.0}
        told = self._finish("receive", request, deadline_s=deadline_s + SILENCE_S)
        return (bytes.fromhex(told["payload"]), int(told["seen_ns"][0])) if told["seen_ns"] else None

    def runs(self) -> bool:
        """Whether the node's program runs."""
        return bool(self._call("health")["runs"])

    def end(self) -> str | None:
        """How the node's program ended, in words; None while it runs."""
        told = self._call("health")
        return None if told["runs"] else str(told["node"])

    def log_tail(self) -> str:
        """The end of its log."""
        return str(self._call("log")["tail"])

    def kill(self) -> bool:
        """End the node without warning; whether it is gone."""
        return not self._finish("kill")["runs"]

    def start_again(self, bootstrap: Sequence[Contact], deadline_s: float = VERB_S) -> None:
        """Start the node with all that it has on its disk."""
        request = {"bootstrap": [dict(contact) for contact in bootstrap], "deadline_s": deadline_s}
        self._finish("start", request, deadline_s=2 * deadline_s)

    def serve_again(self, name: str, handle: Handle, deadline_s: float) -> None:
        """Make it serve the file that it had published before it was killed."""
        told = {"id": handle.id, "ticket": handle.ticket}
        request = {"name": name, "handle": told, "deadline_s": deadline_s}
        self._finish("serve_again", request, deadline_s=deadline_s + SILENCE_S)

    def hinder(self, **how: float | bool) -> None:
        """Hold it back: ``lose`` some percent of its packets, ``cut`` its link, bound its ``processor`` or ``disk``.

        The processor to a share of one, the disk to so many bytes; the latter takes a start afterwards.
        """
        self._finish("hinder", how)

    def mend(self) -> None:
        """Hold it back no longer."""
        self._finish("mend")

    def condition(self) -> Mapping[str, Any]:
        """What holds it back, as it is read back."""
        return self._call("condition")

    def rest(self) -> Counters:
        """What it holds while nothing is asked of it."""
        return Counters.from_json(self._finish("rest"))

    def stop(self) -> str:
        """End the node: how it ended, in words."""
        return str(self._finish("stop")["node"])

    def _finish(
        self,
        verb: str,
        request: Message | None = None,
        heard: Callable[[Message], None] = lambda line: None,
        deadline_s: float = VERB_S,
        ready: Ready | None = None,
    ) -> Message:
        return finish(self.url, verb, request or {}, self.token, heard, deadline_s, self._again, ready)

    def _call(self, verb: str, request: Message | None = None) -> Message:
        patience = _Patience(self._again)
        while True:
            try:
                return call(self.url, verb, request, token=self.token)
            except Unreachable:
                if patience.ends():
                    raise

    @property
    def _again(self) -> Again | None:
        """Where the way to an agent is its own socket, one that is not reached is gone."""
        return None


class _Patience:
    """How long the same agent is asked again; every answer renews it."""

    def __init__(self, again: Again | None) -> None:
        self.again = again
        self._lost_at: float | None = None

    def renew(self) -> None:
        """It was heard."""
        self._lost_at = None

    def ends(self) -> bool:
        """Whether it is given up, now that it was not reached; else wait a moment."""
        if self.again is None:
            return True
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        if now - self._lost_at > PATIENCE_S or not self.again():
            return True
        time.sleep(AGAIN_S)
        return False


def finish(
    url: str,
    verb: str,
    request: Mapping[str, Any],
    token: str,
    heard: Callable[[Message], None] = lambda line: None,
    deadline_s: float = VERB_S,
    again: Again | None = None,
    ready: Ready | None = None,
) -> Message:
    """A long verb to its end: what came with ``done``.

    With ``again``, an answer that breaks off is read on where it broke, and nothing is done twice. ``ready`` is called
    once.

    Raises:
        AgentError: if it is not done in ``deadline_s`` seconds, or the agent is silent for 30 s and may not be asked
            again.
    """
    end, patience = time.monotonic() + deadline_s, _Patience(again)
    ticket, count, waits = secrets.token_hex(8) if again else "", 0, ready

    def begin() -> None:
        nonlocal waits, end
        then, waits = waits, None
        if then is not None:
            then()
        end = time.monotonic() + deadline_s  # what it waited for the word is not its own

    while True:
        try:
            for line in stream(
                url,
                verb,
                dict(request),
                token=token,
                timeout_s=SILENCE_S,
                ticket=ticket,
                skip=count,
                ready=begin if waits else None,
            ):
                count += 1
                patience.renew()
                if "done" in line:
                    done: Message = line["done"]
                    return done
                if time.monotonic() > end:
                    raise AgentError(f"{verb} at {url}: not done within {deadline_s:g} s")
                heard(line)
            raise Unreachable(f"{verb} at {url}: the answer ended too early")
        except Unreachable:
            if time.monotonic() > end or patience.ends():
                raise
