"""The network of a local cluster: each node in a namespace of its own, on one bridge, its link counted at both ends."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from pytest_codexbench.errors import NotReady, WrongInput

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"

APART = ["--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
AS_A_USER = ["--user", "--map-root-user"]
# where Debian keeps tc, out of an ordinary user's PATH
ELSEWHERE = ":/usr/sbin:/sbin"
TRIAL_S = 10.0
WIRING_S = 30.0

BRIDGE = "br0"
BRIDGE_ADDRESS = "10.0.255.254"
BRIDGE_MAC = "02:cb:00:00:00:01"
MOST_SEATS = 1000
FRAME = 1514
LEAST_BURST = 16_384


class Isolation(StrEnum):
    """What keeps the nodes of a local cluster apart."""

    namespaces = "namespaces"
    loopback = "loopback"


def isolation(environ: Mapping[str, str] = os.environ) -> tuple[list[str], str | None]:
    """The command line prefix that puts a program in a cluster of its own, or why there is none and the way out.

    The prefix is tried by really running it, so this takes some hundredths of a second. An empty prefix comes with the
    reason; ``CODEXBENCH_ISOLATION=loopback`` asks for that.

    Raises:
        WrongInput: if ``CODEXBENCH_ISOLATION`` is neither ``namespaces`` nor ``loopback``.
    """
    wanted = environ.get("CODEXBENCH_ISOLATION") or Isolation.namespaces
    if wanted not in list(Isolation):
        raise WrongInput(f"CODEXBENCH_ISOLATION={wanted} is not understood; write namespaces or loopback")
    if wanted == Isolation.loopback:
        return [], "CODEXBENCH_ISOLATION=loopback asks for nodes on 127.0.0.x; unset it for network namespaces"
    if sys.platform != "linux":
        return [], f"{sys.platform} has no network namespaces; run on Linux, or in a Linux container or machine"
    for program, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("tc", "iproute2")):
        if _found(program) is None:
            return [], f"`{program}` is not there; install it (on Debian and Ubuntu: apt install {package})"

    reason = ""
    # an ordinary user's way comes first for root too: then both run, and are tested, the same way
    for options in (AS_A_USER, []) if os.geteuid() == 0 else (AS_A_USER,):
        prefix = [_program("unshare"), *options, *APART]
        refusal = _refusal([*prefix, "true"])
        if refusal is not None:
            reason = reason or f"namespaces are refused here ({refusal}); {_way_out()}"
            continue
        refusal = _refusal([*prefix, "sh", "-ec", _TRIAL, _program("ip"), _program("tc")])
        if refusal is not None:
            reason = f"a bridge of shaped links is refused here ({refusal}); it takes the kernel's modules {_MODULES}"
            continue
        return prefix, None
    return [], reason


_MODULES = "bridge, veth, sch_tbf and sch_fifo"
_TRIAL = """
"$0" link add br0 type bridge
"$0" link add p00 type veth peer name eth0
"$1" qdisc replace dev p00 root pfifo limit 10
"$1" qdisc replace dev eth0 root tbf rate 1mbit burst 16384 limit 16384
"""


def _refusal(command: Sequence[str]) -> str | None:
    try:
        run = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TRIAL_S:g} s"
    except OSError as error:
        return str(error)
    if run.returncode == 0:
        return None
    return " ".join(run.stderr.split()) or f"exit status {run.returncode}"


def _way_out() -> str:
    for setting, blocks, frees in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "10000"),
        ("user/max_net_namespaces", "0", "10000"),
    ):
        with suppress(OSError):
            if Path("/proc/sys", setting).read_text().strip() == blocks:
                return f"to allow them: sysctl -w {setting.replace('/', '.')}={frees}"
    return "in a Docker container they need --privileged, elsewhere user namespaces or root"


def _found(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ELSEWHERE)


def _program(name: str) -> str:
    path = _found(name)
    if path is None:
        raise NotReady(f"`{name}` is not there")
    return path


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a node sits: its namespace has ``eth0`` with ``address``, whose other end is ``port`` on the bridge.

    ``netns`` is a file descriptor, good until the bridge is left.
    """

    index: int
    address: str
    netns: int
    port: str


class Bridge:
    """The switch of a cluster, in the network namespace of who makes it, which must be the cluster's own.

    It goes with that namespace; leaving the ``with`` only lets go of the seats.

    Raises:
        NotReady: if the kernel refuses it.
    """

    address = BRIDGE_ADDRESS

    def __init__(self) -> None:
        self._namespaces: list[int] = []
        _quiet()
        _batch(
            "ip",
            [
                "link set lo up",
                # with a MAC of its own the bridge keeps it while ports join
                f"link add {BRIDGE} address {BRIDGE_MAC} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"addr add {BRIDGE_ADDRESS}/16 dev {BRIDGE}",
                f"link set {BRIDGE} up",
            ],
        )

    def seats(self, count: int, link_bps: int | None) -> list[Seat]:
        """As many new seats, numbered from 0, each direction of each link limited to ``link_bps`` bits a second.

        The rate is that of Ethernet frames: 1448 of 1514 bytes in each are TCP payload.

        Raises:
            NotReady: if the kernel refuses one.
        """
        if not 0 <= count <= MOST_SEATS:
            raise NotReady(f"{count} nodes on one bridge; at most {MOST_SEATS} will do")

        seats = [Seat(index, f"10.0.{host(index)}", self._namespace(), f"p{index:02d}") for index in range(count)]
        _batch(
            "ip",
            [
                f"link add {seat.port} up master {BRIDGE} type veth peer name eth0 netns /proc/self/fd/{seat.netns}"
                for seat in seats
            ],
            [seat.netns for seat in seats],
        )
        queue = _queue(link_bps)
        _batch("tc", [f"qdisc replace dev {seat.port} root {queue}" for seat in seats])
        for seat in seats:
            with entered(seat.netns):
                _batch("ip", ["link set lo up", f"addr add {seat.address}/16 dev eth0", "link set eth0 up"])
                _batch("tc", [f"qdisc replace dev eth0 root {queue}"])
        return seats

    def __enter__(self) -> Bridge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._namespaces:
            os.close(self._namespaces.pop())

    def _namespace(self) -> int:
        home = os.open(HERE, os.O_RDONLY)
        try:
            _call("unshare", CLONE_NEWNET)
            try:
                self._namespaces.append(os.open(HERE, os.O_RDONLY))
                _quiet()
            finally:
                _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)
        return self._namespaces[-1]


def host(index: int) -> str:
    """The last two numbers of the address with this index: ``0.1``, ``0.2`` ... ``0.254``, ``1.1``."""
    high, low = divmod(index, 254)
    return f"{high}.{low + 1}"


@contextmanager
def entered(netns: int) -> Iterator[None]:
    """Inside, the calling thread is in that network namespace: sockets and processes made there live in it."""
    home = os.open(HERE, os.O_RDONLY)
    try:
        _call("setns", netns, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


def _queue(link_bps: int | None) -> str:
    if link_bps is None:
        # not the default noqueue, which counts nothing; a fifo counts each segment's headers
        return "pfifo limit 1000"
    return f"tbf rate {link_bps}bit burst {burst_bytes(link_bps)} limit {limit_bytes(link_bps)}"


def burst_bytes(link_bps: int) -> int:
    """How many bytes a shaped link may send at once: what passes in 1.6 ms, and at least 16 kB."""
    # The least that outlasts the lateness of a busy machine's timer: tokens that do not fit are lost rate. A TCP stream
    # on two shared cores, median of rate reached / rate set over 3 to 9 runs, the worse of BBR and CUBIC:
    #   16 kB:  0.920 at 500 Mbit/s, 0.999 at 200, 1.001 at 100; 64 kB: 0.987 at 500 Mbit/s
    #   1.6 ms: 0.996 at 100 Mbit/s, 1.001 at 200, 1.000 at 500; 0.985 at 1 Gbit/s, where 2 ms reached 0.999
    return max(LEAST_BURST, link_bps // 8 * 16 // 10_000)


def limit_bytes(link_bps: int) -> int:
    """How many bytes may wait for a shaped link: what passes in 50 ms, and at least ten full frames."""
    # 15 senders into one link at 10, 100 and 500 Mbit/s keep it 99.6 % full or better with 50 ms; with 30 ms BBR left
    # 3 % of 500 unused and sent more of it twice. One sender alone queues for 2 to 10 ms at 100 Mbit/s either way.
    return max(10 * FRAME, link_bps // 8 * 50 // 1000)


def _quiet() -> None:
    for setting, value in (
        # router solicitations would be counted with the node's bytes; lo keeps ::1
        ("ipv6/conf/default/disable_ipv6", "1"),
        # what TCP learnt of a peer in one round is not to help it in the next one
        ("ipv4/tcp_no_metrics_save", "1"),
        # the host's firewall module looks at each bridged frame otherwise
        ("bridge/bridge-nf-call-iptables", "0"),
        ("bridge/bridge-nf-call-ip6tables", "0"),
        ("bridge/bridge-nf-call-arptables", "0"),
    ):
        # these are the namespace's own; one that is not there, or read-only in a container, does no harm
        with suppress(OSError):
            Path("/proc/sys/net", setting).write_text(value)


def _batch(program: str, lines: Sequence[str], descriptors: Sequence[int] = ()) -> None:
    command = [_program(program), "-batch", "-"]
    try:
        run = subprocess.run(
            command,
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=WIRING_S,
            check=False,
            pass_fds=descriptors,
        )
    except subprocess.TimeoutExpired as error:
        raise NotReady(f"`{program} -batch` was not done with {len(lines)} lines within {WIRING_S:g} s") from error
    if run.returncode != 0:
        raise NotReady(f"`{program} -batch` refused {lines[0]!r} or a line after it: {' '.join(run.stderr.split())}")


def _call(name: str, *arguments: int) -> None:
    # os.unshare and os.setns came with Python 3.12
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
