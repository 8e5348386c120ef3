"""Clusters for the tests of this folder: the one that KUBECONFIG names, else such as are brought up and taken down."""

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
from clusters import GIVEN, KUBE, NAMES, OURS, TESTS, VICTORIA, Images, Kube, Machine, Swarms

USER = "10001:10001"
PACKAGES = "/usr/local/lib/python3.11/dist-packages"

# Not even collected without being asked for: bringing a cluster up takes root, and some minutes the first time.
if "CODEXBENCH_CLUSTER" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Images of the agent, the runner, other programs and the double: those that are given, else made here."""
    if "KUBECONFIG" in OURS:
        return Images(dict(part.split("=", 1) for part in os.environ.get(GIVEN, "").split(",") if part))
    folder = tmp_path_factory.mktemp("images")
    wheel = _wheel(folder)
    needs = str(TESTS.parent / "images" / "agent.requirements.txt")
    made = {"agent": ["--requirements", needs, "--wheel", str(wheel)]}
    if helm := shutil.which("helm"):
        layer = f"{Path(helm).resolve()}:/usr/local/bin/helm"
        made["runner"] = ["--pip", f"{wheel}[kubernetes]", "--layer", layer, "--env", "HOME=/tmp"]
    if kubo := shutil.which("ipfs"):
        made["kubo"] = ["--layer", f"{Path(kubo).resolve()}:/usr/local/bin/ipfs"]
    for name, program, place in (("gowaku", "waku", "/usr/bin/waku"), ("victoria", "victoria-metrics", VICTORIA)):
        if found := shutil.which(program):
            made[name] = ["--layer", f"{Path(found).resolve()}:{place}"]
    made["double"] = _double(folder / "double")
    names = {name: f"localhost/codexbench-{name}:test" for name in NAMES if name in made}
    files = [folder / f"{name}.tar" for name in names]
    for (name, arguments), file in zip(made.items(), files, strict=True):
        subprocess.run([KUBE, "image", file, names[name], "--user", USER, *arguments], env=OURS, check=True)
    return Images(names, files)


def _wheel(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*pip, str(TESTS.parent)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _double(programs: Path) -> list[str]:
    """How to make an image that has the double under the names of both generations' programs."""
    for flavour in ("2025-12", "storage"):
        codex_double.install(programs, flavour)
    for program in programs.iterdir():  # in the image they are elsewhere
        text = re.sub(r"PYTHONPATH=\S+", f"PYTHONPATH={PACKAGES}", program.read_text())
        program.write_text(text.replace(sys.executable, "python3"))
    package = Path(codex_double.__file__).parent
    return ["--layer", f"{programs}:/usr/local/bin", "--layer", f"{package}:{PACKAGES}/codex_double"]


@pytest.fixture(scope="session")
def machine(images: Images) -> Iterator[Machine]:
    """This machine, for clusters that are brought up here."""
    here = Machine(images)
    try:
        yield here
    finally:
        here.down()


@pytest.fixture
def kube(request: pytest.FixtureRequest, images: Images) -> Kube:
    """A cluster, of one node where it is ours."""
    if given := OURS.get("KUBECONFIG"):
        return Kube({**OURS, "KUBECONFIG": given}, ours=False, images=images)
    return _brought_up(request)


@pytest.fixture
def own_kube(request: pytest.FixtureRequest) -> Kube:
    """One that is brought up as the test's mark ``up(...)`` says, with ``kube up``."""
    if "KUBECONFIG" in OURS:
        pytest.skip("it takes a cluster of a certain kind, and KUBECONFIG gives one")
    return _brought_up(request)


def _brought_up(request: pytest.FixtureRequest) -> Kube:
    here: Machine = request.getfixturevalue("machine")
    mark = request.node.get_closest_marker("up")
    return here.with_(*(mark.args if mark else ()))


@pytest.fixture
def swarms(request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Swarms:
    """A folder in which the benchmarks run on the cluster."""
    found: Kube = request.getfixturevalue("own_kube" if request.node.get_closest_marker("up") else "kube")
    for name in ("KUBECONFIG", "PATH"):
        monkeypatch.setenv(name, found.env[name])
    return Swarms(pytester, found)


def pytest_configure(config: pytest.Config) -> None:
    """The mark that chooses a cluster."""
    config.addinivalue_line("markers", "up(*arguments): the cluster that `kube up` makes with these arguments")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one kind of cluster follow each other: to bring another one up takes a minute."""
    items.sort(key=lambda item: mark.args if (mark := item.get_closest_marker("up")) else ())
