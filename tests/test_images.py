"""What images are made from: the agent's own short list, and users that are numbers."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from benches import Bench

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "images"
NEEDS = [
    line for line in (IMAGES / "agent.requirements.txt").read_text().splitlines() if line and not line.startswith("#")
]
WITHOUT = """
import importlib.abc, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not in the agent's image")

"""
EVERYWHERE = """
sys.meta_path.insert(0, Nothing())
import pytest_codexbench.agent.__main__, pytest_codexbench.agent.bootstrap, pytest_codexbench.agent.trial
import pytest_codexbench.nodes.bittorrent, pytest_codexbench.nodes.http, pytest_codexbench.nodes.tracker
from pytest_codexbench.systems import find, names
print([find(name).name for name in names()])
"""
AGENTS_ALONE = """
if any(part.startswith(("pytest_codexbench.agent", "pytest_codexbench.nodes")) for part in sys.orig_argv):
    sys.meta_path.insert(0, Nothing())
"""


@pytest.fixture
def others() -> set[str]:
    """What the package needs beside what its agents need, by the names that are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    more = {*project["dependencies"], *project["optional-dependencies"]["kubernetes"]} - set(NEEDS)
    names = {re.split(r"[^A-Za-z0-9_-]", other)[0].replace("-", "_") for other in more}
    names = {{"pyyaml": "yaml", "pytest_xdist": "xdist"}.get(name, name) for name in names}
    assert {"pytest", "kubernetes", "pydantic", "rich"} <= names
    return {*names, "_pytest", "pydantic_core"}


def test_the_agents_needs_are_some_of_the_packages() -> None:
    """In the same ranges: who changes one changes the other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert NEEDS
    assert set(NEEDS) <= set(project["dependencies"])


def test_the_agents_needs_are_all_that_it_needs(others: set[str]) -> None:
    """Agent, nodes, tracker and every system are imported without the package's other dependencies."""
    code = WITHOUT.format(names=others) + EVERYWHERE
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert 0 == run.returncode, run.stderr
    assert {"bittorrent", "codex", "http", "ipfs"} <= set(re.findall(r"'(\w+)'", run.stdout))


@pytest.mark.parametrize("system", ["bittorrent", "http"])
def test_agents_do_their_work_without_anything_else(
    bench: Bench, others: set[str], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swarm is measured whose agents and nodes have only what their image has: a late import fails here."""
    folder = bench.pytester.mkdir("site")
    (folder / "sitecustomize.py").write_text(WITHOUT.format(names=others) + AGENTS_ALONE)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    bench.matrix(f'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.{system}]\n')
    result = bench.run()

    result.assert_outcomes(passed=1)
    assert all(round_.success for round_ in bench.story().rounds)


@pytest.mark.parametrize("image", ["agent", "runner"])
def test_images_run_as_a_number(image: str) -> None:
    """A Pod that must not run as root refuses an image whose user is a name; the charts' user is the same."""
    text = (IMAGES / f"{image}.Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)

    assert ["10001:10001"] == users
    assert "user: 10001\n" in (ROOT / "charts" / "http" / "values.yaml").read_text()


@pytest.mark.parametrize("image", ["agent", "runner"])
def test_what_an_image_copies_is_let_through(image: str) -> None:
    """``.dockerignore`` leaves everything out but what is named there."""
    text = (IMAGES / f"{image}.Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE)

    assert "*" in ignored
    for path in copied:
        assert path == "." or f"!{path.split('/')[0]}" in ignored
    for needed in ("pyproject.toml", "README.md", "LICENSE", "pytest_codexbench", "tests_bench", "charts"):
        assert f"!{needed}" in ignored
        assert (ROOT / needed).exists()
