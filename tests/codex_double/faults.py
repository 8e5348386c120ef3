"""What a double does wrong when it is told to, through the variable ``CODEX_DOUBLE_FAULTS``."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from codex_double.httpserver import Hangup

VARIABLE = "CODEX_DOUBLE_FAULTS"
# name: whether it takes an argument
KNOWN = {
    "stall": True,  # the stream sends so many bytes, then nothing for ever
    "short": True,  # the stream is closed after so many bytes
    "exit": True,  # the process ends with status 3 after it streamed so many bytes
    "wrong-byte": False,  # one byte of a streamed body differs
    "status-500": True,  # that route answers 500
    "hang": True,  # that route never answers
    "other-cid": False,  # uploads answer a CID that depends on the node
    "keeps": False,  # deletion answers 204 and deletes nothing
    "slow-start": True,  # no REST until so many seconds have passed
    "no-progress": False,  # a background fetch is started without a downloadId
    "inactive": False,  # a background fetch is told to have ended half way
    "bare-inactive": False,  # what is no longer active is told as {"active": false}, without any number
}
OF_ROUTES = ("status-500", "hang")


@dataclass(frozen=True)
class Faults:
    """The faults that are on, each with its arguments."""

    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, routes: frozenset[str] = frozenset()) -> Faults:
        """Read ``name[:argument]``, separated by commas; ValueError if there is no such fault, or route."""
        arguments: dict[str, tuple[str, ...]] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, argument = part.partition(":")
            if name not in KNOWN or KNOWN[name] != bool(argument) or not _right(name, argument):
                raise ValueError(f"{VARIABLE}: {part!r} is no fault; there are {', '.join(KNOWN)}")
            if name in OF_ROUTES and argument not in routes:
                raise ValueError(f"{VARIABLE}: {argument!r} is no route; there are {', '.join(sorted(routes))}")
            arguments[name] = (*arguments.get(name, ()), argument)
        return cls(arguments)

    def on(self, name: str, argument: str = "") -> bool:
        """Whether a fault is on, with this argument."""
        return argument in self.arguments.get(name, ())

    def number(self, name: str) -> float | None:
        """The argument of a fault; None if it is off."""
        arguments = self.arguments.get(name)
        return float(arguments[0]) if arguments else None

    def streamed(
        self, pieces: Generator[bytes, None, None], size: int, network: bool, hang: Callable[[], None]
    ) -> Generator[bytes, None, None]:
        """A body of ``size`` bytes as the faults leave it; what is read from the local copy comes to its end."""
        wrong = size // 2 if self.on("wrong-byte") else None
        limits = [self.number(name) for name in ("stall", "short", "exit") if network]
        limit = int(min((limit for limit in limits if limit is not None), default=size))
        sent = 0
        with closing(pieces):
            for piece in pieces:
                if wrong is not None and sent <= wrong < sent + len(piece):
                    yield _flipped(piece, wrong - sent)[: limit - sent]
                else:
                    yield piece[: limit - sent]
                sent += len(piece)
                if sent >= limit and limit < size:
                    self._end(hang)

    def _end(self, hang: Callable[[], None]) -> None:
        if "exit" in self.arguments:
            os._exit(3)
        if "stall" in self.arguments:
            hang()
        raise Hangup


def _right(name: str, argument: str) -> bool:
    """Whether the argument is a number, where it must be one."""
    return name in OF_ROUTES or not argument or argument.replace(".", "", 1).isdecimal()


def _flipped(piece: bytes, index: int) -> bytes:
    return piece[:index] + bytes([piece[index] ^ 1]) + piece[index + 1 :]
