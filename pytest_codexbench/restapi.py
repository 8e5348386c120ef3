"""Requests to a storage program's REST API: each has an end, and an error that tells all."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.httpbody import BEGINNING, beginning, reason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

PIECE = 1 << 20
# What a request without data may take: programs of 32 nodes on one machine are slow at times.
QUICK_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was expected; ``request`` as it stands in errors."""

    request: str
    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace").strip()

    def json(self) -> Any:
        """The body's JSON.

        Raises:
            BadTransfer: if it is none; shows its beginning.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise BadTransfer(f"{self.request}: status {self.status}, but no JSON: {self.body[:BEGINNING]!r}") from None

    def at(self, *keys: str, kind: type = str) -> Any:
        """What is in the JSON at ``keys``, of the type ``kind``.

        Raises:
            BadTransfer: if it is not there, or of another type.
        """
        value = self.json()
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadTransfer(f"{self.request}: no {kind.__name__} at {'.'.join(keys)}: {self.body[:BEGINNING]!r}")
        return value


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way into a request's body, between ``head`` and ``tail``."""

    file: Path
    headers: Mapping[str, str] = field(default_factory=dict)
    head: bytes = b""
    tail: bytes = b""

    def pieces(self, size: int) -> Iterator[bytes]:
        """The body, ``size`` bytes of the file in it, at most 1 MiB at a time.

        Raises:
            OSError: if the file cannot be read, or has fewer bytes.
        """
        yield self.head
        with self.file.open("rb", buffering=0) as file:
            while size > 0:
                piece = file.read(min(PIECE, size))
                if not piece:
                    raise OSError(f"{self.file} became shorter while it was sent: its last {size} bytes are missing")
                size -= len(piece)
                yield piece
        yield self.tail


@dataclass(frozen=True, slots=True)
class Api:
    """The REST API at ``base``, a URL."""

    base: str

    def ask(
        self,
        method: str,
        path: str,
        expect: Sequence[int] = (http.client.OK,),
        timeout_s: float = QUICK_S,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request, with a short body or none; ``timeout_s`` is for all of it, to the last byte of the answer.

        Raises:
            BadTransfer: if no answer comes, or one with another status than those expected: it names the request, the
                status and the beginning of the body.
        """
        request, end = f"{method} {self.base}{path}", time.perf_counter() + timeout_s
        try:
            with closing(self._connection(end)) as connection:
                connection.request(method, self._target(path), body, dict(headers or {}))
                return _answer(request, connection, expect)
        except TimeoutError:
            raise BadTransfer(f"{request}: not done within {timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise BadTransfer(f"{request}: {reason(error)}") from error

    def send(self, path: str, upload: Upload, deadline_s: float) -> tuple[Answer, Mapping[str, float]]:
        """POST a file as it is read from the disk; the answer, and ``publish_s`` and ``upload_accept_s``.

        The clock starts with the file on the disk, before the connection is made.

        Raises:
            BadTransfer: as in ``ask``; also if the file cannot be read, if the program stops taking bytes, has not
                answered at the deadline, or answers without having taken all bytes.
        """
        request, start = f"POST {self.base}{path}", time.perf_counter()
        end = start + deadline_s
        length = taken = 0
        try:
            size = upload.file.stat().st_size
            length = len(upload.head) + size + len(upload.tail)
            with closing(self._connection(end)) as connection:
                connection.putrequest("POST", self._target(path))
                for name, value in {**upload.headers, "Content-Length": str(length)}.items():
                    connection.putheader(name, value)
                connection.endheaders()
                for count in _taken(connection.sock, end, upload.pieces(size)):
                    taken += count
                accepted = time.perf_counter() - start
                answer = _answer(request, connection, (http.client.OK,))
        except TimeoutError:
            stopped = f": it took {taken} of {length} bytes" if taken < length else ""
            raise BadTransfer(f"{request}: not done within {deadline_s:g} s{stopped}") from None
        except (OSError, http.client.HTTPException) as error:
            raise BadTransfer(f"{request}: {reason(error)}") from error
        published = time.perf_counter() - start
        if taken < length:
            told = f"status {answer.status} after {taken} of {length} bytes"
            raise BadTransfer(f"{request}: {told}: {answer.body[:BEGINNING]!r}")
        return answer, {"publish_s": published, "upload_accept_s": accepted}

    def _connection(self, end: float) -> http.client.HTTPConnection:
        """A connection of which nothing is waited for after ``end``."""
        parts, left_s = urlsplit(self.base), _left_s(end)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=left_s, blocksize=PIECE)
        connection.connect()
        connection.sock = _Wire(connection.sock, end)
        return connection

    def _target(self, path: str) -> str:
        return f"{urlsplit(self.base).path}{path}"


class _Wire(socket.socket):
    """A connected socket with one end for all its waiting: http.client bounds each read, but not how many there are."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        super().__init__(fileno=connected.detach())
        self.end = end

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive what comes before the end."""
        self.settimeout(_left_s(self.end))
        return super().recv_into(buffer, nbytes, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send all of it before the end."""
        self.settimeout(_left_s(self.end))
        super().sendall(data, flags)


def _left_s(end: float) -> float:
    """Seconds until ``end``, a moment of ``time.perf_counter``.

    Raises:
        TimeoutError: if it is past.
    """
    left = end - time.perf_counter()
    if left <= 0:
        raise TimeoutError
    return left


def _taken(wire: socket.socket, end: float, pieces: Iterable[bytes]) -> Iterator[int]:
    """Send the pieces: how many bytes were taken, time and again, until all are.

    It ends before that if an answer comes, or the connection breaks: who refuses the rest has said why in its answer.
    """
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            answered, ready, _ = select.select([wire], [wire], [], _left_s(end))
            if answered:
                return
            if ready:
                try:
                    count = wire.send(rest)
                except ConnectionError:
                    return
                yield count
                rest = rest[count:]


def _answer(request: str, connection: http.client.HTTPConnection, expect: Sequence[int]) -> Answer:
    with connection.getresponse() as response:
        if response.status not in expect:
            wanted = " or ".join(map(str, expect))
            raise BadTransfer(f"{request}: status {response.status}, expected {wanted}: {beginning(response)!r}")
        return Answer(request, response.status, response.read())
