"""A cluster for the tests of this folder: the one that KUBECONFIG names, else one that is brought up and taken down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import codex_double
import pytest
from clusters import AGENT, KUBE, TESTS, Kube, Swarms

KUBO, DOUBLE = "localhost/kubo:test", "localhost/codex-double:test"
USER = "10001:10001"
# What the agent needs of the package's dependencies; pytest and Kubernetes are not among them.
AGENTS_OWN = ("blake3", "cryptography", "libtorrent", "prometheus-client", "psutil")

# Not even collected without being asked for: bringing a cluster up takes root, and some minutes the first time.
if "CODEXBENCH_CLUSTER" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of the agent, of Kubo and of the double, for a cluster without a registry."""
    folder = tmp_path_factory.mktemp("images")
    wheel = folder / "wheel"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(wheel),
        str(TESTS.parent),
    ]
    subprocess.run(pip, check=True)
    agent = folder / "agent.tar"
    _image(agent, AGENT, "--pip", *AGENTS_OWN, "--layer", f"{_unpacked(next(wheel.iterdir()), folder)}:{PACKAGES}")
    made = [agent]
    if kubo := shutil.which("ipfs"):
        made.append(folder / "kubo.tar")
        _image(made[-1], KUBO, "--layer", f"{Path(kubo).resolve()}:/usr/local/bin/ipfs")
    made.append(folder / "double.tar")
    programs = folder / "double"
    for flavour in ("2025-12", "storage"):
        codex_double.install(programs, flavour)
    for program in programs.iterdir():  # in the image they are elsewhere
        text = re.sub(r"PYTHONPATH=\S+", f"PYTHONPATH={PACKAGES}", program.read_text())
        program.write_text(text.replace(sys.executable, "python3"))
    package = Path(codex_double.__file__).parent
    _image(made[-1], DOUBLE, "--layer", f"{programs}:/usr/local/bin", "--layer", f"{package}:{PACKAGES}/codex_double")
    return made


PACKAGES = "/usr/local/lib/python3.11/dist-packages"


def _unpacked(wheel: Path, folder: Path) -> Path:
    """The wheel's files: its dependencies are not the agent's."""
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, folder / "package"], check=True)
    return folder / "package"


def _image(path: Path, name: str, *arguments: str) -> None:
    subprocess.run([KUBE, "image", path, name, "--user", USER, *arguments], check=True)


@pytest.fixture(scope="session")
def kube(images: list[Path]) -> Iterator[Kube]:
    """The cluster."""
    if given := os.environ.get("KUBECONFIG"):
        yield Kube({**os.environ, "KUBECONFIG": given}, ours=False)
        return
    subprocess.run([KUBE, "down"], check=True)  # what a killed run may have left
    done = subprocess.run([KUBE, "up", *images], stdout=subprocess.PIPE, text=True, check=True)
    told = re.search(r"export KUBECONFIG=(\S+) PATH=(\S+):\$PATH", done.stdout)
    assert told is not None, done.stdout
    try:
        yield Kube({**os.environ, "KUBECONFIG": told[1], "PATH": f"{told[2]}:{os.environ['PATH']}"}, ours=True)
    finally:
        subprocess.run([KUBE, "down"], check=True)


@pytest.fixture
def swarms(kube: Kube, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Swarms:
    """A folder in which the benchmarks run on the cluster."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name, text in kube.env.items():
        monkeypatch.setenv(name, text)
    return Swarms(pytester, kube)
