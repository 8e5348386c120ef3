"""Lines as a node's log has them."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

LEVELS = {"trace": "TRC", "debug": "DBG", "info": "INF", "notice": "NTC", "warn": "WRN", "error": "ERR", "fatal": "FAT"}


@dataclass
class Log:
    """Writes what is at least as grave as its level to standard output."""

    level: str = "info"

    def debug(self, text: str, **fields: object) -> None:
        self._write("debug", text, fields)

    def info(self, text: str, **fields: object) -> None:
        self._write("info", text, fields)

    def notice(self, text: str, **fields: object) -> None:
        self._write("notice", text, fields)

    def error(self, text: str, **fields: object) -> None:
        self._write("error", text, fields)

    def _write(self, level: str, text: str, fields: dict[str, object]) -> None:
        order = list(LEVELS)
        if order.index(level) < order.index(self.level):
            return
        now = datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")
        topics = {name: fields.pop(name) for name in ("topics",) if name in fields}
        told = {**topics, "tid": threading.get_native_id(), **fields}
        line = (
            f"{LEVELS[level]} {now} {text:<44} {' '.join(f'{name}={_quoted(value)}' for name, value in told.items())}"
        )
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
