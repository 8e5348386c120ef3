"""The processes of a cluster, as the machine sees them: all those in its control group."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.places import CGROUP, CGROUPS, STATE, node_name
from cluster.progress import Failed

HIERARCHY = "pids"
"""The one that is asked who is a member. Containers are in all of them, everything else in this one alone."""
GONE_S = 60.0
LOOK_S = 0.05


def hierarchies() -> list[Path]:
    """Where version 1 of control groups is mounted.

    Raises:
        Failed: if it is not: kubelet and runc are set up for nothing else here.
    """
    found = [
        path.parent
        for path in sorted(CGROUPS.glob("*/cgroup.procs"))
        if not (path.parent / "cgroup.controllers").exists()
    ]
    if HIERARCHY not in {path.name for path in found}:
        raise Failed(
            f"{CGROUPS}/{HIERARCHY} is not there: the cluster takes version 1 of control groups, mounted as usual"
        )
    return found


def make_group(name: str) -> None:
    """A control group below the cluster's, in every hierarchy: kubelet insists on finding its own in each."""
    for hierarchy in hierarchies():
        folder = hierarchy
        for step in (CGROUP, name):
            folder /= step
            folder.mkdir(exist_ok=True)
            # a new cpuset is empty, and takes no process in
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (folder / setting).exists():
                    (folder / setting).write_text((folder.parent / setting).read_text())


def spawn(group: str, argv: Sequence[str], log: Path) -> None:
    """Start a member that outlives this process."""
    procs = CGROUPS / HIERARCHY / CGROUP / group / "cgroup.procs"
    # It joins before it is the program, so that there is no moment at which `down` would miss it.
    join = ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(procs), *argv]
    with log.open("ab") as output:
        subprocess.Popen(join, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def members(group: str = "") -> Iterator[int]:
    """The process ids of all in a group, and in those below it."""
    for procs in (CGROUPS / HIERARCHY / CGROUP / group).glob("**/cgroup.procs"):
        # a group may go while it is looked at
        with suppress(FileNotFoundError, OSError):
            yield from map(int, procs.read_text().split())


def nodes() -> list[int]:
    """The nodes that the cluster was brought up with, whether they still run or not."""
    return sorted(int(path.name.removeprefix("node")) for path in STATE.glob("node[0-9]*"))


def first(node: int) -> int | None:
    """The process 1 of a node, by the number that the machine knows it by; None if it does not run."""
    for pid in members(node_name(node)):
        with suppress(FileNotFoundError, ProcessLookupError):
            line = next(
                line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:")
            )
            # the machine's number, then the node's; the first process of a container has three
            if line.split()[2:] == ["1"]:
                return pid
    return None


def running(group: str, program: str) -> list[int]:
    """The members that run a program of this name."""
    found = []
    for pid in members(group):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])).name == program:
                found.append(pid)
    return found


def end(group: str = "") -> None:
    """End all in a group, and wait until they are gone.

    Raises:
        Failed: if some do not go.
    """
    deadline = time.monotonic() + GONE_S
    while pids := list(members(group)):
        if time.monotonic() > deadline:
            raise Failed(f"still there {GONE_S:g} s after kill -9: processes {pids}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def remove_groups() -> None:
    """Remove the control groups, which must be empty.

    Raises:
        Failed: if the kernel keeps one.
    """
    deadline = time.monotonic() + GONE_S
    while left := [path for path in CGROUPS.glob(f"*/{CGROUP}") if not _removed(path)]:
        if time.monotonic() > deadline:
            raise Failed(f"the kernel keeps these control groups: {', '.join(map(str, left))}")
        time.sleep(LOOK_S)


def _removed(group: Path) -> bool:
    folders = [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
    return not group.exists()
