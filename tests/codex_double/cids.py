"""Content identifiers, trees and manifests, as Codex makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codex_double.protobuf import Fields, number, text, varint

BLOCK_SIZE = 65536
MANIFEST, BLOCK, TREE = 0xCD01, 0xCD02, 0xCD03
SHA2_256, DIGEST = 0x12, 32
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True)
class Cid:
    """What it is of (a multicodec), and its SHA-256."""

    codec: int
    digest: bytes

    def __str__(self) -> str:
        return "z" + base58(self.binary)

    @property
    def binary(self) -> bytes:
        return b"\x01" + varint(self.codec) + bytes((SHA2_256, len(self.digest))) + self.digest

    @property
    def short(self) -> str:
        """As a log has it."""
        return f"{str(self)[:3]}*{str(self)[-6:]}"

    @classmethod
    def of(cls, codec: int, content: bytes) -> Cid:
        """That of content."""
        return cls(codec, hashlib.sha256(content).digest())

    @classmethod
    def parse(cls, written: str) -> Cid | None:
        """None for what is no CID in base58; the older kind (``Qm...``) is one too."""
        try:
            if written.startswith("Qm"):
                return cls._parsed(b"\x01" + varint(0x70) + unbase58(written))
            return cls._parsed(unbase58(written[1:])) if written.startswith("z") else None
        except (ValueError, IndexError):
            return None

    @classmethod
    def _parsed(cls, binary: bytes) -> Cid | None:
        _, codec, _, length = _varints(binary, 4)
        cid = cls(codec, binary[-length:])
        return cid if cid.binary == binary and length == DIGEST else None


def _varints(binary: bytes, count: int) -> Iterator[int]:
    at = 0
    for _ in range(count):
        value = shift = 0
        while binary[at] & 128:
            value |= (binary[at] & 127) << shift
            at, shift = at + 1, shift + 7
        yield value | binary[at] << shift
        at += 1


def base58(binary: bytes) -> str:
    """In Bitcoin's alphabet."""
    value, digits = int.from_bytes(binary), ""
    while value:
        value, digit = divmod(value, 58)
        digits = ALPHABET[digit] + digits
    return "1" * (len(binary) - len(binary.lstrip(b"\0"))) + digits


def unbase58(digits: str) -> bytes:
    """Back from it; ValueError if it is something else."""
    value = 0
    for digit in digits:
        value = value * 58 + ALPHABET.index(digit)
    zeros = len(digits) - len(digits.lstrip("1"))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8)


def block_of(content: bytes) -> bytes:
    """A block: the last of a file is padded."""
    return content.ljust(BLOCK_SIZE, b"\0")


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over the digests of a file's blocks.

    A node is the SHA-256 of its two children and one byte: 1 on the lowest level, 2 more if the right child is missing
    (and taken as zeros). It gives the recorded CIDs of the uploads whose bytes are known (17, 21, 22, 102); those have
    one block, so what is above the lowest level is from the published source.
    """
    level, lowest = list(leaves), 1
    while lowest or len(level) > 1:
        odd = len(level) % 2
        pairs = zip(level[0::2], [*level[1::2], *([bytes(32)] * odd)], strict=True)
        last = len(level) // 2
        level = [
            hashlib.sha256(left + right + bytes([lowest + 2 * (odd and index == last)])).digest()
            for index, (left, right) in enumerate(pairs)
        ]
        lowest = 0
    return level[0]


@dataclass(frozen=True)
class Manifest:
    """What describes one file."""

    tree: Cid
    size: int
    filename: str | None = None
    mimetype: str | None = None

    @property
    def blocks(self) -> int:
        return -(-self.size // BLOCK_SIZE)

    @property
    def cid(self) -> Cid:
        return Cid.of(MANIFEST, self.encoded)

    @property
    def encoded(self) -> bytes:
        """The manifest's block; the numbers 4 to 6 are the multicodecs of blocks and hashes, and the CIDs' version."""
        header = text(1, self.tree.binary) + number(2, BLOCK_SIZE) + number(3, self.size)
        header += number(4, BLOCK) + number(5, SHA2_256) + number(6, 2)
        header += text(8, self.filename.encode()) if self.filename is not None else b""
        header += text(9, self.mimetype.encode()) if self.mimetype is not None else b""
        return text(1, header)

    @classmethod
    def of(cls, encoded: bytes) -> Manifest:
        """Back from its block; ValueError if it is none."""
        header = Fields.of(Fields.of(encoded).message(1))
        names = (header.optional(8), header.optional(9))
        tree = Cid.parse("z" + base58(header.message(1)))
        if tree is None:
            raise ValueError("a manifest without a tree")
        return cls(tree, header.number(3), *(None if name is None else name.decode() for name in names))
