"""The one process a local cluster lives in: when its standard input closes, the cluster is gone."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_codexbench.agent.hindrances import groups, remove_group
from pytest_codexbench.backends.network import Bridge, Seat, entered, host
from pytest_codexbench.errors import NotReady

FOLDERS = "codexbench-*"
LOCK = "warden.lock"
MARK = "CODEXBENCH_FOLDER"
GRACE_S = 2.0
KILL_S = 5.0
LOOK_S = 0.05
TRIAL_S = 10.0
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """A program to run at a seat, or on the bridge itself where ``seat`` is None.

    ``{address}`` in ``argv`` becomes its address; ``env`` comes on top of the warden's own environment.
    """

    name: str
    argv: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    seat: int | None = None

    def __post_init__(self) -> None:
        if not self.argv:
            raise ValueError(f"{self.name} has no program to run")
        if self.seat is not None and self.seat < 0:
            raise ValueError(f"{self.name} sits at {self.seat}; seats count from 0")


@dataclass(frozen=True, slots=True)
class Order:
    """What the caller asks for: the folder that ends with the cluster, and the processes in it."""

    folder: Path
    isolated: bool
    link_bps: int | None
    processes: list[Process]

    def __post_init__(self) -> None:
        if len({process.name for process in self.processes}) < len(self.processes):
            raise ValueError("two processes have one name")
        if self.isolated and os.getpid() != 1:
            # wiring the machine's own network, or killing all of its processes, must not be one wrong call away
            raise ValueError("an isolated warden runs behind the prefix that network.isolation() gives")

    @classmethod
    def parse(cls, line: bytes) -> Order:
        """The order in one line of JSON.

        Raises:
            KeyError, TypeError, ValueError: if it is none.
        """
        asked: dict[str, Any] = json.loads(line)
        processes = [Process(**{**each, "log": Path(each["log"])}) for each in asked["processes"]]
        return cls(Path(asked["folder"]).resolve(), bool(asked["isolated"]), asked["link_bps"], processes)


class Caller:
    """Who started the warden: one order comes from standard input, answers go to standard output.

    ``gone`` says that the cluster is to end: input is at its end, or a signal asked for it.
    """

    def __init__(self) -> None:
        self.text = b""
        self.gone = False
        self._wakeup, wake = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._leave)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def order(self) -> bytes | None:
        """The first line, or None if the caller went away before its end."""
        while b"\n" not in self.text and not self.gone:
            self.wait(None)
        line, end, _ = self.text.partition(b"\n")
        return line if end else None

    def wait(self, timeout_s: float | None) -> None:
        """Returns when the caller said or closed something, a signal came, a child ended, or after ``timeout_s``."""
        sources = [self._wakeup] if self.gone else [self._wakeup, sys.stdin.fileno()]
        ready, _, _ = select.select(sources, [], [], timeout_s)
        if self._wakeup in ready:
            os.read(self._wakeup, 1 << 16)
        if sys.stdin.fileno() in ready:
            more = os.read(sys.stdin.fileno(), 1 << 16)
            self.gone = self.gone or not more
            if b"\n" not in self.text:
                self.text += more

    def tell(self, answer: Mapping[str, object]) -> None:
        """Writes one line; the first may wait to be read, later ones are dropped where nobody reads."""
        text = json.dumps(answer).encode() + b"\n"
        with suppress(BrokenPipeError, BlockingIOError):
            while text:  # a child's end may interrupt a long line
                text = text[os.write(sys.stdout.fileno(), text) :]
        os.set_blocking(sys.stdout.fileno(), False)

    def _leave(self, *_: object) -> None:
        self.gone = True


Children = dict[int, tuple[str, "subprocess.Popen[bytes]"]]


def main() -> int:
    """Reads one order, keeps its cluster up until standard input ends or a signal comes, and leaves nothing behind."""
    caller = Caller()
    line = caller.order()
    if line is None:
        return 0
    try:
        order = Order.parse(line)
        lock = _locked(order.folder)
    except (KeyError, TypeError, ValueError, OSError) as error:
        caller.tell({"error": f"the order cannot be taken: {type(error).__name__}: {error}"})
        return 1

    children: Children = {}
    try:
        with Bridge() if order.isolated else nullcontext() as bridge:
            caller.tell({"ready": {"addresses": _start(order, bridge, children)}})
            while not caller.gone:
                caller.wait(None)
                for name, status in _reaped(children):
                    caller.tell({"exited": {"name": name, "status": status}})
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it was, the caller waits for a line
        caller.tell({"error": f"{type(error).__name__}: {error}"})
        return 1
    finally:
        _end(order, children, caller)
        _remove(order.folder)
        os.close(lock)


def sweep(root: Path) -> list[Path]:
    """Removes the folders below ``root``, with what still runs for them, whose wardens were killed; returns them.

    The folders of living wardens stay, and those that no warden has taken yet.
    """
    return [folder for folder in sorted(root.resolve().glob(FOLDERS)) if _swept(folder)]


def _swept(folder: Path) -> bool:
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            return False
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        deadline = time.monotonic() + KILL_S
        while _kill(_marked(folder)) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        _remove(folder)
        return not folder.exists()
    finally:
        os.close(lock)


def _marked(folder: Path) -> Iterator[int]:
    mark = os.fsencode(f"{MARK}={folder}")
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                yield int(environ.parent.name)


def _locked(folder: Path) -> int:
    # locked before it has its name: a lock file that nobody holds always is that of a dead warden
    lock, new = tempfile.mkstemp(prefix=LOCK, dir=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.link(new, folder / LOCK)
    except BaseException:
        os.close(lock)
        raise
    finally:
        Path(new).unlink()
    return lock


def _start(order: Order, bridge: Bridge | None, children: Children) -> dict[str, str]:
    seats: list[Seat] = []
    if bridge is not None:
        taken = [process.seat for process in order.processes if process.seat is not None]
        seats = bridge.seats(max(taken, default=-1) + 1, order.link_bps)
    elif sys.platform == "linux":
        _adopt_orphans()

    prefix = _dying_with_us()
    addresses = {}
    for process in order.processes:
        seat = seats[process.seat] if bridge is not None and process.seat is not None else None
        address = seat.address if seat else bridge.address if bridge else _loopback(process.seat)
        child = _spawn(process, prefix, seat, {MARK: str(order.folder), "CODEXBENCH_ADDRESS": address})
        children[child.pid] = process.name, child
        addresses[process.name] = address
    return addresses


def _adopt_orphans() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _dying_with_us() -> list[str]:
    # tried, because Busybox has a setpriv without it
    prefix = ["setpriv", "--pdeathsig", "KILL", "--"]
    try:
        subprocess.run([*prefix, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return prefix


def _loopback(seat: int | None) -> str:
    # macOS has no other address on its loopback interface
    return f"127.0.{host(seat + 1)}" if seat is not None and sys.platform == "linux" else "127.0.0.1"


def _spawn(process: Process, prefix: list[str], seat: Seat | None, ours: dict[str, str]) -> subprocess.Popen[bytes]:
    argv = [argument.replace("{address}", ours["CODEXBENCH_ADDRESS"]) for argument in process.argv]
    env = {**os.environ, **process.env, **ours}
    program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
    if program is None:
        raise NotReady(f"{process.name} cannot start: there is no program {argv[0]}")

    place: AbstractContextManager[None] = nullcontext()
    passed = []
    if seat is not None:
        # a socket stays in the network namespace it was made in, here the bridge's
        wire = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE).detach()
        env |= {"CODEXBENCH_WIRE_FD": str(wire), "CODEXBENCH_WIRE_PORT": seat.port}
        passed.append(wire)
        place = entered(seat.netns)
    try:
        with process.log.open("ab") as log, place:
            return subprocess.Popen(
                [*prefix, program, *argv[1:]],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                start_new_session=True,
            )
    except OSError as error:
        raise NotReady(f"{process.name} cannot start: {error}") from error
    finally:
        for descriptor in passed:
            os.close(descriptor)


def _end(order: Order, children: Children, caller: Caller) -> None:
    groups = [-child for child in children]
    _kill(children, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    _reaped(children)
    while children and time.monotonic() < deadline:
        caller.wait(max(0.0, deadline - time.monotonic()))
        _reaped(children)

    # what the kernel does not let go of by then (a hung disk) must not hold up the caller
    deadline = time.monotonic() + KILL_S
    while time.monotonic() < deadline:
        if order.isolated:
            _kill([-1])  # everything in the cluster's process namespace but this, its process 1
        else:
            _kill(_descendants() if sys.platform == "linux" else groups)
        _reaped(children)
        if _alone():
            return
        caller.wait(LOOK_S)


def _kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> int:
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            killed += 1
    return killed


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # the second word after the program's name, which is in brackets and may hold some itself
            parents[int(status.parent.name)] = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {os.getpid()})


def _reaped(children: Children) -> list[tuple[str, int]]:
    ended = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid in children:
                name, child = children.pop(pid)
                child.returncode = os.waitstatus_to_exitcode(status)
                ended.append((name, child.returncode))
    return ended


def _alone() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _remove(folder: Path) -> None:
    _let_go(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # a system may have made a folder that even its owner cannot write to
        for place, folders, _ in os.walk(folder):
            for path in (Path(place, name) for name in folders):
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _let_go(folder: Path) -> None:
    """What held nodes back goes first: a folder with a disk of its own in it cannot be removed."""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            place = line.split()[4]
            if place.startswith(f"{folder}/"):
                subprocess.run(["umount", "-l", place], stdin=subprocess.DEVNULL, timeout=TRIAL_S, check=False)
    for group in groups():
        if group.name.startswith(f"{folder.name}-"):
            remove_group(group)


if __name__ == "__main__":
    sys.exit(main())
