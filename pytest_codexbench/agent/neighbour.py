"""The node's program where others started it, in another container of the same Pod: found, measured, not ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from pytest_codexbench.agent.process import Usage, end_family, family_reset, family_usage, pids_of
from pytest_codexbench.errors import NotReady
from pytest_codexbench.systems import Command

APPEAR_S = 60.0
LOOK_S = 0.05


class Neighbour:
    """One node program that shares the agent's process namespace; its log is the container's, which the cluster keeps.

    A program that ends is not looked for again: its container may start anew, but what it had is lost to the round.
    """

    def __init__(self) -> None:
        self._process: psutil.Process | None = None
        self._away: tuple[threading.Event, threading.Thread] | None = None

    def serve_starts(self) -> None:
        """Wait to be ended: there is nothing to start."""
        while True:
            time.sleep(3600)

    def close(self) -> None:
        """End ``serve_starts``."""
        raise SystemExit(0)

    def start(self, command: Callable[[], Command], folder: Path) -> None:
        """Find the program.

        Raises:
            NotReady: if its container does not start in time.
        """
        if self._away is not None:
            over, keeper = self._away
            over.set()
            keeper.join()
            self._away = None
        end = time.monotonic() + APPEAR_S
        while (found := _beside()) is None:
            if time.monotonic() > end:
                raise NotReady(f"no program runs in the container beside the agent after {APPEAR_S:g} s")
            time.sleep(LOOK_S)
        self._process = found

    @property
    def running(self) -> bool:
        """Whether it is the program that was found, and runs."""
        return self._process is not None and self._process.is_running() and not _dead(self._process)

    def gone(self, within_s: float) -> bool:
        """Whether it has ended or does so in that time."""
        end = time.monotonic() + within_s
        while self.running and time.monotonic() < end:
            time.sleep(LOOK_S)
        return not self.running

    def state(self) -> str:
        """What became of it, in words; how it ended, the cluster knows."""
        if self._process is None:
            return "was never seen"
        return "runs" if self.running else "ended"

    def tail(self) -> str:
        """Nothing: its log is the container's."""
        return ""

    def usage(self) -> Usage | None:
        """Processor time and peak of resident memory of the program and its children; None when it is gone."""
        return family_usage(self._process) if self._process is not None else None

    def reset_peak(self) -> bool:
        """Count the peak of memory from now on; whether the kernel allowed it."""
        return self._process is not None and family_reset(self._process)

    def kill(self) -> None:
        """End it without warning, and whatever its container starts in its place, until ``start``."""
        over = threading.Event()
        keeper = threading.Thread(target=_keep_away, args=(over,), name="away", daemon=True)
        self._away = over, keeper
        keeper.start()
        self.gone(within_s=APPEAR_S)

    def pids(self) -> list[int]:
        """Its own number and those of its children; empty when it is gone."""
        return pids_of(self._process) if self._process is not None and self.running else []

    def stop(self, grace_s: float = 0.0) -> str:
        """Leave it to the cluster."""
        return self.state()


def _beside() -> psutil.Process | None:
    """The first process of the other container: without a parent here, and neither the Pod's own nor ours."""
    own = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.ppid() == 0 and process.pid != 1 and process.pid not in own and not _dead(process):
                return process
    return None


def _keep_away(over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        if (found := _beside()) is not None:
            end_family(found)


def _dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
