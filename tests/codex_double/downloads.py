"""Datasets that are fetched in the background, and how far each has come."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

from codex_double.cids import BLOCK_SIZE, Cid, Manifest
from codex_double.fetching import LOOK_S, Fetch, Fetches


@dataclass(frozen=True)
class Progress:
    """How many blocks are here, of how many; and whether more are being fetched."""

    active: bool
    received: int
    total: int

    @property
    def size(self) -> int:
        return self.received * BLOCK_SIZE


class Downloads:
    """Of one node, by a number each."""

    def __init__(self, fetches: Fetches) -> None:
        self._fetches = fetches
        self._all: dict[tuple[str, int], tuple[Manifest, Fetch]] = {}
        self._cancelled: set[int] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(self, cid: Cid, manifest: Manifest) -> int:
        """Fetch what is not here, until it is or is cancelled."""
        fetch = self._fetches.fetch(manifest)
        with self._lock:
            number = next(self._numbers)
            self._all[str(cid), number] = manifest, fetch
        threading.Thread(target=self._hold, args=(number, fetch), daemon=True).start()
        return number

    def _hold(self, number: int, fetch: Fetch) -> None:
        while not fetch.over and number not in self._cancelled:
            fetch.wait_for_end(LOOK_S)
        self._cancelled.add(number)
        fetch.let_go()

    def cancel(self, cid: Cid, number: int) -> bool:
        """Let go of one; whether there was any that had not ended."""
        with self._lock:
            _, fetch = self._all.pop((str(cid), number), (None, None))
        self._cancelled.add(number)
        return fetch is not None and not fetch.over

    def progress(self, cid: Cid, number: int) -> Progress:
        """Of one; of an unknown one, nothing."""
        manifest, fetch = self._all.get((str(cid), number), (None, None))
        if manifest is None or fetch is None:
            return Progress(active=False, received=0, total=0)
        over = fetch.over
        return Progress(not over, fetch.received, manifest.blocks)
