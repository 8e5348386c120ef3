"""How blocks get from node to node: a question is a line of JSON, an answer a length and so many bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from codex_double.cids import BLOCK_SIZE, Cid, Manifest
from codex_double.counts import Counts
from codex_double.httpserver import accept
from codex_double.options import Address
from codex_double.store import Store

Message = dict[str, Any]

# Nothing from a peer for so long: it is gone.
SILENCE_S = 10.0
MISSING = 0xFFFFFFFF


class DialFailed(Exception):
    """A peer that cannot be reached, or is another one."""


@dataclass(frozen=True)
class Me:
    """What a node says of itself before anything else."""

    peer: str
    host: str
    port: int


class Server:
    """Answers the questions of other nodes."""

    def __init__(self, listener: socket.socket, me: Me, store: Store, meets: Callable[[Me], None]) -> None:
        self.sent = Counts()
        self._listener, self._me, self._store, self._meets = listener, me, store, meets

    def start(self) -> None:
        accept(self._listener, self._serve)

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as lines:
            try:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._meets(Me(**json.loads(lines.readline())))
                _send(peer, json.dumps(vars(self._me)).encode())
                for line in lines:
                    for answer in self._answers(json.loads(line)):
                        _send(peer, answer)
            except (OSError, ValueError, TypeError, KeyError):
                return  # it left, or speaks another language

    def _answers(self, message: Message) -> Iterator[bytes | None]:
        served = message["cid"] in self._store.served()
        cid = Cid.parse(message["cid"])
        match message["ask"] if served and cid else None:
            case "manifest" if cid and (manifest := self._store.manifest(cid)):
                self.sent.add(blocks=1)
                yield manifest.encoded
            case "leaves" if cid and (leaves := self._store.leaves(cid)):
                yield b"".join(leaves)
            case "held" if cid and (leaves := self._store.leaves(cid)):
                yield bytes(self._store.holds(leaf) for leaf in leaves)
            case "blocks" if cid and (leaves := self._store.leaves(cid)):
                yield from self._blocks([leaves[index] for index in message["indexes"]])
            case _:
                yield from [None] * len(message.get("indexes", [0]))

    def _blocks(self, digests: Sequence[bytes]) -> Iterator[bytes | None]:
        for digest in digests:
            block = self._store.block(digest)
            self.sent.add(blocks=int(block is not None))
            yield block


def _send(peer: socket.socket, answer: bytes | None) -> None:
    if answer is None:
        peer.sendall(MISSING.to_bytes(4))
    else:
        peer.sendall(len(answer).to_bytes(4) + answer)


class Link:
    """A connection to a peer, to ask it. Raises DialFailed; later OSError or ValueError if the peer fails."""

    def __init__(self, me: Me, address: Address, peer: str | None = None) -> None:
        try:
            self._socket = socket.create_connection(address, timeout=SILENCE_S)
        except OSError as error:
            raise DialFailed(f"{address[0]}:{address[1]}: {error}") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._answers = self._socket.makefile("rb")
            self._ask(vars(me))
            self.peer = Me(**json.loads(self._answer() or b"{}"))
        except (OSError, ValueError, TypeError) as error:
            self._socket.close()
            raise DialFailed(f"{address[0]}:{address[1]} is no node: {error}") from error
        if peer not in (None, self.peer.peer):
            self._socket.close()
            raise DialFailed(f"{address[0]}:{address[1]} is {self.peer.peer}, not {peer}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()

    def manifest(self, cid: Cid) -> Manifest | None:
        """None if the peer does not have it."""
        self._ask({"ask": "manifest", "cid": str(cid)})
        encoded = self._answer()
        if encoded is None:
            return None
        manifest = Manifest.of(encoded)
        if manifest.cid != cid:
            raise ValueError(f"a manifest {manifest.cid} in place of {cid}")
        return manifest

    def leaves(self, tree: Cid) -> bytes | None:
        """The digests of a tree's blocks; None if the peer does not have them."""
        self._ask({"ask": "leaves", "cid": str(tree)})
        return self._answer()

    def held(self, tree: Cid) -> bytes:
        """A byte a block: whether the peer has it."""
        self._ask({"ask": "held", "cid": str(tree)})
        return self._answer() or b""

    def blocks(self, tree: Cid, indexes: Sequence[int]) -> Iterator[bytes | None]:
        """Some blocks of a tree, in the order asked for; None for what the peer has no more."""
        self._ask({"ask": "blocks", "cid": str(tree), "indexes": list(indexes)})
        for _ in indexes:
            block = self._answer()
            if block is not None and len(block) != BLOCK_SIZE:
                raise ValueError(f"a block of {len(block)} bytes")
            yield block

    def _ask(self, message: Mapping[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _answer(self) -> bytes | None:
        length = int.from_bytes(self._read(4))
        return None if length == MISSING else self._read(length)

    def _read(self, length: int) -> bytes:
        answer = self._answers.read(length)
        if len(answer) != length:
            raise ConnectionError("the peer hung up")
        return answer
