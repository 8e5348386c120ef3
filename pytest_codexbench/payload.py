"""The file that is spread: its bytes, made from a size and a seed."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pytest_codexbench.errors import WrongInput

BLOCK = 1 << 22
# Of a file that was dropped from the page cache, the kernel may keep a few pages that were just in use.
MOST_RESIDENT = 0.01


@dataclass(frozen=True, slots=True)
class Payload:
    """``size`` bytes that look random and follow from ``seed`` alone: the key stream of AES-256 in counter mode."""

    size: int
    seed: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise WrongInput(f"a payload of {self.size} bytes: at least 1 is needed")

    def blocks(self) -> Iterator[memoryview]:
        """The bytes in order, in pieces of at most 4 MiB; each is overwritten by the next."""
        from blake3 import blake3
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES256
        from cryptography.hazmat.primitives.ciphers.modes import CTR

        key = blake3(f"codexbench payload {self.seed}".encode()).digest()
        stream = Cipher(AES256(key), CTR(bytes(16))).encryptor()
        zeros, block = bytes(BLOCK), memoryview(bytearray(BLOCK))
        left = self.size
        while left:
            length = min(left, BLOCK)
            stream.update_into(zeros[:length] if length < BLOCK else zeros, block)
            yield block[:length]
            left -= length

    def digest(self) -> str:
        """BLAKE3 of the bytes: 64 hexadecimal digits."""
        hasher = Hasher()
        for block in self.blocks():
            hasher.update(block)
        return hasher.hexdigest()

    def write(self, path: Path) -> str:
        """Write the file and return its digest. The bytes are hashed as they are made, not read back.

        Raises:
            OSError: as the disk says; what was written is removed.
        """
        hasher = Hasher()
        try:
            with path.open("wb", buffering=0) as file:
                for block in self.blocks():
                    hasher.update(block)
                    _write(file, block)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return hasher.hexdigest()


def _write(file: FileIO, left: memoryview) -> None:
    while left:
        left = left[file.write(left) :]


class Hasher:
    """BLAKE3 as it goes."""

    def __init__(self) -> None:
        from blake3 import blake3

        self._hasher = blake3()

    def update(self, data: memoryview | bytes) -> None:
        """Take in more bytes."""
        self._hasher.update(data)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._hasher.hexdigest()


def digest_of_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, read piece by piece so that it needs no more memory than one."""
    hasher, block = Hasher(), memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(block):
            hasher.update(block[:length])
    return hasher.hexdigest()


def drop_cache(folder: Path) -> bool:
    """Write back every file below ``folder`` and take it out of the page cache; whether that worked for all.

    Needs no rights beyond reading the files. On a file system that lives in memory it cannot work, and says so.
    """
    dropped = True
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # a node may tidy up meanwhile
            continue
        except PermissionError:
            dropped = False
            continue
        try:
            os.fsync(fd)
            size = os.fstat(fd).st_size
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            dropped = dropped and _resident(fd, size) <= size * MOST_RESIDENT
        finally:
            os.close(fd)
    return dropped


def _resident(fd: int, size: int) -> int:
    """How many of the file's bytes are in the page cache, asked without bringing any in; all, if nobody can tell."""
    if not size:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    number, size_t, address_t = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
    libc.mmap.argtypes = (address_t, size_t, number, number, number, ctypes.c_long)
    libc.mincore.argtypes = (address_t, size_t, ctypes.c_char_p)
    libc.munmap.argtypes = (address_t, size_t)
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        return size
    try:
        pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
        if libc.mincore(address, size, pages):
            return size
        # the lowest bit alone has a meaning; the others are reserved
        return sum(count for byte, count in Counter(pages.raw).items() if byte & 1) * mmap.PAGESIZE
    finally:
        libc.munmap(address, size)
