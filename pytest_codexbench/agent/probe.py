"""What the machine itself allows: the rate of the wire between two nodes, and of the disk."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

from pytest_codexbench.errors import AgentError

PIECE = 1 << 18
LISTEN_S = 30.0


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
    """Read what comes; at its end, answer with the bytes and nanoseconds since the first byte."""
    with listener:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
    with connection:
        connection.settimeout(LISTEN_S)
        piece, got, first_ns, last_ns = bytearray(PIECE), 0, 0, 0
        while length := connection.recv_into(piece):
            last_ns = time.perf_counter_ns()
            if not first_ns:
                first_ns = last_ns
            else:
                got += length
        connection.sendall(f"{got} {last_ns - first_ns}\n".encode())


def wire_mb_s(address: str, port: int, seconds: float, most: int, source: str) -> float:
    """10^6 bytes a second that a TCP stream carries to a listening node, as that node counted them.

    Sends for ``seconds``, ``most`` bytes at the most.

    Raises:
        AgentError: if the other node cannot be reached or nothing came through.
    """
    piece, sent = os.urandom(PIECE), 0
    try:
        with socket.create_connection((address, port), timeout=10, source_address=(source, 0)) as connection:
            # a small buffer, so that what was sent is what went over the wire
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
            end = time.perf_counter() + seconds
            while time.perf_counter() < end and sent < most:
                sent += connection.send(piece)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(30)
            got, took_ns = map(int, connection.makefile("rb").readline().split())
    except (OSError, ValueError) as error:
        raise AgentError(f"probe of the wire to {address}:{port}: {type(error).__name__}: {error}") from error
    if not took_ns:
        raise AgentError(f"probe of the wire to {address}:{port}: nothing came through in {seconds} s")
    return got / took_ns * 1e3
