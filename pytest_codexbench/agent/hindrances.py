"""What holds one node back: packets that are lost, a cut link, a bounded processor, a small disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pytest_codexbench.agent.wire import DEVICE
from pytest_codexbench.disturbances import DISK, NETWORK, PROCESSOR
from pytest_codexbench.errors import AgentError

ELSEWHERE = ":/usr/sbin:/sbin"
RUN_S = 10.0
TABLE = "codexbench"
CGROUPS = Path("/sys/fs/cgroup")
GROUP = "codexbench-"
PERIOD_US = 100_000
# With offload 1 % of the packets would be 1 % of bundles of up to 64 kB.
ALONE, BUNDLED = "gso_max_segs 1", "gso_max_segs 65535"

_HOOKS = f"""
add table netdev {TABLE}
add chain netdev {TABLE} in {{ type filter hook ingress device "{DEVICE}" priority 0; }}
add chain netdev {TABLE} out {{ type filter hook egress device "{DEVICE}" priority 0; }}
"""


def lose(percent: int) -> None:
    """Lose so many of 100 packets that come to this network namespace.

    Raises:
        AgentError: if the kernel refuses it.
    """
    _ran("ip", "link", "set", DEVICE, *ALONE.split())
    rule = f"add rule netdev {TABLE} in numgen random mod 100 < {percent} counter drop\n"
    _ran("nft", "-f", "-", text=_HOOKS + rule)


def cut() -> None:
    """Let no packet in or out any more.

    Raises:
        AgentError: if the kernel refuses it.
    """
    rules = "".join(f"add rule netdev {TABLE} {way} counter drop\n" for way in ("in", "out"))
    _ran("nft", "-f", "-", text=_HOOKS + rules)


def mend() -> None:
    """Lose nothing more; no error if nothing was lost."""
    if _program("nft") and rules() is not None:
        _ran("nft", "delete", "table", "netdev", TABLE)
    if _program("ip"):
        with suppress(AgentError):  # without a link of its own there is nothing to mend
            _ran("ip", "link", "set", DEVICE, *BUNDLED.split())


def rules() -> tuple[bool, int] | None:
    """Whether packets go out, and how many were dropped; None where nothing holds any back."""
    try:
        told = json.loads(_ran("nft", "-j", "list", "table", "netdev", TABLE))
    except AgentError:
        return None
    chains = {one["rule"]["chain"]: one["rule"]["expr"] for one in told["nftables"] if "rule" in one}
    counters = [part["counter"] for rule in chains.values() for part in rule if "counter" in part]
    return "out" not in chains, sum(counter["packets"] for counter in counters)


class Processor:
    """A control group of one node's processes; ``name`` is like no other on this machine."""

    def __init__(self, name: str, root: Path = CGROUPS) -> None:
        self._name, self._root = name, root
        self._folder: Path | None = None

    def limit(self, share: float, pids: Iterable[int]) -> None:
        """Give these processes no more than ``share`` of one processor together.

        Raises:
            AgentError: if no group can be made, with the reason.
        """
        self._folder, trouble = None, "there are no control groups of processors"
        for parent in parents(self._root):
            folder = parent / self._name
            try:
                folder.mkdir(exist_ok=True)
                _bounded(folder, int(share * PERIOD_US))
                for pid in pids:
                    (folder / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                trouble = f"{folder}: {error.strerror}"
                with suppress(OSError):
                    folder.rmdir()
                continue
            self._folder = folder
            return
        raise AgentError(f"the processor cannot be limited here: {trouble}")

    def seen(self, pids: Iterable[int]) -> Mapping[str, float]:
        """The share that is written there, if all of these processes are in it, and how often it held them back."""
        if self._folder is None:
            return {}
        try:
            inside = {int(line) for line in (self._folder / "cgroup.procs").read_text().split()}
            if not set(pids) <= inside:
                return {}
            stat = dict(line.split() for line in (self._folder / "cpu.stat").read_text().splitlines())
            return {"processor_share": _bound(self._folder) / PERIOD_US, "throttled": float(stat["nr_throttled"])}
        except (OSError, ValueError, KeyError):
            return {}

    def free(self) -> None:
        """Remove the group; its processes go to the one above it."""
        if self._folder is not None:
            remove_group(self._folder)
            self._folder = None


def parents(root: Path = CGROUPS) -> Iterator[Path]:
    """Where a group with a bound of the processor may be made: version 1's folder, or version 2's from here upwards."""
    if (root / "cpu" / "cpu.cfs_quota_us").exists() or (root / "cpu" / "cgroup.procs").exists():
        yield root / "cpu"
        return
    own = next((line for line in _lines(Path("/proc/self/cgroup")) if line.startswith("0::")), "0::/")
    here = root / own.removeprefix("0::").strip("/")
    for folder in (here, *here.parents):
        if "cpu" in " ".join(_lines(folder / "cgroup.subtree_control")).split():
            yield folder
        if folder == root:
            return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _bounded(folder: Path, quota_us: int) -> None:
    if (folder / "cpu.cfs_quota_us").exists():
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    else:
        (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")


def _bound(folder: Path) -> float:
    one = folder / "cpu.cfs_quota_us"
    return float((one if one.exists() else folder / "cpu.max").read_text().split()[0])


def remove_group(folder: Path) -> bool:
    """Remove a group whose processes may live on in the one above it; whether it is gone."""
    with suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def groups(root: Path = CGROUPS) -> list[Path]:
    """Groups of nodes of any run that are on this machine."""
    return [folder for parent in parents(root) for folder in sorted(parent.glob(f"{GROUP}*")) if folder.is_dir()]


def confine(folder: Path, size: int) -> None:
    """Put what is in ``folder`` on a disk of ``size`` bytes; nothing in it may be open.

    Raises:
        AgentError: if the kernel refuses it.
    """
    small = folder.with_name(f"{folder.name}.small")
    small.mkdir(exist_ok=True)
    _ran("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "codexbench", str(small))
    try:
        shutil.copytree(folder, small, symlinks=True, dirs_exist_ok=True, ignore=_no_sockets)
        _ran("mount", "--move", str(small), str(folder))
    except (OSError, shutil.Error) as error:
        _ran("umount", str(small))
        raise AgentError(f"{folder} could not be put on a disk of {size} bytes: {error}") from error
    small.rmdir()


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


def why_not(asked: str, prefix: list[str] | None) -> str | None:
    """Why this machine cannot hold a node back so; None if it can.

    ``prefix`` is the command that puts a program into namespaces of its own; None where there are none.
    """
    if prefix is None:
        return f"nodes have no namespaces of their own here, so no {_thing(asked)} of one of them can be held back"
    if asked == PROCESSOR:
        return _tried(_try_processor)
    if asked == NETWORK and _program("nft") is None:
        return "`nft` is not there; install it (on Debian and Ubuntu: apt install nftables)"
    trial = {
        NETWORK: f"{_program('ip')} link add {DEVICE} type veth peer name p0 && {_program('nft')} -f -",
        DISK: "mount -t tmpfs -o size=1m codexbench /mnt",
    }[asked]
    rule = f"add rule netdev {TABLE} in numgen random mod 100 < 1 counter drop\n"
    try:
        _checked([*prefix, "sh", "-ec", trial], _HOOKS + rule)
    except AgentError as error:
        return f"the kernel refuses it ({error}); it takes its modules nf_tables, nft_numgen and tmpfs"
    return None


def _thing(asked: str) -> str:
    return {NETWORK: "packet", PROCESSOR: "processor", DISK: "disk"}[asked]


def _tried(attempt: Callable[[], None]) -> str | None:
    try:
        attempt()
    except AgentError as error:
        return f"{error}; run as root, or in a control group of this user's (systemd-run --user --scope)"
    return None


def _try_processor() -> None:
    if sys.platform != "linux":
        raise AgentError("only Linux has control groups")
    trial = Processor(f"{GROUP}trial-{os.getpid()}")
    trial.limit(0.5, ())
    trial.free()


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ELSEWHERE)


def _ran(name: str, *arguments: str, text: str = "") -> str:
    program = _program(name)
    if program is None:
        raise AgentError(f"`{name}` is not there")
    return _checked([program, *arguments], text)


def _checked(argv: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, errors="replace", timeout=RUN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise AgentError(f"{Path(argv[0]).name}: {' '.join(done.stderr.split()) or f'status {done.returncode}'}")
    return done.stdout
