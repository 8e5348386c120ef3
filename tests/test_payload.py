"""The file that is spread: its bytes, made from a size and a seed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from blake3 import blake3

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.payload import BLOCK, Payload, digest_of_file, drop_cache

MEMORY = Path("/dev/shm")
needs_linux = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the page cache is not told of here")


def bytes_of(payload: Payload) -> bytes:
    """All bytes of a small payload."""
    return b"".join(bytes(block) for block in payload.blocks())


def test_a_payload_is_the_same_on_every_machine() -> None:
    """A round's bytes follow from size and seed alone: these were made elsewhere."""
    payload = Payload(1000, 7)

    assert "049772e5a1cab4e0db97aaed877f0b64" == bytes_of(payload)[:16].hex()
    assert "d3bcf6b2a1a905d9d43ec19be50270f250515bb0b75f1f405c0e576a908c6165" == payload.digest()


def test_a_payload_is_the_same_each_time() -> None:
    """Every seeder makes the same file."""
    one, other = Payload(BLOCK + 5, 1), Payload(BLOCK + 5, 1)

    assert bytes_of(one) == bytes_of(other)
    assert one.digest() == one.digest() == other.digest()


def test_another_seed_makes_other_bytes() -> None:
    """No cache of an earlier round helps a later one: from the first bytes on they differ."""
    beginnings = {bytes_of(Payload(64, seed)) for seed in range(50)}

    assert 50 == len({beginning[:16] for beginning in beginnings})


def test_a_larger_payload_begins_like_a_smaller_one() -> None:
    """What is pinned for a small payload holds for a large one; a block does not repeat the one before."""
    large = bytes_of(Payload(2 * BLOCK + 1, 3))

    assert large.startswith(bytes_of(Payload(1000, 3)))
    assert large[:1000] != large[BLOCK : BLOCK + 1000]


def test_a_payload_cannot_be_compressed() -> None:
    """Nothing on the way may make it smaller: all 256 values come equally often."""
    counts = [0] * 256
    for value in bytes_of(Payload(256 * 1000, 1)):
        counts[value] += 1

    assert 800 < min(counts) <= max(counts) < 1200


@pytest.mark.parametrize("size", [1, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 17])
def test_what_is_written_is_what_is_hashed(tmp_path: Path, size: int) -> None:
    """Writing, hashing as it is made and hashing what is on the disk agree, around the size of a block, too."""
    payload = Payload(size, 11)
    path = tmp_path / "file"
    written = payload.write(path)
    data = path.read_bytes()

    assert size == len(data)
    assert bytes_of(payload) == data
    assert blake3(data).hexdigest() == written == payload.digest() == digest_of_file(path)
    assert {BLOCK} >= {len(block) for block in payload.blocks()} - {size % BLOCK}


def test_one_wrong_bit_is_another_digest(tmp_path: Path) -> None:
    """A corrupt file is found, wherever the damage is."""
    path = tmp_path / "file"
    digest = Payload(BLOCK + 100, 1).write(path)
    data = bytearray(path.read_bytes())
    for place in (0, BLOCK - 1, BLOCK, BLOCK + 99):
        data[place] ^= 1
        path.write_bytes(data)
        data[place] ^= 1

        assert digest != digest_of_file(path)
    path.write_bytes(data[:-1])
    assert digest != digest_of_file(path)


def test_an_empty_file_has_the_digest_of_nothing(tmp_path: Path) -> None:
    """A transfer that wrote no byte can be checked, too."""
    (tmp_path / "file").touch()

    assert blake3(b"").hexdigest() == digest_of_file(tmp_path / "file")


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_payload_is_refused(size: int) -> None:
    """There is nothing to spread."""
    with pytest.raises(WrongInput, match=f"{size} bytes"):
        Payload(size, 1)


def test_a_payload_replaces_what_was_there(tmp_path: Path) -> None:
    """A longer file of an earlier round leaves nothing behind."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    digest = Payload(1000, 1).write(path)

    assert 1000 == path.stat().st_size
    assert digest == digest_of_file(path)


FULL = """
import resource, sys
from pathlib import Path
from pytest_codexbench.payload import Payload

resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))
try:
    Payload(int(sys.argv[2]), 1).write(Path(sys.argv[1]))
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.mark.parametrize("size", [(5 << 20) + 1, 9 << 20])
def test_a_full_disk_is_told_and_left_clean(tmp_path: Path, size: int) -> None:
    """What cannot be written whole is removed, and the disk's own error comes out."""
    path = tmp_path / "file"
    command = [sys.executable, "-c", FULL, str(path), str(size)]
    limited = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "OSError 27" == limited.stdout.strip()
    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As the disk says it."""
    with pytest.raises(FileNotFoundError):
        Payload(10, 1).write(tmp_path / "absent" / "file")


# --- the page cache ---


def fill(folder: Path, size: int) -> None:
    """A file in the folder, and one deeper in it, both just written and so in memory."""
    (folder / "deep" / "er").mkdir(parents=True)
    for path in (folder / "file", folder / "deep" / "er" / "file"):
        Payload(size, 1).write(path)


def places_cached(path: Path) -> int:
    """At how many of nine places the file can be read without waiting for the disk."""
    hits, size = 0, path.stat().st_size
    with path.open("rb") as file:
        for place in range(9):
            try:
                hits += os.preadv(file.fileno(), [bytearray(1)], size * place // 9, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
    return hits


def lets_go(folder: Path) -> bool:
    """Whether the file system below ``folder`` drops a file's pages when asked, and says so."""
    probe = folder / "probe"
    probe.write_bytes(bytes(1 << 20))
    try:
        with probe.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return places_cached(probe) < 3
    except OSError:
        return False
    finally:
        probe.unlink()


@needs_linux
def test_files_on_a_disk_leave_the_page_cache(tmp_path: Path) -> None:
    """After publishing, every file below the folder is dropped, however deep, and stays what it was."""
    if not any(lets_go(tmp_path) for _ in range(3)):
        pytest.skip(f"the file system of {tmp_path} does not tell whether it holds a file in memory")
    folder = tmp_path / "data"
    fill(folder, 5 << 20)
    before = places_cached(folder / "file")
    # the kernel may keep a page that it is busy with: it is asked again
    dropped = any(drop_cache(folder) for _ in range(3))

    assert 9 == before
    assert dropped
    assert places_cached(folder / "file") < 3
    assert places_cached(folder / "deep" / "er" / "file") < 3
    assert Payload(5 << 20, 1).digest() == digest_of_file(folder / "file")


@needs_linux
@pytest.mark.skipif(not MEMORY.is_dir(), reason="no file system in memory")
@pytest.mark.parametrize("size", [100, 5 << 20])
def test_files_in_memory_cannot_leave_it(size: int) -> None:
    """On a file system that lives in memory nothing is cold, and the record must say so, of small files, too."""
    with tempfile.TemporaryDirectory(prefix="codexbench-", dir=MEMORY) as folder:
        fill(Path(folder), size)

        assert not drop_cache(Path(folder))


def test_a_folder_without_files_is_cold(tmp_path: Path) -> None:
    """Nothing to drop is dropped; what is no file of the node's is left alone."""
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")

    assert drop_cache(tmp_path)
    assert drop_cache(tmp_path / "absent")


@needs_linux
def test_a_file_that_goes_away_meanwhile_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is running: it may remove a file between the listing and the opening."""
    (tmp_path / "file").write_bytes(b"x")
    opened = os.open

    def open_too_late(path: Path, flags: int, *rest: int) -> int:
        path.unlink()
        return opened(path, flags, *rest)

    monkeypatch.setattr("pytest_codexbench.payload.os.open", open_too_late)
    dropped = drop_cache(tmp_path)

    assert dropped
