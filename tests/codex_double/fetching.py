"""Getting what others have: manifests, trees and blocks, from all who have them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from codex_double.cids import DIGEST, Cid, Manifest, root_of
from codex_double.counts import Counts
from codex_double.exchange import DialFailed, Link, Me
from codex_double.log import Log
from codex_double.options import Address
from codex_double.peers import Peers
from codex_double.store import QuotaExceeded, Store

BATCH = 16
LOOK_S, REST_S, FULL_S = 0.5, 0.1, 1.0

# Whether somebody still waits.
Patience = Callable[[], bool]


class Fetch:
    """The blocks of one tree that are not here yet, asked from every peer that has some, while somebody wants them.

    Each peer gets batches of blocks in turn. Who no longer wants them does not break off a batch.
    """

    def __init__(self, parent: Fetches, manifest: Manifest) -> None:
        self.tree, self.total = manifest.tree, manifest.blocks
        self.over = False
        self._parent, self._store = parent, parent.store
        self._wanted = 0
        self._closed = False
        self._leaves: list[bytes] = []
        self._todo: deque[int] = deque()
        self._missing: set[int] = set(range(self.total))
        self._peers: set[str] = set()
        self._news = threading.Condition()

    # --- who wants it -------------------------------------------------------------------------------------------------

    def want(self) -> bool:
        """One more who wants it; False if it has ended."""
        with self._news:
            if self.over or self._closed:
                return False
            self._wanted += 1
            return True

    def let_go(self) -> None:
        """One who wants it no longer."""
        with self._news:
            self._wanted -= 1
            self._news.notify_all()

    def close(self) -> None:
        """Stop at once: nothing is stored from now on."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def wait(self, index: int, seconds: float) -> None:
        """Until a block came or the fetch has ended, or so long."""
        with self._news:
            self._news.wait_for(lambda: self.over or index not in self._missing, seconds)

    def wait_for_end(self, seconds: float) -> None:
        """Until the fetch has ended, or so long."""
        with self._news:
            self._news.wait_for(lambda: self.over, seconds)

    @property
    def received(self) -> int:
        """How many blocks are here."""
        return self.total - len(self._missing)

    def _live(self) -> bool:
        return bool(self._wanted) and not self._closed

    # --- the fetch itself ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Look for peers until all is here."""
        while not self._ended():
            providers = self._parent.providers(self.tree)
            if not self._leaves:
                self._learn(providers)
            if self._leaves:
                self._ask({peer: address for peer, address in providers.items() if peer not in self._peers})
            with self._news:
                self._news.wait_for(self._ended, LOOK_S)
        with self._news:
            self.over = True
            self._news.notify_all()

    def _learn(self, providers: dict[str, Address]) -> None:
        """Get the tree, from here or from a peer."""
        leaves = self._store.leaves(self.tree) or self._parent.tree(self.tree, self.total, providers)
        if leaves is None:
            return
        with self._news:
            self._missing = {index for index, leaf in enumerate(leaves) if not self._store.holds(leaf)}
            self._todo = deque(sorted(self._missing))
            self._leaves = leaves

    def _ask(self, providers: dict[str, Address]) -> None:
        """Start with new peers: each is given its first blocks before any of them begins."""
        shares = {peer: self._take(b"\1" * self.total, len(providers)) for peer in providers}
        for peer, share in shares.items():
            with self._news:
                self._peers.add(peer)
            threading.Thread(target=self._from_peer, args=(peer, providers[peer], share), daemon=True).start()

    def _from_peer(self, peer: str, address: Address, share: list[int]) -> None:
        pending, rest_s = set(share), REST_S
        try:
            with self._parent.link(address, peer) as link:
                held = link.held(self.tree)
                self._get(link, [index for index in share if has(held, index)], pending)
                while self._live() and self._missing:
                    self._give_back(pending)
                    rest_s = REST_S if self._get_all(link, held, pending) else min(2 * rest_s, LOOK_S)
                    with self._news:
                        self._news.wait_for(self._ended, rest_s)
                    held = link.held(self.tree)
        except DialFailed as error:
            self._parent.lost(peer, error)
        except (OSError, ValueError) as error:
            self._parent.log.info("Peer failed", topics="codex blockexcengine", peer=peer, err=error)
        finally:
            self._give_back(pending)
            with self._news:
                self._peers.discard(peer)

    def _ended(self) -> bool:
        return not self._live() or not self._missing

    def _get_all(self, link: Link, held: bytes, pending: set[int]) -> bool:
        """Batch after batch, while the peer has some that nobody else was asked for; whether it had any."""
        some = False
        while batch := self._take(held):
            some = True
            pending |= set(batch)
            self._get(link, batch, pending)
        return some

    def _take(self, held: bytes, peers: int = 0) -> list[int]:
        """The next batch of a peer: so many that the other peers get some too."""
        with self._news:
            if not self._live():
                return []
            most = max(1, min(BATCH, len(self._todo) // max(1, peers, len(self._peers))))
            batch: list[int] = []
            passed: list[int] = []
            while self._todo and len(batch) < most:
                index = self._todo.popleft()
                (batch if has(held, index) else passed).append(index)
            self._todo.extendleft(reversed(passed))
            return batch

    def _give_back(self, pending: set[int]) -> None:
        with self._news:
            self._todo.extendleft(sorted(pending & self._missing, reverse=True))
            pending.clear()

    def _get(self, link: Link, batch: Sequence[int], pending: set[int]) -> None:
        for index, block in zip(batch, link.blocks(self.tree, batch), strict=True):
            if block is None:
                continue
            if hashlib.sha256(block).digest() != self._leaves[index]:
                raise ValueError(f"block {index} of {self.tree} is another one")
            self._parent.received.add(blocks=1)
            if self._stored(index, block):
                pending.discard(index)

    def _stored(self, index: int, block: bytes) -> bool:
        try:
            with self._news:
                if self._closed:
                    raise ConnectionError("no longer wanted")
                self._store.put(self._leaves[index], block)
                self._missing.discard(index)
                self._news.notify_all()
        except QuotaExceeded as error:
            self._parent.full(error)
            return False
        return True


def has(held: bytes, index: int) -> bool:
    """Whether a peer has a block, by what it told."""
    return index < len(held) and bool(held[index])


class Fetches:
    """All that a node fetches."""

    def __init__(self, store: Store, me: Me, peers: Peers, log: Log) -> None:
        self.store, self.log = store, log
        self.received = Counts()
        self._me, self._peers = me, peers
        self._running: dict[str, Fetch] = {}
        self._lock = threading.Lock()

    def providers(self, cid: Cid) -> dict[str, Address]:
        return self._peers.providers(cid)

    def lost(self, peer: str, error: DialFailed) -> None:
        self.log.debug("Unable to dial peer", topics="codex blockexcengine", peer=peer, err=error)
        self._peers.forget(peer)

    def link(self, address: Address, peer: str | None) -> Link:
        return Link(self._me, address, peer)

    def full(self, error: QuotaExceeded) -> None:
        """There is no room for a block. Nothing tells the client so: it hangs, as at real nodes (recording 99)."""
        self.log.error("Unable to store block", topics="codex blockexcengine", err=error, address=error.cid.short)
        time.sleep(FULL_S)

    def manifest(self, cid: Cid, advertise: bool, patience: Patience) -> Manifest | None:
        """That of a dataset, which stays here; None if nobody waited for it any longer."""
        while (manifest := self.store.manifest(cid)) is None and patience():
            found = self._found_manifest(cid)
            if found is None:
                time.sleep(LOOK_S)
                continue
            try:
                self.store.put_manifest(found, advertise)
            except QuotaExceeded as error:
                self.full(error)
        return manifest

    def _found_manifest(self, cid: Cid) -> Manifest | None:
        for peer, address in self.providers(cid).items():
            try:
                with self.link(address, peer) as link:
                    manifest = link.manifest(cid)
            except (DialFailed, OSError, ValueError):
                continue
            if manifest is not None:
                self.received.add(blocks=1)
                return manifest
        return None

    def tree(self, tree: Cid, total: int, providers: dict[str, Address]) -> list[bytes] | None:
        """The digests of a tree's blocks, from a peer; None if no peer has them."""
        for peer, address in providers.items():
            try:
                with self.link(address, peer) as link:
                    told = link.leaves(tree)
            except (DialFailed, OSError, ValueError):
                continue
            leaves = [told[at : at + DIGEST] for at in range(0, len(told), DIGEST)] if told else []
            if told and len(leaves) == total and root_of(leaves) == tree.digest:
                self.store.put_tree(tree, told)
                return leaves
        return None

    def fetch(self, manifest: Manifest) -> Fetch:
        """The running fetch of a dataset's blocks, or a new one; wanted once more, until it is let go."""
        with self._lock:
            fetch = self._running.get(str(manifest.tree))
            if fetch is None or not fetch.want():
                fetch = Fetch(self, manifest)
                fetch.want()
                self._running[str(manifest.tree)] = fetch
                threading.Thread(target=fetch.run, daemon=True).start()
            return fetch

    @contextmanager
    def wanted(self, manifest: Manifest) -> Iterator[Fetch]:
        """The same, let go in the end."""
        fetch = self.fetch(manifest)
        try:
            yield fetch
        finally:
            fetch.let_go()

    def stop(self, tree: Cid) -> None:
        """No more of it is wanted."""
        with self._lock:
            fetch = self._running.pop(str(tree), None)
        if fetch is not None:
            fetch.close()

    def stream(self, manifest: Manifest, patience: Patience) -> Generator[bytes, None, None]:
        """The bytes of a dataset, block by block in order, as they come; ends early if nobody waits any longer."""
        left = manifest.size
        with ExitStack() as stack:
            fetch: Fetch | None = None
            for index in range(manifest.blocks):
                while (block := self._here(manifest, index)) is None:
                    if not patience():
                        return
                    if fetch is None or fetch.over:
                        fetch = stack.enter_context(self.wanted(manifest))
                    fetch.wait(index, LOOK_S)
                yield block[:left]
                left -= len(block)

    def _here(self, manifest: Manifest, index: int) -> bytes | None:
        leaves = self.store.leaves(manifest.tree)
        return None if leaves is None else self.store.block(leaves[index])
