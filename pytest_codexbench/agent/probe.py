"""What the machine itself allows: the rate of the wire between two nodes, and of the disk."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_codexbench.errors import AgentError

PIECE = 1 << 18
LISTEN_S = 30.0
MARK_NS = 10_000_000
# A limit that was kept to for so long is what it is: a bucket of 50 ms makes the rate uncertain by a sixtieth.
SETTLED_S = 3.0


def disk_mb_s(folder: Path, size: int) -> float:
    """10^6 bytes a second of writing ``size`` bytes in order, until fsync says that the disk has them."""
    path, piece = folder / "probe", os.urandom(1 << 20)
    try:
        start = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            for _ in range(max(1, size // len(piece))):
                file.write(piece)
            os.fsync(file.fileno())
        return max(1, size // len(piece)) * len(piece) / (time.perf_counter() - start) / 1e6
    finally:
        path.unlink(missing_ok=True)


def listen(address: str) -> int:
    """Take one connection and read it to its end, in a thread; the port it waits on, 30 s at most."""
    listener = socket.create_server((address, 0))
    listener.settimeout(LISTEN_S)
    threading.Thread(target=_swallow, args=(listener,), name="probe", daemon=True).start()
    return int(listener.getsockname()[1])


def _swallow(listener: socket.socket) -> None:
    """Read what comes; at its end, answer with what had come when: bytes, and nanoseconds since the first."""
    with listener:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
    with connection:
        connection.settimeout(LISTEN_S)
        piece, got, first_ns = bytearray(PIECE), 0, 0
        marks: list[tuple[int, int]] = []
        while length := connection.recv_into(piece):
            now_ns = time.perf_counter_ns()
            if not first_ns:
                first_ns = now_ns
                continue
            got += length
            mark = now_ns - first_ns, got
            if len(marks) > 1 and mark[0] - marks[-2][0] < MARK_NS:
                marks[-1] = mark
            else:
                marks.append(mark)
        connection.sendall(json.dumps(marks).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Stream:
    """What had come through a link when: nanoseconds since the first byte, and bytes since then."""

    marks: Sequence[tuple[int, int]]

    @property
    def mb_s(self) -> float:
        """10^6 bytes a second, over all of it."""
        took_ns, got = self.marks[-1]
        return got / took_ns * 1e3

    def mb_s_at_the_end(self, seconds: float) -> float:
        """10^6 bytes a second over the last ``seconds``."""
        last_ns, got = self.marks[-1]
        since_ns, before = next((mark for mark in self.marks if mark[0] >= last_ns - seconds * 1e9), self.marks[0])
        return (got - before) / (last_ns - since_ns) * 1e3 if last_ns > since_ns else self.mb_s

    def burst_bytes(self, mb_s: float) -> int:
        """The most bytes that were ever ahead of that rate: the depth of a token bucket that was full."""
        return max(0, *(int(got - took_ns * mb_s / 1e3) for took_ns, got in self.marks))


def stream_to(address: str, port: int, source: str, goes_on: Callable[[float, int], bool]) -> Stream:
    """A TCP stream to a listening node, as that node saw it come, for as long as ``goes_on(seconds, bytes sent)``.

    Raises:
        AgentError: if the other node cannot be reached or nothing came through.
    """
    piece, sent = os.urandom(PIECE), 0
    try:
        with socket.create_connection((address, port), timeout=10, source_address=(source, 0)) as connection:
            # a small buffer, so that what was sent is what went over the wire
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
            begun = time.perf_counter()
            while goes_on(time.perf_counter() - begun, sent):
                sent += connection.send(piece)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(30)
            marks = [(int(ns), int(got)) for ns, got in json.loads(connection.makefile("rb").readline())]
    except (OSError, ValueError) as error:
        raise AgentError(f"probe of the wire to {address}:{port}: {type(error).__name__}: {error}") from error
    if not marks or not marks[-1][0]:
        raise AgentError(f"probe of the wire to {address}:{port}: nothing came through")
    return Stream(marks)


def until(seconds: float, most: int) -> Callable[[float, int], bool]:
    """Go on for ``seconds``, or until ``most`` bytes were sent."""
    return lambda passed_s, sent: passed_s < seconds and sent < most


def until_spent(mb_s: float, seconds: float, most: int) -> Callable[[float, int], bool]:
    """Go on until ``mb_s`` was kept to for ``SETTLED_S``, a burst being spent.

    At most for ``seconds``, or ``most`` bytes.
    """
    moments: deque[tuple[float, int]] = deque()

    def goes_on(passed_s: float, sent: int) -> bool:
        moments.append((passed_s, sent))
        while len(moments) > 1 and moments[1][0] <= passed_s - SETTLED_S:
            moments.popleft()
        then_s, before = moments[0]
        long = passed_s - then_s >= SETTLED_S
        settled = long and (sent - before) / 1e6 <= 1.1 * mb_s * (passed_s - then_s)
        return passed_s < seconds and sent < most and not settled

    return goes_on
