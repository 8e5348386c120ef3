"""A real Kubernetes under the benchmarks' own runs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from benches import LEAN

TESTS = Path(__file__).parent
KUBE = TESTS / "cluster" / "kube"
AGENT = "localhost/codexbench-agent:test"


@dataclass(frozen=True)
class Kube:
    """A running cluster: the environment for its tools, and whether it is ours to break."""

    env: dict[str, str]
    ours: bool

    def kube(self, *arguments: str) -> None:
        """Do something with the cluster itself."""
        subprocess.run([KUBE, *arguments], check=True)

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints."""
        done = subprocess.run(["kubectl", *arguments], env=self.env, capture_output=True, text=True, check=True)
        return done.stdout

    def namespaces(self) -> list[str]:
        """Those of clusters that were not removed."""
        listed = self.kubectl("get", "namespaces", "-l", "app.kubernetes.io/managed-by=codexbench", "-o", "name")
        return listed.split()


class Swarms:
    """Runs of the package's own benchmarks on the cluster."""

    def __init__(self, pytester: pytest.Pytester, kube: Kube) -> None:
        self.pytester, self.kube = pytester, kube

    def run(self, matrix: str, *arguments: str) -> pytest.RunResult:
        """Run a matrix, given as the text of its file."""
        (self.pytester.path / "mine.toml").write_text(matrix, encoding="utf-8")
        where = ["--cb-backend=kubernetes", f"--cb-agent-image={AGENT}"]
        suite = [str(TESTS.parent / "tests_bench"), "--rootdir", str(self.pytester.path)]
        return self.pytester.runpytest_subprocess(*suite, "--matrix=mine.toml", *where, *LEAN, *arguments)
