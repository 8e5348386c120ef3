"""The little of protocol buffers that manifests and peer records need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """A field that is bytes, a string or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


@dataclass(frozen=True)
class Fields:
    """A message taken apart; of a repeated field, the first."""

    values: Mapping[int, int | bytes]

    @classmethod
    def of(cls, message: bytes) -> Fields:
        """ValueError if it is no message."""
        values: dict[int, int | bytes] = {}
        at = 0
        try:
            while at < len(message):
                key, at = _read(message, at)
                value, at = _read(message, at)
                if key & 7 == 0:
                    values.setdefault(key >> 3, value)
                    continue
                if key & 7 != 2 or at + value > len(message):
                    raise ValueError("a field of a strange kind")
                values.setdefault(key >> 3, message[at : at + value])
                at += value
        except IndexError as error:
            raise ValueError("it ends within a field") from error
        return cls(values)

    def message(self, field: int) -> bytes:
        value = self.values.get(field)
        if not isinstance(value, bytes):
            raise ValueError(f"no bytes in field {field}")
        return value

    def optional(self, field: int) -> bytes | None:
        return self.message(field) if field in self.values else None

    def number(self, field: int) -> int:
        value = self.values.get(field)
        if not isinstance(value, int):
            raise ValueError(f"no number in field {field}")
        return value


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] & 128:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1
