"""The body of an HTTP answer, stamped piece by piece as it arrives."""

from __future__ import annotations

import http.client
import re
import select
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer

PIECE = 1 << 20
# How long a read may wait before the reader says that it is still there.
BEAT_S = 1.0
LONGEST_LINE, USUAL_LINE = 4096, 32
HEXADECIMAL, WHOLE_LINE = re.compile(rb"[0-9A-Fa-f]{1,15}"), re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
LONGEST_HEAD, HEAD_END = 1 << 16, re.compile(rb"\n\r?\n")
BEGINNING = 300


def beginning(response: http.client.HTTPResponse) -> bytes:
    """What is shown of a refusal's body: its first 300 bytes, or as many as come before it breaks off."""
    body = b""
    with suppress(OSError, http.client.HTTPException):
        while len(body) < BEGINNING and (piece := response.read1(BEGINNING - len(body))):
            body += piece
    return body


def reason(error: Exception) -> str:
    """An error's kind, and its text as far as it can be read: http.client quotes whole lines of what it got."""
    return f"{type(error).__name__}: {str(error)[:BEGINNING].strip()}"


def read_body(
    url: str, total: int, deadline_ns: int, clock: Callable[[], int] = time.perf_counter_ns, method: str = "GET"
) -> Iterator[tuple[int, memoryview]]:
    """Ask for ``url`` and give (moment, bytes) for each network read, to the last of ``total`` bytes.

    The bytes are overwritten by the next read. An empty piece comes at least once a second while nothing arrives.
    Moments are of ``clock``, in nanoseconds; so is ``deadline_ns``, after which the reading ends in an error.

    Raises:
        BadTransfer: for another status than 200, another length than ``total``, a short body, a broken connection, a
            passed deadline; names the request and, where there is one, the status and the beginning of the body.
    """
    asked = _Asked(method, url, deadline_ns, clock)
    with asked.told(), closing(asked.connection):
        for now in asked.wait():
            yield asked.in_time(now, 0, total), memoryview(b"")
        with closing(asked.answer()) as response:
            if response.length is not None and response.length != total:
                raise BadTransfer(f"{asked}: {response.length} bytes are announced, not {total}")
            yield from _pieces(asked, response, total)


def read_answer(
    url: str, deadline_ns: int, clock: Callable[[], int] = time.perf_counter_ns, method: str = "GET"
) -> Generator[int, None, bytes]:
    """Ask for ``url``, whose answer is short: gives moments, one a second at least while waiting; then the body.

    Raises:
        BadTransfer: as in ``read_body``, or if the answer does not announce its length, or more than 1 MiB.
    """
    asked = _Asked(method, url, deadline_ns, clock)
    body = bytearray()
    with asked.told(), closing(asked.connection):
        for now in asked.wait():
            yield asked.in_time(now, 0, 0)
        with closing(asked.answer()) as response:
            total = response.length
            if total is None or total > PIECE:
                raise BadTransfer(f"{asked}: an answer of {total or 'unknown'} bytes; {PIECE} at most were expected")
            for now, part in _pieces(asked, response, total):
                body += part
                yield now
    return bytes(body)


class _Asked:
    """A request whose answer is waited for, until its deadline; as text it is what errors begin with."""

    def __init__(self, method: str, url: str, deadline_ns: int, clock: Callable[[], int]) -> None:
        self.method, self.url, self.deadline_ns, self.clock = method, url, deadline_ns, clock
        parts = urlsplit(url)
        timeout = max((deadline_ns - clock()) / 1e9, 1)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        self.connection.blocksize = PIECE
        self.target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self.wire: socket.socket  # once the request is sent
        self._seen = 0

    def __str__(self) -> str:
        return f"{self.method} {self.url}"

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever breaks inside is told as a bad transfer."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise BadTransfer(f"{self}: {reason(error)}") from error

    def wait(self) -> Iterator[int]:
        """Send the request; a moment each second until an answer's head came: who lacks the content may say nothing."""
        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        self.connection.request(self.method, self.target, headers=headers)
        self.wire = self.connection.sock
        while not self.headed():
            yield self.clock()

    def headed(self) -> bool:
        """Whether within a second the answer's head is there, or ended: http.client would wait for it in silence."""
        if not self.speaks():
            return False
        there = self.wire.recv(LONGEST_HEAD, socket.MSG_PEEK)
        whole = len(there) in (self._seen, LONGEST_HEAD) or HEAD_END.search(there) is not None
        self._seen = len(there)
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if whole else len(there) + 1)
        return whole

    def speaks(self) -> bool:
        """Whether something can be read within a second."""
        return bool(select.select([self.wire], [], [], BEAT_S)[0])

    def answer(self) -> http.client.HTTPResponse:
        """The answer's beginning; from here on a read takes what is there: one that times out breaks http.client."""
        response = self.connection.getresponse()
        if response.status != http.client.OK:
            with closing(response):
                self.wire.settimeout(BEAT_S)
                raise BadTransfer(f"{self}: status {response.status}, expected 200: {beginning(response)!r}")
        self.wire.setblocking(False)
        return response

    def in_time(self, now: int, got: int, total: int) -> int:
        """The moment, unless it is past the deadline."""
        if now > self.deadline_ns:
            of_all = f"{got} of {total} bytes" if total else "no answer"
            raise BadTransfer(f"{self}: the deadline passed with {of_all}")
        return now


def _pieces(asked: _Asked, response: http.client.HTTPResponse, total: int) -> Iterator[tuple[int, memoryview]]:
    piece, got = memoryview(bytearray(PIECE)), 0
    chunks = _Chunks() if response.chunked else None
    while got < total:
        # one receive for each read: HTTPResponse.readinto would wait until the piece is full
        length: int | None = response.fp.readinto1(piece)
        now = asked.in_time(asked.clock(), got, total)
        if length is None:
            if not asked.speaks():
                yield asked.in_time(asked.clock(), got, total), piece[:0]
            continue
        part = piece[:length] if chunks is None else chunks.payload(piece[:length])
        got += len(part)
        if got > total:
            raise BadTransfer(f"{asked}: more than {total} bytes came")
        if part:
            yield now, part
        if got < total and (length == 0 or (chunks is not None and chunks.ended)):
            raise BadTransfer(f"{asked}: the body ended after {got} of {total} bytes")


class _Chunks:
    """Takes the payload out of a body with chunked transfer coding (RFC 9112, 7.1), however it is cut into reads."""

    def __init__(self) -> None:
        self.ended = False
        self._left = self._skip = 0
        self._line = b""

    def payload(self, data: memoryview) -> memoryview:
        """The payload in the next bytes of the body, moved together at their beginning: some send chunks of 4 kB."""
        at = out = 0
        while at < len(data) and not self.ended:
            if self._left:
                length = min(self._left, len(data) - at)
                if out < at:
                    data[out : out + length] = data[at : at + length]
                out, at, self._left = out + length, at + length, self._left - length
                self._skip = 0 if self._left else len(b"\r\n")
            elif self._skip:
                passed = min(self._skip, len(data) - at)
                self._skip -= passed
                at += passed
            else:
                if not self._line:
                    at, out = _whole(data, at, out)
                at = self._size(data, at)
        return data[:out]

    def _size(self, data: memoryview, at: int) -> int:
        """Read on in the line with the next chunk's size; where what comes behind it begins."""
        head = bytes(data[at : at + USUAL_LINE])
        end = head.find(b"\n") + 1
        self._line += head[: end or None]
        if len(self._line) > LONGEST_LINE:
            raise http.client.HTTPException("a chunk's size takes a whole line and more")
        if end:
            digits = self._line.partition(b";")[0].strip()
            if not HEXADECIMAL.fullmatch(digits):
                raise http.client.HTTPException(f"{self._line!r} is no chunk's size")
            self._left = int(digits, 16)
            self.ended, self._line = self._left == 0, b""
        return at + (end or len(head))


def _whole(data: memoryview, at: int, out: int) -> tuple[int, int]:
    """Move the payload of whole chunks: where they end, and it. A quick way through many small ones."""
    while (line := WHOLE_LINE.match(data, at)) is not None:
        begin, length = line.end(), int(line[1], 16)
        if length == 0 or begin + length + len(b"\r\n") > len(data):
            break
        data[out : out + length] = data[begin : begin + length]
        out, at = out + length, begin + length + len(b"\r\n")
    return at, out
