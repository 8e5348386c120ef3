"""What holds nodes back, and that nothing of it outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_codexbench.agent.hindrances import GROUP, Processor, groups, parents, remove_group, why_not
from pytest_codexbench.backends.local import Local
from pytest_codexbench.backends.warden import LOCK, sweep
from pytest_codexbench.disturbances import DISK, NETWORK, PROCESSOR
from pytest_codexbench.errors import AgentError

LIVES = """
import sys
from pathlib import Path
from pytest_codexbench.backends.local import Local
from pytest_codexbench.matrix import BUILT_IN, Shape

with Local(Path(sys.argv[1]), Path(sys.argv[2])).cluster(Shape(BUILT_IN["http"], 2), lambda text: None, 10**6) as it:
    it.nodes[0].hinder(disk=10**7)
    it.nodes[1].hinder(lose=1, processor=0.5)
    print(it.nodes[0].condition()["disk_bytes"], it.nodes[1].condition()["processor"]["processor_share"], flush=True)
    sys.stdin.read()
"""


def needs(*asked: str) -> None:
    """Skip where this machine cannot hold nodes back so."""
    for each in asked:
        if why := Local(Path()).cannot_upset(each):
            pytest.skip(why)


@pytest.mark.parametrize("how", ["in good order", "killed"])
def test_nothing_is_left_of_a_cluster_that_was_held_back(tmp_path: Path, how: str) -> None:
    """Neither a disk, nor a control group, nor a folder; also if the run was killed, without another one's help."""
    needs(NETWORK, PROCESSOR, DISK)
    root = Path(os.environ.get("TMPDIR", "/tmp")) / f"cbh{os.getpid()}"
    root.mkdir()
    before = groups()
    argv = [sys.executable, "-c", LIVES, str(tmp_path), str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        size, share = process.stdout.readline().split()
        during = groups()
        if how == "killed":
            process.send_signal(signal.SIGKILL)
        elif process.stdin is not None:
            process.stdin.close()
        process.wait(30)
    end = time.monotonic() + 20
    while list(root.iterdir()) and time.monotonic() < end:
        time.sleep(0.1)

    assert 0.95e7 < int(size) < 1.05e7
    assert "0.5" == share
    assert len(before) + 1 == len(during)
    assert [] == list(root.iterdir())
    assert before == groups()
    assert str(root) not in Path("/proc/mounts").read_text()
    root.rmdir()


def test_a_group_of_a_killed_warden_is_swept(tmp_path: Path) -> None:
    """By the next run, with the folder that it belongs to; those of living runs stay."""
    needs(PROCESSOR)
    dead, living = (tmp_path / f"{GROUP}{name}-{os.getpid()}" for name in ("dead", "living"))
    made = [Processor(f"{each.name}-n00") for each in (dead, living)]
    for each, folder in zip(made, (dead, living), strict=True):
        folder.mkdir()
        each.limit(0.5, ())
    (dead / LOCK).touch()
    try:
        swept = sweep(tmp_path)
        left = [group.name for group in groups() if str(os.getpid()) in group.name]
    finally:
        for each in made:
            each.free()

    assert [dead] == swept
    assert [f"{living.name}-n00"] == left


def test_a_process_in_a_group_is_held_back_and_set_free() -> None:
    """A tenth of a processor is what it gets; afterwards the group is gone and it lives on."""
    needs(PROCESSOR)
    group = Processor(f"{GROUP}test-{os.getpid()}")
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            group.limit(0.1, [process.pid])
            begun, used = time.monotonic(), _seconds(process.pid)
            time.sleep(1)
            share = (_seconds(process.pid) - used) / (time.monotonic() - begun)
            seen = group.seen([process.pid])
            group.free()
            alive = process.poll() is None
        finally:
            process.kill()

    assert share < 0.3
    assert 0.1 == seen["processor_share"]
    assert seen["throttled"] > 1
    assert alive
    assert {} == group.seen([process.pid])


def _seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_process_outside_of_its_group_is_seen() -> None:
    """A limit that is written down but holds nobody is none."""
    needs(PROCESSOR)
    group = Processor(f"{GROUP}empty-{os.getpid()}")
    group.limit(0.5, ())
    try:
        assert {} == group.seen([os.getpid()])
    finally:
        group.free()


def test_groups_of_version_two_are_made_where_processors_are_handed_down(tmp_path: Path) -> None:
    """Not in a group that does not hand the controller on: the kernel would have no bound there."""
    (tmp_path / "cgroup.subtree_control").write_text("cpuset cpu memory\n")

    assert [tmp_path] == list(parents(tmp_path))[-1:]
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    assert [] == list(parents(tmp_path))


def test_a_bound_of_version_two_is_written_and_read_back(tmp_path: Path) -> None:
    """As a quota and a period in one line."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    group, folder = Processor("codexbench-two", tmp_path), tmp_path / "codexbench-two"
    group.limit(0.25, [os.getpid()])
    (folder / "cpu.stat").write_text("usage_usec 5\nnr_throttled 7\n")

    assert "25000 100000" == (folder / "cpu.max").read_text()
    assert {"processor_share": 0.25, "throttled": 7.0} == group.seen([os.getpid()])


def test_no_group_where_there_are_none(tmp_path: Path) -> None:
    """The reason is told."""
    with pytest.raises(AgentError, match="there are no control groups of processors"):
        Processor("codexbench-none", tmp_path).limit(0.5, ())

    assert remove_group(tmp_path / "none")


@pytest.mark.parametrize("asked", [NETWORK, PROCESSOR, DISK])
def test_without_namespaces_nobody_is_held_back(asked: str) -> None:
    """It would be the whole machine."""
    assert "nodes have no namespaces of their own here" in (why_not(asked, None) or "")


def test_without_nft_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which package has it."""
    monkeypatch.setattr("pytest_codexbench.agent.hindrances.ELSEWHERE", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "`nft` is not there; install it (on Debian and Ubuntu: apt install nftables)" == why_not(NETWORK, ["true"])
