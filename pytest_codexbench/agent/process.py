"""The node's own process: started, watched, measured, ended."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from pytest_codexbench.errors import NotReady
from pytest_codexbench.programs import FOREIGN, foreign
from pytest_codexbench.rpc import TOKEN_VARIABLE
from pytest_codexbench.systems import Command

TAIL_BYTES = 4000
STOP_S = 10.0


class Program(Protocol):
    """The node's program, started by the agent or found beside it."""

    @property
    def running(self) -> bool:
        """Whether it runs."""

    def start(self, command: Callable[[], Command], folder: Path) -> None:
        """Start it, or find it; raises ``NotReady``."""

    def gone(self, within_s: float) -> bool:
        """Whether it has ended or does so in that time: a broken connection may be seen before its end."""

    def state(self) -> str:
        """What became of it, in words."""

    def tail(self) -> str:
        """The end of its log; empty where somebody else keeps that."""

    def usage(self) -> Usage | None:
        """What it and its children took; None when it is gone."""

    def reset_peak(self) -> bool:
        """Count the peak of memory from now on; whether the kernel allowed it."""

    def kill(self) -> None:
        """End it and its children without warning; it stays away until it is started again."""

    def pids(self) -> list[int]:
        """Its own number and those of its children; empty when it is gone."""

    def stop(self, grace_s: float = STOP_S) -> str:
        """End it, where that is ours to do; how it ended, in words."""

    def serve_starts(self) -> None:
        """Do what only the main thread can, until ``close``."""

    def close(self) -> None:
        """End ``serve_starts``."""


@dataclass(slots=True)
class Usage:
    """What a node's processes took since they were started."""

    cpu_s: float
    rss_peak_bytes: int
    rss_bytes: int = 0
    started_at_s: float = 0.0


class NodeProcess:
    """One node program, which dies with its agent.

    The kernel ends a child when the *thread* that started it ends, so programs are started by the main thread, in
    ``serve_starts``, whoever asks for it.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._wishes: queue.Queue[tuple[Command, Path, queue.Queue[BaseException | None]] | None] = queue.Queue()

    def serve_starts(self) -> None:
        """Start what others ask for, until ``close``."""
        while (wish := self._wishes.get()) is not None:
            command, folder, answer = wish
            try:
                self._start(command, folder)
                answer.put(None)
            except OSError as error:
                answer.put(error)

    def close(self) -> None:
        """End ``serve_starts``."""
        self._wishes.put(None)

    def start(self, command: Callable[[], Command], folder: Path) -> None:
        """Run the program in ``folder``, its output added to the log.

        Raises:
            NotReady: if the system refuses to run it.
        """
        answer: queue.Queue[BaseException | None] = queue.Queue()
        wanted = command()
        self._wishes.put((wanted, folder, answer))
        if error := answer.get():
            raise NotReady(f"{wanted.argv[0]} could not be started: {error}")

    def _start(self, command: Command, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        setpriv = shutil.which("setpriv")
        leash = (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
        # setpriv would report a missing program only in the log
        if (found := shutil.which(command.argv[0])) is None:
            raise OSError(f"{command.argv[0]} is not an executable program")
        if foreign(found):
            raise OSError(f"{command.argv[0]} is {FOREIGN}")
        # programs of others have no business with the run's token
        own = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        env: Mapping[str, str] = {**own, **command.env}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash, *command.argv], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    def gone(self, within_s: float) -> bool:
        """Whether the program has ended or does so in that time: a broken connection may be seen before its end."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(within_s)
        return not self.running

    def state(self) -> str:
        """What became of it, in words."""
        if self._process is None:
            return "was never started"
        status = self._process.poll()
        return "runs" if status is None else ended(status)

    def tail(self) -> str:
        """The end of its log."""
        return tail(self.log)

    def usage(self) -> Usage | None:
        """Processor time and peak of resident memory of the program and its children; None when it is gone."""
        first = self._first()
        return None if first is None else family_usage(first)

    def reset_peak(self) -> bool:
        """Count the peak of memory from now on; whether the kernel allowed it."""
        first = self._first()
        return first is not None and family_reset(first)

    def _first(self) -> psutil.Process | None:
        with suppress(psutil.Error):
            return psutil.Process(self._process.pid) if self._process is not None else None
        return None

    def kill(self) -> None:
        """End it and its children without warning."""
        first = self._first()
        if first is None or self._process is None or not self.running:
            return
        end_family(first)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)

    def pids(self) -> list[int]:
        """Its own number and those of its children; empty when it is gone."""
        first = self._first() if self.running else None
        return pids_of(first) if first is not None else []

    def stop(self, grace_s: float = STOP_S) -> str:
        """End it with SIGTERM, after ``grace_s`` seconds with SIGKILL; how it ended, in words."""
        if self._process is not None and (first := self._first()) and self.running:
            with suppress(psutil.Error):
                family = _family(first)
                self._process.terminate()
                _, left = psutil.wait_procs(family, timeout=grace_s)
                for process in left:
                    process.kill()
            with suppress(subprocess.TimeoutExpired):  # a hung disk holds even a killed process
                self._process.wait(STOP_S)
        return self.state()


def family_usage(first: psutil.Process) -> Usage | None:
    """Processor time and peak of resident memory of a process and its children; None when it is gone."""
    cpu_s, peak, now = 0.0, 0, 0
    try:
        for process in _family(first):
            times = process.cpu_times()
            cpu_s += times.user + times.system
            peak += _peak_of(process)
            now += process.memory_info().rss
        return Usage(cpu_s, peak, now, first.create_time())
    except psutil.Error:
        return None


def end_family(first: psutil.Process) -> None:
    """End a process and its children without warning."""
    with suppress(psutil.Error):
        for process in _family(first):
            with suppress(psutil.Error):
                process.kill()


def pids_of(first: psutil.Process) -> list[int]:
    """The numbers of a process and its children."""
    with suppress(psutil.Error):
        return [process.pid for process in _family(first)]
    return []


def family_reset(first: psutil.Process) -> bool:
    """Count the peak of memory of a process and its children from now on; whether the kernel allowed it."""
    try:
        for process in _family(first):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")
    except (OSError, psutil.Error):
        return False
    return True


def _family(first: psutil.Process) -> list[psutil.Process]:
    return [first, *first.children(recursive=True)]


def _peak_of(process: psutil.Process) -> int:
    """``VmHWM`` in bytes; where the kernel does not tell it, what is resident now."""
    with suppress(OSError, StopIteration):
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


def ended(status: int) -> str:
    """How a process ended, in words; ``status`` is negative for a signal."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def tail(log: Path) -> str:
    """The last lines of a log, 4 kB at most; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
