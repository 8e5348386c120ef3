"""The HTTP tracker that a cluster owns: the one place where its BitTorrent peers learn of each other."""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import FrameType
from urllib.parse import unquote_to_bytes

# Short, so that two peers that missed each other at the start (a connection refused, a packet lost) meet soon after.
INTERVAL_S = 5
LEAST_INTERVAL_S = 1
# Ready-made clients come back only every 300 s whatever the interval says, and must not be forgotten in between.
EXPIRE_S = 660
USUAL_NUMWANT = 50
MOST_NUMWANT = 200
ID_LENGTH = 20
MOST_DIGITS = 20
MOST_PORT = 65535

Address = IPv4Address | IPv6Address
Bencoded = int | bytes | list["Bencoded"] | dict[bytes, "Bencoded"]
Query = dict[bytes, list[bytes]]


class BadAnnounce(Exception):
    """A request that no client should send; the text becomes its ``failure reason``."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One client of one torrent, where others reach it."""

    address: Address
    port: int
    peer_id: bytes
    left: int
    seen_s: float

    @property
    def endpoint(self) -> tuple[Address, int]:
        """What tells two peers apart: a client that comes back with a new id is still the same peer."""
        return self.address, self.port

    @property
    def compact(self) -> bytes:
        """Address and port as BEP 23 and BEP 7 have them: 6 bytes, or 18 for IPv6."""
        return self.address.packed + self.port.to_bytes(2, "big")


class Swarms:
    """Who takes part in which torrent; peers that were not heard of for ``expire_s`` seconds are forgotten."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
        expire_s: float = EXPIRE_S,
    ) -> None:
        self._clock, self._draw, self._expire_s = clock, draw or random.Random(), expire_s  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._peers: dict[bytes, dict[tuple[Address, int], Peer]] = {}
        self._completed: dict[bytes, int] = {}
        self._next_sweep_s = 0.0

    def announce(self, query: Query, address: Address) -> dict[bytes, Bencoded]:
        """The answer to an announce that came from ``address``, whatever address the query itself names.

        Raises:
            BadAnnounce: if something in the query is missing or wrong.
        """
        info_hash = _exactly(query, b"info_hash")
        port = _number(query, b"port", None)
        if not 0 < port <= MOST_PORT:
            raise BadAnnounce(f"port {port} is not in 1..{MOST_PORT}")
        peer = Peer(address, port, _exactly(query, b"peer_id"), _number(query, b"left", 1), self._clock())
        numwant = _numwant(query)
        event = _first(query, b"event")
        if event not in (b"", b"started", b"stopped", b"completed", b"paused", b"empty"):
            raise BadAnnounce("event is none of started, stopped, completed")

        with self._lock:
            self._sweep()
            if event == b"stopped":
                self._remove(info_hash, peer)
                others = []
            else:
                others = self._others(info_hash, peer)
                self._peers.setdefault(info_hash, {})[peer.endpoint] = peer
            if event == b"completed":
                self._completed[info_hash] = self._completed.get(info_hash, 0) + 1
            counts = self._counts(info_hash)
            chosen = self._draw.sample(others, min(numwant, len(others)))

        return {
            b"interval": INTERVAL_S,
            b"min interval": LEAST_INTERVAL_S,
            b"complete": counts[b"complete"],
            b"incomplete": counts[b"incomplete"],
            **_listed(chosen, query),
        }

    def scrape(self, query: Query) -> dict[bytes, Bencoded]:
        """How many seeders and leechers the named torrents have, or all torrents if none is named."""
        with self._lock:
            self._sweep()
            wanted = query.get(b"info_hash") or list(self._peers)
            return {b"files": {info_hash: {**self._counts(info_hash)} for info_hash in wanted}}

    def _others(self, info_hash: bytes, peer: Peer) -> list[Peer]:
        """Every peer that ``peer`` has a use for: not itself, and no seeders for a seeder."""
        return [
            other
            for other in self._peers.get(info_hash, {}).values()
            if other.endpoint != peer.endpoint and other.peer_id != peer.peer_id and (peer.left or other.left)
        ]

    def _counts(self, info_hash: bytes) -> dict[bytes, int]:
        peers = self._peers.get(info_hash, {}).values()
        complete = sum(not peer.left for peer in peers)
        return {
            b"complete": complete,
            b"downloaded": self._completed.get(info_hash, 0),
            b"incomplete": len(peers) - complete,
        }

    def _remove(self, info_hash: bytes, peer: Peer) -> None:
        peers = self._peers.get(info_hash, {})
        peers.pop(peer.endpoint, None)
        if not peers:
            self._peers.pop(info_hash, None)
            self._completed.pop(info_hash, None)

    def _sweep(self) -> None:
        now_s = self._clock()
        if now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + LEAST_INTERVAL_S
        for info_hash, peers in list(self._peers.items()):
            for peer in list(peers.values()):
                if now_s - peer.seen_s > self._expire_s:
                    self._remove(info_hash, peer)


def _listed(peers: Iterable[Peer], query: Query) -> dict[bytes, Bencoded]:
    """The peers in the form that the client asked for."""
    if _first(query, b"compact") == b"1":
        packed = [peer.compact for peer in peers]
        six = b"".join(one for one in packed if len(one) > len(IPv4Address(0).packed) + 2)
        four = b"".join(one for one in packed if len(one) == len(IPv4Address(0).packed) + 2)
        return {b"peers": four, b"peers6": six} if six else {b"peers": four}
    named = _first(query, b"no_peer_id") != b"1"
    return {
        b"peers": [
            {b"ip": str(peer.address).encode(), b"port": peer.port, **({b"peer id": peer.peer_id} if named else {})}
            for peer in peers
        ]
    }


def _first(query: Query, key: bytes) -> bytes:
    return query.get(key, [b""])[0]


def _exactly(query: Query, key: bytes) -> bytes:
    """A value of 20 bytes."""
    value = _first(query, key)
    if len(value) != ID_LENGTH:
        raise BadAnnounce(f"{key.decode()} has {len(value)} bytes instead of {ID_LENGTH}")
    return value


def _number(query: Query, key: bytes, usual: int | None) -> int:
    value = _first(query, key)
    if not value and usual is not None:
        return usual
    if not value.isdigit() or len(value) > MOST_DIGITS:
        raise BadAnnounce(f"{key.decode()} is missing or no number")
    return int(value)


def _numwant(query: Query) -> int:
    # Some clients say -1 where they mean "as many as is usual".
    if _first(query, b"numwant").startswith(b"-"):
        return USUAL_NUMWANT
    return min(_number(query, b"numwant", USUAL_NUMWANT), MOST_NUMWANT)


def parsed(text: str) -> Query:
    """A query as bytes: an info hash is no text, so the standard library's parser would spoil it."""
    query: Query = {}
    for part in text.encode("latin-1").split(b"&"):
        key, _, value = part.partition(b"=")
        query.setdefault(unquote_to_bytes(key), []).append(unquote_to_bytes(value))
    return query


def bencode(value: Bencoded) -> bytes:
    """BEP 3's encoding; the keys of a dictionary come out sorted, as it demands."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers ``/announce``, ``/scrape`` and ``/health``, each request in a thread."""

    daemon_threads = True
    allow_reuse_address = True
    # A whole swarm announces at the same moment, and a refused connection would come back a second later.
    request_queue_size = 1024

    def __init__(self, address: str, port: int, swarms: Swarms) -> None:
        self.swarms = swarms
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error; anything else is said on stderr, which is the log."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    # Head and body leave in one packet; in two the second could wait 40 ms for the first one's acknowledgement.
    wbufsize = -1
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are not news."""

    def do_GET(self) -> None:
        path, _, text = self.path.partition("?")
        if path == "/announce":
            self._answer(HTTPStatus.OK, bencode(self._announced(text)))
        elif path == "/scrape":
            self._answer(HTTPStatus.OK, bencode(self.server.swarms.scrape(parsed(text))))
        elif path == "/health":
            self._answer(HTTPStatus.OK, b"ok")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"only /announce, /scrape and /health are here\n")

    def _announced(self, text: str) -> dict[bytes, Bencoded]:
        address = ip_address(self.client_address[0])
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        try:
            return self.server.swarms.announce(parsed(text), mapped or address)
        except BadAnnounce as error:
            # Clients read the reason only from an answer with status 200.
            return {b"failure reason": str(error).encode()}

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def main(arguments: list[str] | None = None) -> None:
    """Track until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m pytest_codexbench.nodes.tracker", description=__doc__)
    parser.add_argument("--address", required=True, help="the only address to listen on")
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args(arguments)

    # As the first process of a container it would not be ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, _end)
    try:
        server = Server(options.address, options.port, Swarms())
    except OSError as error:
        sys.exit(f"cannot listen on {options.address}:{options.port}: {error}")
    with server:
        server.serve_forever()


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
