"""Who a node is: its peer id, and the record by which others find it."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from codex_double.cids import base58, unbase58
from codex_double.protobuf import Fields, number, text

PUBLIC_KEY = bytes((8, 2, 18, 33))  # a secp256k1 key of 33 bytes, as libp2p writes it
IDENTITY = bytes((0, 37))  # the multihash that is its own content
IP4, UDP, TCP = b"\x04", b"\x91\x02", b"\x06"


@dataclass(frozen=True)
class Identity:
    """A node's key. It signs nothing: its public half is a digest, and no point of the curve."""

    secret: bytes

    @classmethod
    def kept(cls, file: Path) -> Identity:
        """That of a file, which is made if it is absent."""
        if not file.exists():
            file.touch(0o600)
            file.write_text(secrets.token_hex(32))
        return cls(bytes.fromhex(file.read_text()))

    @property
    def public_key(self) -> bytes:
        """Compressed: one byte for the parity, and a coordinate."""
        digest = hashlib.sha256(self.secret).digest()
        return bytes((2 + digest[-1] % 2,)) + digest

    @property
    def peer(self) -> str:
        return base58(IDENTITY + PUBLIC_KEY + self.public_key)


def is_peer(peer: str) -> bool:
    """Whether it is an id that a key of this kind can have."""
    try:
        binary = unbase58(peer)
    except ValueError:
        return False
    return binary.startswith(IDENTITY + PUBLIC_KEY) and len(binary) == 39


@dataclass(frozen=True)
class Record:
    """A signed peer record, ``spr:...``: who, and where its discovery (UDP) answers."""

    peer: str
    host: str
    port: int
    sequence: int = 0

    def __str__(self) -> str:
        key = unbase58(self.peer)[len(IDENTITY) :]
        place = text(1, IP4 + IPv4Address(self.host).packed + UDP + self.port.to_bytes(2))
        payload = text(1, IDENTITY + key) + number(2, self.sequence) + text(3, place)
        # shaped like a signature, which nobody checks here
        signature = b"\x30\x44" + hashlib.sha512(payload).digest() + b"\x02\x20\x02\x20"
        envelope = text(1, key) + text(2, b"\x03\x01") + text(3, payload) + text(5, signature)
        return "spr:" + base64.urlsafe_b64encode(envelope).decode().rstrip("=")

    @classmethod
    def of(cls, written: str) -> Record:
        """From its text, also from that of a real node; ValueError if it is none."""
        scheme, _, encoded = written.partition(":")
        if scheme != "spr":
            raise ValueError(f"{written!r} does not start with spr:")
        payload = Fields.of(Fields.of(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))).message(3))
        place = Fields.of(payload.message(3)).message(1)
        if len(place) != 9 or place[:1] != IP4 or place[5:7] != UDP:
            raise ValueError("its address is not /ip4/.../udp/...")
        host, port = ip_address(place[1:5]), int.from_bytes(place[7:])
        return cls(base58(payload.message(1)), str(host), port, payload.number(2))

    @classmethod
    def new(cls, peer: str, host: str, port: int) -> Record:
        """One of this moment."""
        return cls(peer, host, port, int(time.time()))
