"""Requests to a storage program's REST API: each has an end, and an error that tells all."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer

PIECE = 1 << 20
BEGINNING = 300
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
        except ValueError:
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
        """The body, ``size`` bytes of the file in it, at most 1 MiB at a time."""
        yield self.head
        with self.file.open("rb", buffering=0) as file:
            while size > 0 and (piece := file.read(min(PIECE, size))):
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
    ) -> Answer:
        """One request without a body.

        Raises:
            BadTransfer: if no answer comes, or one with another status than those expected: it names the request, the
                status and the beginning of the body.
        """
        with closing(self._connection(timeout_s)) as connection:
            request = f"{method} {self.base}{path}"
            try:
                connection.request(method, self._target(path), headers=dict(headers or {}))
                return _answer(request, connection, expect)
            except (OSError, http.client.HTTPException) as error:
                raise BadTransfer(f"{request}: {type(error).__name__}: {error}") from error

    def send(self, path: str, upload: Upload, deadline_s: float) -> tuple[Answer, Mapping[str, float]]:
        """POST a file as it is read from the disk; the answer, and ``publish_s`` and ``upload_accept_s``.

        The clock starts with the file on the disk, before the connection is made.

        Raises:
            BadTransfer: as in ``ask``; also if the program stops taking bytes, or has not answered at the deadline.
        """
        size = upload.file.stat().st_size
        length = len(upload.head) + size + len(upload.tail)
        request, start = f"POST {self.base}{path}", time.perf_counter()
        left = _Left(start + deadline_s)
        with closing(self._connection(deadline_s)) as connection:
            try:
                connection.putrequest("POST", self._target(path))
                for name, value in {**upload.headers, "Content-Length": str(length)}.items():
                    connection.putheader(name, value)
                connection.endheaders()
                with suppress(ConnectionError):  # a program that refuses the rest has said why in its answer
                    for piece in upload.pieces(size):
                        connection.sock.settimeout(left.seconds())
                        connection.send(piece)
                accepted = time.perf_counter() - start
                connection.sock.settimeout(left.seconds())
                answer = _answer(request, connection, (http.client.OK,))
            except TimeoutError:
                raise BadTransfer(f"{request}: not done within {deadline_s:g} s") from None
            except (OSError, http.client.HTTPException) as error:
                raise BadTransfer(f"{request}: {type(error).__name__}: {error}") from error
        return answer, {"publish_s": time.perf_counter() - start, "upload_accept_s": accepted}

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.base)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s, blocksize=PIECE)

    def _target(self, path: str) -> str:
        return f"{urlsplit(self.base).path}{path}"


class _Left:
    """The time until a moment of ``time.perf_counter``."""

    def __init__(self, end: float) -> None:
        self.end = end

    def seconds(self) -> float:
        """What is left of it.

        Raises:
            TimeoutError: if nothing is.
        """
        left = self.end - time.perf_counter()
        if left <= 0:
            raise TimeoutError
        return left


def _answer(request: str, connection: http.client.HTTPConnection, expect: Sequence[int]) -> Answer:
    response = connection.getresponse()
    body = response.read()
    if response.status not in expect:
        wanted = " or ".join(map(str, expect))
        raise BadTransfer(f"{request}: status {response.status}, expected {wanted}: {body[:BEGINNING]!r}")
    return Answer(request, response.status, body)
