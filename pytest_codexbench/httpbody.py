"""The body of an HTTP answer, stamped piece by piece as it arrives."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer

PIECE = 1 << 20
# How long a read may wait before the reader says that it is still there.
BEAT_S = 1.0
LONGEST_LINE = 4096


def read_body(
    url: str, total: int, deadline_ns: int, clock: Callable[[], int] = time.perf_counter_ns
) -> Iterator[tuple[int, memoryview]]:
    """GET ``url`` and give (moment, bytes) for each network read, to the last of ``total`` bytes.

    The bytes are overwritten by the next read. An empty piece comes at least once a second while nothing arrives.
    Moments are of ``clock``, in nanoseconds; so is ``deadline_ns``, after which the reading ends in an error.

    Raises:
        BadTransfer: for another status than 200, another length than ``total``, a short body, a broken connection, a
            passed deadline; names the URL and, where there is one, the status and the beginning of the body.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=max(_left(deadline_ns, clock), 1))
    connection.blocksize = PIECE
    with closing(connection):
        try:
            connection.request("GET", parts.path, headers={"Accept-Encoding": "identity", "Connection": "close"})
            wire = connection.sock
            # a node that lacks the content may say nothing at all for ever
            while not select.select([wire], [], [], BEAT_S)[0]:
                yield _in_time(url, 0, total, deadline_ns, clock), memoryview(b"")
            with closing(connection.getresponse()) as response:
                if response.status != http.client.OK:
                    raise BadTransfer(f"GET {url}: status {response.status}, expected 200: {response.read(300)!r}")
                if response.length is not None and response.length != total:
                    raise BadTransfer(f"GET {url}: {response.length} bytes are announced, not {total}")
                # from here on a read takes what is there: one that times out leaves http.client unusable
                wire.setblocking(False)
                yield from _pieces(response, wire, url, total, deadline_ns, clock)
        except (OSError, http.client.HTTPException) as error:
            raise BadTransfer(f"GET {url}: {type(error).__name__}: {error}") from error


def _pieces(
    response: http.client.HTTPResponse,
    wire: socket.socket,
    url: str,
    total: int,
    deadline_ns: int,
    clock: Callable[[], int],
) -> Iterator[tuple[int, memoryview]]:
    piece, got = memoryview(bytearray(PIECE)), 0
    chunks = _Chunks() if response.chunked else None
    while got < total:
        # one receive for each read: HTTPResponse.readinto would wait until the piece is full
        length: int | None = response.fp.readinto1(piece)
        now = _in_time(url, got, total, deadline_ns, clock)
        if length is None:
            if not select.select([wire], [], [], BEAT_S)[0]:
                yield _in_time(url, got, total, deadline_ns, clock), piece[:0]
            continue
        data = piece[:length]
        for part in (data,) if chunks is None else chunks.payload(data):
            got += len(part)
            if got > total:
                raise BadTransfer(f"GET {url}: more than {total} bytes came")
            yield now, part
        if got < total and (length == 0 or (chunks is not None and chunks.ended)):
            raise BadTransfer(f"GET {url}: the body ended after {got} of {total} bytes")


class _Chunks:
    """Takes the payload out of a body with chunked transfer coding (RFC 9112, 7.1), however it is cut into reads."""

    def __init__(self) -> None:
        self.ended = False
        self._left = self._skip = 0
        self._line = b""

    def payload(self, data: memoryview) -> Iterator[memoryview]:
        """The payload in the next bytes of the body."""
        while data and not self.ended:
            if self._left:
                part, data = data[: self._left], data[self._left :]
                self._left -= len(part)
                self._skip = 0 if self._left else len(b"\r\n")
                yield part
            elif self._skip:
                passed = min(self._skip, len(data))
                self._skip -= passed
                data = data[passed:]
            else:
                data = self._size(data)

    def _size(self, data: memoryview) -> memoryview:
        """Read on in the line with the next chunk's size; what comes behind it."""
        head = bytes(data[:LONGEST_LINE])
        end = head.find(b"\n") + 1
        self._line += head[: end or None]
        if len(self._line) > LONGEST_LINE:
            raise http.client.HTTPException("a chunk's size takes a whole line and more")
        if end:
            try:
                self._left = int(self._line.partition(b";")[0], 16)
            except ValueError:
                raise http.client.HTTPException(f"{self._line!r} is no chunk's size") from None
            self.ended, self._line = self._left == 0, b""
        return data[end or len(head) :]


def _in_time(url: str, got: int, total: int, deadline_ns: int, clock: Callable[[], int]) -> int:
    now = clock()
    if now > deadline_ns:
        raise BadTransfer(f"GET {url}: the deadline passed with {got} of {total} bytes")
    return now


def _left(deadline_ns: int, clock: Callable[[], int]) -> float:
    return (deadline_ns - clock()) / 1e9
