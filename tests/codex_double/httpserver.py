"""A server that answers one request a connection, in the manner of nim-presto."""

from __future__ import annotations

import io
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

from codex_double.options import Address

PIECE = 65536
LINGER_S = 5.0
JSON, TEXT, HTML = "application/json", "text/plain", "text/html"


class BadRequest(Exception):
    """What is no HTTP."""


@dataclass(frozen=True)
class Answer:
    """A status, and a body whose length is known before it is there."""

    status: int = 200
    body: bytes | Generator[bytes, None, None] = b""
    type: str | None = None
    length: int | None = None
    disposition: str | None = None
    expose: bool = False

    @property
    def size(self) -> int:
        if self.length is not None:
            return self.length
        return len(self.body) if isinstance(self.body, bytes) else 0

    def head(self, server: str | None) -> bytes:
        """Status and headers, in the recorded order."""
        headers = {
            "Connection": "close",
            "Server": server,
            "Content-Disposition": self.disposition,
            "Content-Length": str(self.size),
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            "Content-Type": self.type,
            "Access-Control-Expose-Headers": "Content-Disposition" if self.expose else None,
        }
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        status = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"
        return "\r\n".join([status, *lines, "", ""]).encode()


class Hangup(Exception):
    """The client is not to get any more: the connection is closed."""


@dataclass(frozen=True)
class Body:
    """A request's body, of a told length or in chunks; what a client that hangs up did not send is just missing."""

    source: io.BufferedReader
    length: int | None = None

    def blocks(self, size: int) -> Iterable[bytes]:
        """Pieces of ``size``, but for the last."""
        held = bytearray()
        for piece in self._told() if self.length is not None else self._chunks():
            held += piece
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
        if held:
            yield bytes(held)

    def _told(self) -> Iterable[bytes]:
        left = self.length or 0
        while left and (piece := self.source.read(min(PIECE, left))):
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterable[bytes]:
        while line := self.source.readline(100):
            try:
                left = int(line.partition(b";")[0], 16)
            except ValueError:
                return
            if not left:
                return
            while left and (piece := self.source.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
            self.source.readline(3)


@dataclass(frozen=True)
class Request:
    """What a client asks, and whether it still waits for the answer."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    client: socket.socket = field(repr=False)
    source: io.BufferedReader = field(repr=False)

    def waits(self) -> bool:
        """Whether the client is still there."""
        readable, _, _ = select.select([self.client], [], [], 0)
        try:
            return not readable or bool(self.client.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def hang(self) -> None:
        """Answer nothing, for as long as the client waits."""
        while self.client.recv(PIECE):
            pass
        raise Hangup

    def body(self) -> Body | None:
        """None if there is none."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return Body(self.source)
        length = self.headers.get("content-length", "0")
        if not length.isdigit():
            raise BadRequest
        return Body(self.source, int(length)) if int(length) else None

    def expects(self) -> None:
        """Tell a client that asks first to go on."""
        if self.headers.get("expect", "").lower() == "100-continue":
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def listen(address: Address) -> socket.socket:
    """Raises OSError if somebody has the port."""
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.listen(128)
    return listener


def serve(listener: socket.socket, answer: Callable[[Request], Answer], server: str | None = None) -> None:
    """Answer everybody, each in a thread, in the background."""
    accept(listener, lambda client: _converse(client, answer, server))


def accept(listener: socket.socket, meet: Callable[[socket.socket], None]) -> None:
    """Meet whoever connects, each in a thread, in the background."""

    def forever() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                time.sleep(0.1)  # it has too many open files just now
                continue
            threading.Thread(target=meet, args=(client,), daemon=True).start()

    threading.Thread(target=forever, daemon=True).start()


def _converse(client: socket.socket, answer: Callable[[Request], Answer], server: str | None) -> None:
    with client, client.makefile("rb") as source, suppress(OSError, Hangup):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            request = _request(client, source)
            told = answer(request)
        except BadRequest:
            told = Answer(400)
        client.sendall(told.head(server) + (told.body if isinstance(told.body, bytes) else b""))
        if not isinstance(told.body, bytes):
            with closing(told.body) as pieces:
                for piece in pieces:
                    client.sendall(piece)
        _linger(client)


def _linger(client: socket.socket) -> None:
    """Close so that the client gets all of the answer, though part of its request may not have been read."""
    client.shutdown(socket.SHUT_WR)
    client.settimeout(1)
    end = time.monotonic() + LINGER_S
    while time.monotonic() < end and client.recv(PIECE):
        pass


def _request(client: socket.socket, source: io.BufferedReader) -> Request:
    line = source.readline(PIECE).decode("latin-1").split()
    if not line:
        raise Hangup
    if len(line) != 3 or not line[2].startswith("HTTP/1."):
        raise BadRequest
    method, target, _ = line
    path, _, query = target.partition("?")
    segments = tuple(unquote(segment) for segment in path.split("/")[1:])
    headers = dict(_headers(source))
    return Request(method, segments, parse_qs(query, keep_blank_values=True), headers, client, source)


def _headers(source: io.BufferedReader) -> Iterable[tuple[str, str]]:
    while (line := source.readline(PIECE).decode(errors="replace").rstrip("\r\n")) and ":" in line:
        name, _, value = line.partition(":")
        yield name.strip().lower(), value.strip()
