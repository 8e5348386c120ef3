"""Bytes on one node's link, counted by the queues at both of its ends."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_codexbench.errors import AgentError

DEVICE = "eth0"
ANSWER_S = 5.0

# linux/netlink.h, linux/rtnetlink.h, linux/gen_stats.h
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK, RTM_NEWQDISC, RTM_GETQDISC = 16, 18, 36, 38
IFLA_IFNAME = 3
TCA_STATS2, TCA_STATS_BASIC = 7, 1
TC_H_ROOT = 0xFFFFFFFF

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
QUEUE = struct.Struct("=BxxxiIII")  # tcmsg: family, index, handle, parent, info
ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
BYTES = struct.Struct("=Q")
ERROR = struct.Struct("=i")


class Wire:
    """One node's link: ``near`` is a netlink socket of the node's own network namespace, ``far`` one of the bridge's.

    Any thread may read.

    Raises:
        AgentError: if an end of the link or its counting queue is not there.
    """

    def __init__(self, near: socket.socket, far: socket.socket, port: str) -> None:
        self._lock = threading.Lock()
        self._near, self._far = _End(near, DEVICE), _End(far, port)
        self.read()

    def read(self) -> tuple[int, int]:
        """Bytes received and sent since the link came up, with the headers of every segment; takes under 1 ms.

        What was dropped from a full queue was never on the wire and is not in it.

        Raises:
            AgentError: if the kernel does not tell.
        """
        with self._lock:
            return self._far.sent(), self._near.sent()

    def close(self) -> None:
        """Lets go of both sockets."""
        self._near.close()
        self._far.close()


def wire_from_env(environ: Mapping[str, str] = os.environ) -> Wire | None:
    """The link of the node that this process was started beside; None where links are not counted.

    Raises:
        AgentError: if the environment names a link that is not there.
    """
    if "CODEXBENCH_WIRE_FD" not in environ or "CODEXBENCH_WIRE_PORT" not in environ:
        return None

    try:
        far = socket.socket(fileno=int(environ["CODEXBENCH_WIRE_FD"]))
        far.set_inheritable(False)  # not for the node
        near = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except (OSError, ValueError) as error:
        raise AgentError(f"CODEXBENCH_WIRE_FD={environ['CODEXBENCH_WIRE_FD']} is no netlink socket: {error}") from error
    return Wire(near, far, environ["CODEXBENCH_WIRE_PORT"])


class Interface:
    """One node's link where only the interface counts it, as in a Pod: a segment-offloaded packet has one header there.

    Raises:
        AgentError: if the interface is not there.
    """

    def __init__(self, name: str = DEVICE, root: Path = Path("/sys/class/net")) -> None:
        self._folder = root / name / "statistics"
        self.read()

    def read(self) -> tuple[int, int]:
        """Bytes received and sent since the link came up.

        Raises:
            AgentError: if the kernel does not tell.
        """
        try:
            received, sent = (int((self._folder / name).read_text()) for name in ("rx_bytes", "tx_bytes"))
        except (OSError, ValueError) as error:
            raise AgentError(f"the bytes of {self._folder.parent.name} cannot be read: {error}") from error
        return received, sent


class _End:
    def __init__(self, kernel: socket.socket, interface: str) -> None:
        kernel.settimeout(ANSWER_S)
        self._kernel = kernel
        self._sequence = 0
        self._interface = interface
        name = interface.encode() + b"\0"
        attribute = ATTRIBUTE.pack(ATTRIBUTE.size + len(name), IFLA_IFNAME) + name.ljust(_aligned(len(name)), b"\0")
        for kind, message in self._ask(RTM_GETLINK, 0, LINK.pack(0, 0, 0, 0, 0) + attribute):
            if kind == RTM_NEWLINK:
                self._index = LINK.unpack_from(message)[2]

    def sent(self) -> int:
        found = None
        # all of it is read, so that nothing is left for the next question
        for kind, message in self._ask(RTM_GETQDISC, NLM_F_DUMP, QUEUE.pack(0, self._index, 0, 0, 0)):
            if kind == RTM_NEWQDISC:
                _, index, _, parent, _ = QUEUE.unpack_from(message)
                if index == self._index and parent == TC_H_ROOT:
                    found = _bytes_of(message)
        if found is None:
            raise AgentError(f"{self._interface} has no queue that counts its bytes")
        return found

    def close(self) -> None:
        self._kernel.close()

    def _ask(self, kind: int, flags: int, question: bytes) -> Iterator[tuple[int, memoryview]]:
        self._sequence += 1
        size = HEADER.size + len(question)
        try:
            self._kernel.send(HEADER.pack(size, kind, NLM_F_REQUEST | flags, self._sequence, 0) + question)
            while True:
                for answer, sequence, message in _messages(memoryview(self._kernel.recv(1 << 16))):
                    if sequence != self._sequence:
                        continue
                    if answer == NLMSG_DONE:
                        return
                    if answer == NLMSG_ERROR:
                        number = -ERROR.unpack_from(message)[0]
                        raise OSError(number, os.strerror(number))
                    yield answer, message
                    if flags != NLM_F_DUMP:
                        return
        except OSError as error:
            raise AgentError(f"the bytes of {self._interface} cannot be read: {error}") from error


def _messages(answer: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    at = 0
    while at < len(answer):
        size, kind, _, sequence, _ = HEADER.unpack_from(answer, at)
        yield kind, sequence, answer[at + HEADER.size : at + size]
        at += _aligned(size)


def _bytes_of(queue: memoryview) -> int | None:
    for kind, statistics in _attributes(queue[QUEUE.size :]):
        if kind == TCA_STATS2:
            for part, value in _attributes(statistics):
                if part == TCA_STATS_BASIC:
                    return int(BYTES.unpack_from(value)[0])
    return None


def _attributes(text: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + ATTRIBUTE.size <= len(text):
        size, kind = ATTRIBUTE.unpack_from(text, at)
        yield kind & 0x3FFF, text[at + ATTRIBUTE.size : at + size]  # without the flags "nested" and "byte order"
        at += _aligned(size)


def _aligned(size: int) -> int:
    return (size + 3) & ~3
