"""An agent beside a program that others started, in one process namespace, as in a Pod."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from pytest_codexbench.agent import neighbour
from pytest_codexbench.agent.neighbour import Neighbour
from pytest_codexbench.errors import NotReady
from pytest_codexbench.systems import Command

APART = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]

WATCHER = """
import json, sys
from pathlib import Path
from pytest_codexbench.agent.neighbour import Neighbour

node = Neighbour()
print(json.dumps([node.running, node.state(), node.usage() is None]), flush=True)
node.start(lambda: None, Path("."))
print(json.dumps([node.running, node.state(), node.usage().rss_peak_bytes, node.reset_peak()]), flush=True)
sys.stdin.readline()
print(json.dumps([node.gone(20), node.running, node.state(), node.usage() is None]), flush=True)
"""


def _refused() -> bool:
    if shutil.which("nsenter") is None or shutil.which("unshare") is None:
        return True
    return subprocess.run([*APART, "true"], capture_output=True, check=False).returncode != 0


@pytest.fixture
def pod() -> Iterator[list[str]]:
    """A process namespace with a first process of its own: how to start a container's program in it."""
    if _refused():
        pytest.skip("process namespaces are not allowed here")
    with subprocess.Popen([*APART, "sh", "-c", "echo up; exec sleep 120"], stdout=subprocess.PIPE) as pause:
        assert pause.stdout is not None
        assert b"up\n" == pause.stdout.readline()
        first = Path(f"/proc/{pause.pid}/task/{pause.pid}/children").read_text().split()[0]
        yield ["nsenter", "--target", first, "--user", "--pid", "--mount", "--preserve-credentials"]
        pause.kill()


def _answer(output: IO[bytes]) -> list[object]:
    line = output.readline()
    answer: list[object] = json.loads(line)
    return answer


def test_the_program_beside_is_found_measured_and_missed(pod: list[str]) -> None:
    """Of all that shares the namespace only the other container's program is the node; its end is seen."""
    node = subprocess.Popen([*pod, sys.executable, "-c", "import time; x = bytearray(50_000_000); time.sleep(120)"])
    watcher = subprocess.Popen([*pod, sys.executable, "-c", WATCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with watcher, node:
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        assert [False, "was never seen", True] == _answer(watcher.stdout)
        running, state, peak, reset = _answer(watcher.stdout)
        for child in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
            subprocess.run(["kill", "-KILL", child], check=True)
        watcher.stdin.write(b"\n")
        watcher.stdin.flush()

        assert [True, "runs", True] == [running, state, reset]
        assert isinstance(peak, int)
        assert peak > 1_000_000
        assert [True, False, "ended", True] == _answer(watcher.stdout)


def test_a_container_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for it has an end."""
    monkeypatch.setattr(neighbour, "APPEAR_S", 0.1)
    monkeypatch.setattr(neighbour, "_beside", lambda: None)

    with pytest.raises(NotReady, match=r"no program runs in the container beside the agent after 0\.1 s"):
        Neighbour().start(lambda: Command(()), Path())
