"""A pytest that measures in a process of its own, and what is left of it when something happened to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

from benches import LEAN, Bench

from pytest_codexbench.records import Round, read_journal

SOON_S = 60.0
# Not more often: the run that is looked at shares the processors.
LOOK_S = 0.03
GONE_S = 15.0
# The one file that stays in the temporary folder: who measures on this machine holds its lock.
STAYS = re.compile(r"codexbench-measuring-\d+\.lock")
KINDS = ("mnt", "net", "pid", "user")
# The process of the second node, of its agent, and of what else there is, by its command line.
VICTIMS = {
    "node": r"pytest_codexbench\.nodes\.\w+ .*/n01/",
    "agent": r"pytest_codexbench\.agent --name n01 ",
    "tracker": r"pytest_codexbench\.nodes\.tracker ",
    "warden": r"^(?!.*unshare ).*pytest_codexbench\.backends\.warden",
    "worker": r"sys;exec\(eval\(sys\.stdin\.readline",
}


class Underway:
    """A pytest in a session of its own; its temporary folder marks all of its processes and holds all of its data."""

    def __init__(self, bench: Bench, *arguments: str, before: Sequence[str] = (), env: Mapping[str, str] = {}) -> None:
        # pytest's own folders are too deep for sockets
        self.temporary = Path(tempfile.mkdtemp(prefix="cb"))
        self.bench, self.results = bench, bench.pytester.path / "results"
        kept = f"--basetemp={bench.pytester.path / 'kept'}"
        argv = [*before, sys.executable, "-m", "pytest", "--matrix=mine.toml", kept, *LEAN, *arguments]
        self.log = bench.pytester.path / f"log{time.monotonic_ns()}"
        self.namespaces: dict[str, int] = {}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=bench.pytester.path,
                env={**os.environ, "TMPDIR": str(self.temporary), **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    # --- while it runs ------------------------------------------------------------------------------------------------

    @property
    def journal(self) -> Path | None:
        """The records, once there are any."""
        return next(self.results.glob("*/records.jsonl"), None)

    def rounds(self) -> list[Round]:
        """Each recorded round, in order."""
        return [] if self.journal is None else list(read_journal(self.journal).measured())

    def wait(self, done: Callable[[], object], what: str, deadline_s: float = SOON_S) -> None:
        """Until it is done; what it was is told if the time is over, or the run."""
        deadline = time.monotonic() + deadline_s
        while not done():
            assert time.monotonic() < deadline, f"{what}: {self.log.read_text()}"
            assert self.process.poll() is None, f"{what}: {self.log.read_text()}"
            time.sleep(LOOK_S)

    def wait_until_moving(self, count: int = 0) -> None:
        """Until so many rounds are recorded, and in another one bytes arrive."""
        self.wait(lambda: self._recorded() >= count, f"{count} rounds")
        self.wait(lambda: self._moving(count), f"a transfer after {count} rounds")
        self._hold_namespaces()

    def _hold_namespaces(self) -> None:
        """Know those of its processes again: one that is held open leaves its number to no other, of another test's."""
        ours = _namespaces(os.getpid())
        for pid, kind in product(self.processes(), KINDS):
            with suppress(OSError):
                held = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                name = str(Path(f"/proc/self/fd/{held}").readlink())
                if name in self.namespaces or name in ours:
                    os.close(held)
                else:
                    self.namespaces[name] = held

    def _recorded(self) -> int:
        return 0 if self.journal is None else self.journal.read_bytes().count(b'"warmup":false')

    def _moving(self, count: int) -> bool:
        """Whether more rounds that count have begun, and the last that a worker told is that bytes are on their way."""
        begun, moves = 0, False
        for path in self.results.glob("*/.events/*.jsonl"):
            said = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            indices = [each["index"] for each in said if each["what"] == "begin"]
            begun += sum(index >= 0 for index in indices)
            moves |= indices[-1:] > [-1] and said[-1]["what"] == "line"
        return moves and begun > count

    def processes(self) -> dict[int, str]:
        """The command lines of all of its processes."""
        found = {}
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if str(self.temporary).encode() in environ.read_bytes():
                    command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(environ.parent.name)] = command
        return found

    def victim(self, who: str) -> int:
        """The process that something is to happen to."""
        return min(pid for pid, command in self.processes().items() if re.search(VICTIMS[who], command))

    # --- when it is over ----------------------------------------------------------------------------------------------

    def ended(self, deadline_s: float = 120) -> str:
        """Wait for its end: what it said. Nothing that it says is a traceback, and nothing is left of it."""
        self.process.wait(deadline_s)
        self.assert_nothing_is_left()
        said = self.log.read_text()
        assert "Traceback" not in said, said
        assert "INTERNALERROR" not in said, said
        return said

    def assert_nothing_is_left(self) -> None:
        """Soon after the end there is no process, namespace, mount or folder of it."""
        deadline = time.monotonic() + GONE_S
        while left := self._left():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        for held in self.namespaces.values():
            os.close(held)
        self.namespaces.clear()
        for path in self.temporary.iterdir():
            path.unlink()
        self.temporary.rmdir()

    def _left(self) -> dict[str, object]:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        ours = [str(self.temporary), str(self.bench.pytester.path), *self.namespaces]
        left = {
            "processes": self.processes(),
            "namespaces": self.namespaces.keys()
            & {each for path in Path("/proc").glob("[0-9]*") for each in _namespaces(path.name)},
            "mounts": [line for line in mounts if any(each in line for each in ours)],
            "folders": [path.name for path in self.temporary.iterdir() if not STAYS.fullmatch(path.name)],
        }
        return {kind: each for kind, each in left.items() if each}


def _namespaces(pid: int | str) -> set[str]:
    found = set()
    for kind in KINDS:
        with suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def resumed(bench: Bench, *arguments: str) -> Underway:
    """Go on with the run, to its end, whatever came out; what was recorded before is still there, byte by byte."""
    (journal,) = bench.pytester.path.glob("results/*/records.jsonl")
    before = journal.read_bytes()
    again = Underway(bench, "--cb-resume=latest", *arguments)
    said = again.ended()
    assert again.process.returncode in (0, 1), said
    assert journal.read_bytes().startswith(before)
    return again


def assert_each_round_once(run: Underway, rounds: int, *cells: str) -> None:
    """All rounds of all cells, each once, and nothing unreadable in the journal."""
    assert {(cell, index): 1 for cell in cells for index in range(rounds)} == dict(
        Counter((str(round_.cell), round_.index) for round_ in run.rounds())
    )
    assert run.journal is not None
    assert () == read_journal(run.journal).problems
