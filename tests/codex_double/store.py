"""What a node holds on its disk: blocks, the trees that order them, manifests; and its quota."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from codex_double.cids import BLOCK, BLOCK_SIZE, DIGEST, MANIFEST, Cid, Manifest


class QuotaExceeded(Exception):
    """A block for which there is no room."""

    def __init__(self, cid: Cid, used: int, quota: int) -> None:
        super().__init__(
            f"Quota usage would exceed the limit. Used: {used}'NByte, reserved: 0'NByte, limit: {quota}'NByte"
        )
        self.cid = cid


@dataclass(frozen=True)
class Space:
    """What is used of the quota: blocks of 64 KiB, the last of a file padded, and manifests of their own size."""

    blocks: int
    used: int
    quota: int


class Store:
    """Lives in a folder, and finds again there what it held before a restart.

    A tree (the digests of a file's blocks, in order) counts towards no quota. Blocks that no tree names any more, or
    not yet, stay: they are seen in the space alone.
    """

    def __init__(self, folder: Path, quota: int) -> None:
        self.quota = quota
        self._lock = threading.RLock()
        self._folders = {name: folder / name for name in ("blocks", "trees", "manifests", "hidden")}
        for path in self._folders.values():
            path.mkdir(parents=True, exist_ok=True)
        # whoever was killed left a block half written
        self._blocks = {bytes.fromhex(p.name) for p in self._files("blocks/*") if p.stat().st_size == BLOCK_SIZE}
        self._manifests = {p.name: Manifest.of(p.read_bytes()) for p in self._files("manifests")}
        self._trees = {p.name: _leaves(p.read_bytes()) for p in self._files("trees")}
        self._hidden = {p.name for p in self._files("hidden")}
        self._used = BLOCK_SIZE * len(self._blocks) + sum(len(m.encoded) for m in self._manifests.values())

    def _files(self, pattern: str) -> list[Path]:
        name, _, below = pattern.partition("/")
        return [path for path in self._folders[name].glob(f"{below}/*" if below else "*") if path.is_file()]

    # --- blocks -------------------------------------------------------------------------------------------------------

    def put(self, digest: bytes, block: bytes) -> None:
        """Keep a block of 64 KiB. Raises QuotaExceeded."""
        with self._lock:
            if digest in self._blocks:
                return
            self._reserve(Cid(BLOCK, digest), BLOCK_SIZE)
            path = self._path(digest)
            try:
                path.write_bytes(block)
            except FileNotFoundError:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(block)
            self._blocks.add(digest)

    def block(self, digest: bytes) -> bytes | None:
        """None if it is not here."""
        if digest not in self._blocks:
            return None
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError:
            with self._lock:
                self._drop(digest)
            return None

    def holds(self, digest: bytes) -> bool:
        return digest in self._blocks

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folders["blocks"] / name[:2] / name

    def _reserve(self, cid: Cid, size: int) -> None:
        if self._used + size > self.quota:
            raise QuotaExceeded(cid, self._used + size, self.quota)
        self._used += size

    def _drop(self, digest: bytes) -> None:
        if digest in self._blocks:
            self._blocks.remove(digest)
            self._used -= BLOCK_SIZE
            self._path(digest).unlink(missing_ok=True)

    # --- trees --------------------------------------------------------------------------------------------------------

    def put_tree(self, tree: Cid, leaves: bytes) -> None:
        """Keep the digests of a file's blocks."""
        with self._lock:
            (self._folders["trees"] / str(tree)).write_bytes(leaves)
            self._trees[str(tree)] = _leaves(leaves)

    def leaves(self, tree: Cid) -> list[bytes] | None:
        """None if the tree is not here."""
        return self._trees.get(str(tree))

    # --- manifests ----------------------------------------------------------------------------------------------------

    def put_manifest(self, manifest: Manifest, advertise: bool = True) -> Cid:
        """Keep a manifest. Raises QuotaExceeded."""
        cid, encoded = manifest.cid, manifest.encoded
        with self._lock:
            if str(cid) not in self._manifests:
                self._reserve(cid, len(encoded))
                (self._folders["manifests"] / str(cid)).write_bytes(encoded)
                self._manifests[str(cid)] = manifest
            self.advertise(cid, advertise)
        return cid

    def manifest(self, cid: Cid) -> Manifest | None:
        return self._manifests.get(str(cid))

    def manifests(self) -> dict[str, Manifest]:
        with self._lock:
            return dict(self._manifests)

    def advertise(self, cid: Cid, advertise: bool) -> None:
        """Serve a dataset to others, or keep it to oneself."""
        with self._lock:
            mark = self._folders["hidden"] / str(cid)
            if advertise:
                self._hidden.discard(str(cid))
                mark.unlink(missing_ok=True)
            else:
                self._hidden.add(str(cid))
                mark.touch()

    def advertised(self, cid: Cid) -> bool:
        return str(cid) not in self._hidden

    def served(self) -> set[str]:
        """The CIDs of manifests and trees that others may have."""
        with self._lock:
            shown = {cid: manifest for cid, manifest in self._manifests.items() if cid not in self._hidden}
        return {*shown, *(str(manifest.tree) for manifest in shown.values())}

    # --- all of it ----------------------------------------------------------------------------------------------------

    def delete(self, cid: Cid) -> None:
        """Delete a dataset, or a single block; what is not here is deleted already.

        The blocks go with the manifest, though another manifest may have the same tree: as real nodes do (recording
        86). Blocks that another tree names as well are kept.
        """
        with self._lock:
            if cid.codec == BLOCK:
                self._drop(cid.digest)
            manifest = self._manifests.pop(str(cid), None)
            if manifest is None:
                return
            self._used -= len(manifest.encoded)
            (self._folders["manifests"] / str(cid)).unlink(missing_ok=True)
            self.advertise(cid, True)
            gone = set(self._trees.pop(str(manifest.tree), ()))
            (self._folders["trees"] / str(manifest.tree)).unlink(missing_ok=True)
            for other in self._manifests.values():
                gone.difference_update(self._trees.get(str(other.tree), ()))
            for digest in gone:
                self._drop(digest)

    def exists(self, cid: Cid) -> bool:
        """Whether this one block is here: of a dataset, that of its manifest."""
        return str(cid) in self._manifests if cid.codec == MANIFEST else self.holds(cid.digest)

    def space(self) -> Space:
        with self._lock:
            return Space(len(self._blocks) + len(self._manifests), self._used, self.quota)


def _leaves(joined: bytes) -> list[bytes]:
    return [joined[at : at + DIGEST] for at in range(0, len(joined), DIGEST)]
