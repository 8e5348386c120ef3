"""A real Kubernetes under the benchmarks' own runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from benches import LEAN

from pytest_codexbench.progress import FOLDER
from pytest_codexbench.records import Round, Story, read_journal

TESTS = Path(__file__).parent
KUBE = TESTS / "cluster" / "kube"
OURS = dict(os.environ)
"""The environment of whoever runs the tests: pytester has a home of its own, where no cluster was ever built."""
NAMES = ("agent", "runner", "kubo", "double", "gowaku", "victoria")
"""Images that the tests use."""
CELLS = ("test_download.py", "test_upload.py")
"""The benchmarks of cells."""
VICTORIA = "/usr/local/bin/victoria-metrics"
"""Where the image of that name has its program."""
GIVEN = "CODEXBENCH_TEST_IMAGES"
"""For a cluster of one's own: what they are called there, as ``agent=...,runner=...``."""


@dataclass(frozen=True)
class Images:
    """What images are called in the cluster; and for one without a registry, their files."""

    names: Mapping[str, str]
    files: Sequence[Path] = ()

    def __getitem__(self, name: str) -> str:
        if name not in self.names:
            pytest.skip(f"no image {name!r} is given: set {GIVEN}")
        return self.names[name]


@dataclass(frozen=True)
class Kube:
    """A running cluster: the environment for its tools, its images, and whether it is ours to break."""

    env: dict[str, str]
    ours: bool
    images: Images = field(repr=False)

    def kube(self, *arguments: str) -> None:
        """Do something with the cluster itself."""
        if not self.ours:
            pytest.skip("this cluster is not ours to break")
        subprocess.run([KUBE, *arguments], env=OURS, check=True)

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints."""
        done = subprocess.run(["kubectl", *arguments], env=self.env, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def helm(self, *arguments: str) -> str:
        """What helm prints."""
        done = subprocess.run(["helm", *arguments], env=self.env, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def left(self) -> list[str]:
        """Namespaces and leases of runs, and roles of runners, that were not removed."""
        ours = ("-l", "app.kubernetes.io/managed-by=codexbench", "-o", "name")
        part = ("-l", "app.kubernetes.io/part-of=codexbench", "-o", "name")
        return [
            *self.kubectl("get", "namespaces", *ours).split(),
            *self.kubectl("get", "leases", "-n", "default", *ours).split(),
            *self.kubectl("get", "clusterroles,clusterrolebindings,roles,rolebindings", "-A", *part).split(),
        ]

    def swarm(self) -> str:
        """The namespace of the only swarm."""
        (name,) = self.kubectl(
            "get",
            "namespaces",
            "-l",
            "app.kubernetes.io/managed-by=codexbench",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ).split()
        return name


def split(image: str) -> dict[str, str]:
    """An image as the charts' values have it."""
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}


class Machine:
    """The cluster that this machine runs: one at a time, brought up as a test wants it, taken down at the end."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self._up: tuple[str, ...] | None = None
        self._kube: Kube | None = None

    def with_(self, *arguments: str) -> Kube:
        """The cluster that ``kube up`` makes with these arguments."""
        if self._kube is not None and self._up == arguments:
            return self._kube
        self.down()
        done = subprocess.run(
            [KUBE, "up", *arguments, *self.images.files], env=OURS, stdout=subprocess.PIPE, text=True, check=True
        )
        told = re.search(r"export KUBECONFIG=(\S+) PATH=(\S+):\$PATH", done.stdout)
        assert told is not None, done.stdout
        env = {**OURS, "KUBECONFIG": told[1], "PATH": f"{told[2]}:{OURS['PATH']}"}
        self._up, self._kube = arguments, Kube(env, ours=True, images=self.images)
        return self._kube

    def down(self) -> None:
        """Take down what there is, also of a killed session."""
        self._up = self._kube = None
        subprocess.run([KUBE, "down"], env=OURS, check=True)


class Swarms:
    """Runs of the package's own benchmarks on the cluster, in a folder of their own."""

    def __init__(self, pytester: pytest.Pytester, kube: Kube) -> None:
        self.pytester, self.kube = pytester, kube

    def _argv(self, matrix: str, arguments: Sequence[str], tests: Sequence[str] = CELLS) -> list[str]:
        (self.pytester.path / "mine.toml").write_text(matrix, encoding="utf-8")
        where = ["--cb-backend=kubernetes", f"--cb-agent-image={self.kube.images['agent']}"]
        suite = [*(str(TESTS.parent / "tests_bench" / name) for name in tests), "--rootdir", str(self.pytester.path)]
        return [*suite, "--matrix=mine.toml", *where, *LEAN, *arguments]

    def run(self, matrix: str, *arguments: str, tests: Sequence[str] = CELLS) -> pytest.RunResult:
        """Run a matrix, given as the text of its file."""
        return self.pytester.runpytest_subprocess(*self._argv(matrix, arguments, tests))

    @contextmanager
    def running(self, matrix: str, *arguments: str) -> Iterator[Run]:
        """A run that goes on beside the test; it is ended with the block, if it has not by then."""
        run = Run(self, self._argv(matrix, arguments))
        try:
            yield run
        finally:
            run.end()

    @property
    def folder(self) -> Path:
        """That of the only run."""
        (journal,) = (self.pytester.path / "results").glob("*/run.json")
        return journal.parent

    def story(self) -> Story:
        """The journal of the only run."""
        return read_journal(self.folder / "records.jsonl")

    def rounds(self) -> list[Round]:
        """All measured rounds of the only run."""
        return list(self.story().measured())

    def results(self) -> dict[str, Any]:
        """``results.json`` of the only run."""
        document: dict[str, Any] = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        return document


class Run:
    """A pytest that runs beside the test."""

    def __init__(self, swarms: Swarms, argv: Sequence[str]) -> None:
        self.swarms = swarms
        self.log = swarms.pytester.path / f"log{time.monotonic_ns()}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *argv],
                cwd=swarms.pytester.path,
                env=swarms.kube.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    def until(self, what: str, happens: Callable[[], bool], within_s: float = 240) -> None:
        """Wait for something that happens while it runs."""
        deadline = time.monotonic() + within_s
        while not happens():
            assert self.process.poll() is None, f"it ended before {what}: {self.output}"
            assert time.monotonic() < deadline, f"{what}: not within {within_s} s: {self.output}"
            time.sleep(0.1)

    def until_downloading(self, index: int = 0) -> None:
        """Wait until a measured round is in the middle of its transfers."""
        self.until(f"round {index} was in its middle", lambda: self._in_the_middle(index))

    def leecher(self) -> str:
        """One of those that fetch in the round that runs."""
        return str(next(event["node"] for event in reversed(self._told()) if event["what"] == "line"))

    def _told(self) -> list[dict[str, Any]]:
        """All that was told of its progress, but for the line that may be half written."""
        files = sorted((self.swarms.pytester.path / "results").glob(f"*/{FOLDER}/*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()[:-1]]

    def _in_the_middle(self, index: int) -> bool:
        told = self._told()
        begun = max((at for at, event in enumerate(told) if event["what"] == "begin"), default=None)
        if begun is None or told[begun]["index"] != index:
            return False
        return any(event["what"] == "line" and event["received"] > told[begun]["size"] / 5 for event in told[begun:])

    def wait(self, within_s: float = 400) -> int:
        """Its exit status."""
        return self.process.wait(within_s)

    def kill(self) -> None:
        """End it, and all that it started, without warning."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """End it in good order."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.kill()
