"""Numbers that several threads add to."""

from __future__ import annotations

import threading
from collections import Counter


class Counts:
    """By name; zero before the first."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        with self._lock:
            self._counts.update(amounts)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]
