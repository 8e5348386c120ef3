"""What one node's link carries, in real clusters of small programs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_codexbench.agent.wire import wire_from_env
from pytest_codexbench.backends.network import Isolation, burst_bytes, host, isolation, limit_bytes
from pytest_codexbench.errors import AgentError, WrongInput

PREFIX, WHY_NOT = isolation({})
needs_namespaces = pytest.mark.skipif(not PREFIX, reason=f"no network namespaces: {WHY_NOT}")

MB = 10**6
# Ethernet frames of a TCP stream carry 1448 bytes in 1514.
FRAMING = 1514 / 1448

# `NODE PAYLOAD PEERS TARGET...` sends PAYLOAD bytes to each TARGET, and takes in those of PEERS senders. It says what
# its link carried, how fast that came in (`bps`), and how fast in its best 0.2 s (`best_bps`): the other processes of a
# busy machine make a stream slower, and never make a link faster.
NODE = """
import json, os, socket, sys, threading, time
from pytest_codexbench.agent.wire import wire_from_env

payload, peers, targets = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
wire = wire_from_env()
before = wire.read()
listener = socket.create_server((os.environ["CODEXBENCH_ADDRESS"], 4000), backlog=64)
marks, sizes = [], []

def connected(target):
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((target, 4000), timeout=20)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)

def take(source):
    while chunk := source.recv(1 << 18):
        sizes.append(len(chunk))
        asked, received = time.perf_counter(), wire.read()[0]
        if time.perf_counter() - asked < 0.001:
            marks.append((asked, received))
    source.sendall(b".")

def give(target):
    target.sendall(bytes(payload))
    target.shutdown(socket.SHUT_WR)
    assert target.recv(1) == b"."

outgoing = [connected(target) for target in targets]
incoming = [listener.accept()[0] for _ in range(peers)]
threads = [threading.Thread(target=take, args=[each]) for each in incoming]
threads += [threading.Thread(target=give, args=[each]) for each in outgoing]
[each.start() for each in threads]
[each.join() for each in threads]
after = wire.read()

def bps(start, end):
    return 8 * (end[1] - start[1]) / (end[0] - start[0])

marks.sort()
best, first = 0, 0
for mark in marks:
    while mark[0] - marks[first + 1][0] >= 0.2:
        first += 1
    if mark[0] - marks[first][0] >= 0.2:
        best = max(best, bps(marks[first], mark))
reads = []
for _ in range(100):
    started = time.perf_counter()
    wire.read()
    reads.append(time.perf_counter() - started)
print(json.dumps({
    "payload": sum(sizes),
    "rx": after[0] - before[0],
    "tx": after[1] - before[1],
    "bps": bps(marks[0], marks[-1]) if len(marks) > 1 else 0,
    "best_bps": best,
    "read_s": min(reads),
}))
"""


def cluster(programs: Sequence[Sequence[str]], tmp_path: Path, link_bps: int | None = None) -> list[Any]:
    """What each program, one a node, says before it ends by itself."""
    with tempfile.TemporaryDirectory(prefix="logs-", dir=tmp_path) as logs:
        processes = [
            {"name": f"n{seat:02d}", "argv": [*argv], "env": {}, "log": f"{logs}/{seat}", "seat": seat}
            for seat, argv in enumerate(programs)
        ]
        folder = tempfile.mkdtemp(prefix="codexbench-", dir=tmp_path)
        order = {"folder": folder, "link_bps": link_bps, "isolated": True, "processes": processes}
        command = [*PREFIX, sys.executable, "-m", "pytest_codexbench.backends.warden"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as warden:
            assert warden.stdin is not None
            assert warden.stdout is not None
            warden.stdin.write(json.dumps(order).encode() + b"\n")
            warden.stdin.flush()
            assert "ready" in json.loads(warden.stdout.readline())
            statuses = [json.loads(warden.stdout.readline())["exited"]["status"] for _ in programs]
            warden.stdin.close()
            assert warden.wait(20) == 0
        said = [Path(logs, str(seat)).read_text() for seat in range(len(programs))]
        assert [0] * len(programs) == statuses, said
        return [json.loads(text) for text in said]


def node(payload: int, peers: int, *targets: str) -> list[str]:
    """A node that sends ``payload`` bytes to each target, and receives from as many peers."""
    return [sys.executable, "-c", NODE, str(payload), str(peers), *targets]


def at_best(programs: Sequence[Sequence[str]], tmp_path: Path, link_bps: int) -> list[Any]:
    """What the programs say in the first run where no receiver was starved of processor time, or in the third."""
    for _ in range(3):
        said = cluster(programs, tmp_path, link_bps)
        if all(each["best_bps"] > 0.98 * link_bps for each in said if each["payload"]):
            break
    return said


@needs_namespaces
def test_every_segment_is_counted_with_its_headers(tmp_path: Path) -> None:
    """At full speed, where the kernel hands over 64 kB at once, the headers count, and nothing counts twice.

    A busy machine sends some segments again: they are on the wire, so the upper bound leaves room for them.
    """
    receiver, sender = cluster([node(0, 1), node(20 * MB, 0, "10.0.0.1")], tmp_path)

    assert 20 * MB == receiver["payload"]
    assert 1.04 < receiver["rx"] / receiver["payload"] < 1.25
    assert pytest.approx(sender["rx"] + receiver["rx"], rel=0.01) == sender["tx"] + receiver["tx"]


@needs_namespaces
def test_reading_the_counters_costs_less_than_a_millisecond(tmp_path: Path) -> None:
    """The wire is read at the start and the end of each transfer, and must not be seen in it."""
    receiver, _ = cluster([node(0, 1), node(MB, 0, "10.0.0.1")], tmp_path)

    assert receiver["read_s"] < 0.001


@needs_namespaces
def test_a_limited_link_holds_its_rate_both_ways_at_once(tmp_path: Path) -> None:
    """Two nodes that send each other 20 MB over 100 Mbit/s receive 100 Mbit/s of frames each."""
    programs = [node(20 * MB, 1, "10.0.0.2"), node(20 * MB, 1, "10.0.0.1")]
    both = at_best(programs, tmp_path, link_bps=100 * MB)

    assert pytest.approx([100 * MB, 100 * MB], rel=0.02) == [each["best_bps"] for each in both]
    assert max(each["bps"] for each in both) < 102 * MB


@needs_namespaces
def test_a_receiver_gets_no_more_than_its_link_from_many_senders(tmp_path: Path) -> None:
    """Four senders with 100 Mbit/s each fill the one link of 100 Mbit/s to the receiver, and no more."""
    senders = [node(5 * MB, 0, "10.0.0.1")] * 4
    receiver = at_best([node(0, 4), *senders], tmp_path, link_bps=100 * MB)[0]

    assert pytest.approx(100 * MB, rel=0.02) == receiver["best_bps"]
    assert receiver["bps"] < 102 * MB
    assert pytest.approx(20 * MB * FRAMING, rel=0.01) == receiver["rx"]


@needs_namespaces
def test_a_node_sees_its_own_link_and_no_ipv6_on_it(tmp_path: Path) -> None:
    """A node has its loopback and one link; nothing announces itself on that, as it would be counted as the node's."""
    look = "import json, os, socket; print(json.dumps([[n for _, n in socket.if_nameindex()], open({!r}).read()]))"
    program = [sys.executable, "-c", look.format("/proc/net/if_inet6")]
    [[interfaces, ipv6]] = cluster([program], tmp_path)

    assert {"lo", "eth0"} <= {*interfaces}
    assert "eth0" not in ipv6
    assert "10.0." not in subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout


def test_addresses_count_up_and_skip_what_is_no_host() -> None:
    """No address ends in .0 or .255, and none is that of the bridge."""
    assert ["0.1", "0.2", "0.254", "1.1"] == [host(index) for index in (0, 1, 253, 254)]


def test_burst_is_a_thousandth_of_the_smallest_file_for_its_rate() -> None:
    """The burst is 16 kB where that holds the rate, and 100 kB, a thousandth of 100 MB, at 500 Mbit/s."""
    assert [16_384, 20_000, 100_000] == [burst_bytes(mbit * MB) for mbit in (10, 100, 500)]


def test_a_queue_holds_ten_frames_at_least() -> None:
    """A slow link still takes a window of packets; a fast one queues for 50 ms."""
    assert [15_140, 625_000] == [limit_bytes(rate) for rate in (MB, 100 * MB)]


def test_loopback_can_be_asked_for() -> None:
    """The reason for the shared loopback interface names the variable that asked for it."""
    prefix, reason = isolation({"CODEXBENCH_ISOLATION": Isolation.loopback})

    assert [] == prefix
    assert reason is not None
    assert "CODEXBENCH_ISOLATION=loopback" in reason


def test_an_unknown_isolation_is_refused() -> None:
    """A misspelt wish is an error, never a silent fallback."""
    with pytest.raises(WrongInput, match="CODEXBENCH_ISOLATION=docker"):
        isolation({"CODEXBENCH_ISOLATION": "docker"})


def test_a_missing_program_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks iproute2 learns that it is iproute2."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("pytest_codexbench.backends.network.ELSEWHERE", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "unshare"
    program.touch(mode=0o755)

    assert ([], "`ip` is not there; install it (on Debian and Ubuntu: apt install iproute2)") == isolation({})


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's refusals")
def test_a_refusal_is_told_in_the_kernels_words_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where namespaces are refused, the reason quotes the refusal and says what would allow them."""
    for name in ("unshare", "ip", "tc"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    prefix, reason = isolation({})

    assert [] == prefix
    assert reason is not None
    assert "unshare: Operation not permitted" in reason
    assert "sysctl -w" in reason or "--privileged" in reason


def test_without_a_link_of_its_own_a_node_has_no_wire() -> None:
    """On the shared loopback interface bytes are not counted, rather than counted wrongly."""
    assert wire_from_env({}) is None


def test_a_wire_that_is_not_there_is_told() -> None:
    """A descriptor that is no socket is an error that names it."""
    with pytest.raises(AgentError, match="CODEXBENCH_WIRE_FD=987"):
        wire_from_env({"CODEXBENCH_WIRE_FD": "987", "CODEXBENCH_WIRE_PORT": "p00"})
