"""A storage system in a distribution of its own: installed, found, measured, and shown right in the documentation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benches import Bench

from pytest_codexbench.matrixfile import read_matrix
from pytest_codexbench.payload import Payload

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "adding-a-system"
MB = 10**6

MATRIX = """
shapes = [[3, 2]]
sizes = ["3MB"]
rounds = 2
[systems.webroot]
[systems.http]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the example, built by its own build system."""
    folder = tmp_path_factory.mktemp("third")
    # a copy, so that no build leaves anything beside the source
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    alone = ("--isolated", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    argv = [sys.executable, "-m", "pip", "install", *alone, f"--target={folder / 'installed'}", str(source)]

    run = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert 0 == run.returncode, run.stdout + run.stderr
    return folder / "installed"


@pytest.fixture
def third(bench: Bench, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A folder with cell tests, in which the installed example is found and no double is."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    # its nodes look for a Python there; the tests may run by one that is not on PATH
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    bench.matrix(MATRIX)
    return bench


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder for the nodes' data, whose name is in the environment of all their processes."""
    # pytest's own folders are too deep for sockets
    with tempfile.TemporaryDirectory(prefix="cb") as folder:
        yield Path(folder)


def test_it_is_measured_like_the_built_in_ones(third: Bench, data: Path) -> None:
    """Its cells pass, their records tell all bytes, checked, in both views, and who took them in; nothing is left."""
    third.run(f"--cb-data={data}").assert_outcomes(passed=2)

    rounds = [round_ for round_ in third.story().measured() if round_.cell.system == "webroot"]
    assert 2 == len({round_.handle for round_ in rounds})
    for round_ in rounds:
        assert round_.success
        assert () == round_.left_on
        assert Payload(3 * MB, round_.seed).digest() == round_.digest
        assert round_.environment.versions["webroot"].startswith("Python 3")
        (transfer,) = round_.transfers
        assert {"available", "contiguous"} == set(transfer.timelines)
        assert {(3 * MB, 3 * MB)} == {(line.total, line.held) for line in transfer.timelines.values()}
        for name, counters in round_.nodes.items():
            assert (0 if name in round_.seeders else 3 * MB) == counters.payload_rx_bytes
            assert counters.payload_tx_bytes is None
            assert counters.rss_peak_bytes
    assert ["passed"] * 2 == [cell["status"] for cell in third.results()["cells"] if cell["kind"] == "download"]
    logs = [(third.folder / "logs" / "webroot-n03" / f"n0{index}.log").read_text() for index in range(3)]
    assert all('"GET / HTTP/1.1" 200' in log for log in logs)
    assert [] == _processes_of(data)
    assert [] == list(data.iterdir())


def _processes_of(data: Path) -> list[str]:
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(data).encode() in environment.read_bytes():
                found.append((environment.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_the_command_lists_it(third: Bench) -> None:
    """``codexbench systems`` tells its version, its views and what a publish is, as of every system."""
    argv = [sys.executable, "-m", "pytest_codexbench.cli", "systems"]
    run = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert 0 == run.returncode, run.stderr
    name, views = run.stdout[run.stdout.index("webroot ") :].splitlines()[:2]
    assert re.fullmatch(r"webroot +Python 3\.[0-9.]+\S*", name)
    assert "views: contiguous, available; to publish: copy of the file into the folder of its node" in views


def test_a_wrong_setting_is_refused_before_anything_starts(third: Bench) -> None:
    """A mistyped setting of somebody else's system is a usage error: variant, key, value, and what there is."""
    third.matrix(f'{MATRIX}[systems."webroot.x"]\npythn = "python3"\n')

    run = third.run()

    assert pytest.ExitCode.USAGE_ERROR == run.ret
    assert "system webroot.x: pythn = 'python3': no such setting; there are bin" in run.stderr.str()
    assert [] == third.folders


def test_its_troubles_are_its_own(third: Bench, tmp_path: Path) -> None:
    """Without its program it is skipped with the way out, one that ends early errs with its last words; others pass."""
    program = tmp_path / "python3"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3 && exit\necho no module; exit 3\n')
    program.chmod(0o755)
    absent = f'[systems."webroot.absent"]\nbin = "{shutil.which("true")}"\n'
    third.matrix(f'{MATRIX}{absent}[systems."webroot.broken"]\nbin = "{program}"\n'.replace("[systems.webroot]\n", ""))

    run = third.run("-rs")

    run.assert_outcomes(passed=1, skipped=1, errors=1)
    run.stdout.fnmatch_lines(
        ["*webroot.absent: no Python 3*give bin = 'PATH' below ?systems.webroot? in a matrix file*"]
    )
    assert "exited with status 3 before it was ready; the end of its log: no module" in run.stdout.str()


def test_the_documentation_shows_the_example_as_it_is() -> None:
    """Every piece of Python in the documentation is in the example's module, to the letter."""
    module = (EXAMPLE / "codexbench_webroot.py").read_text(encoding="utf-8")

    excerpts = _excerpts("python")

    assert excerpts
    assert [] == [excerpt for excerpt in excerpts if excerpt not in module]


def test_the_documentation_shows_an_entry_point_and_a_matrix_that_work(tmp_path: Path) -> None:
    """The entry point in the documentation is the example's; its matrix file is understood."""
    entry_point, matrix = _excerpts("toml")
    (tmp_path / "mine.toml").write_text(matrix, encoding="utf-8")

    chosen, _ = read_matrix(tmp_path / "mine.toml", ())

    assert entry_point in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    assert ["webroot", "webroot.old", "http"] == [variant.name for variant in chosen.variants]


def _excerpts(language: str) -> list[str]:
    document = (ROOT / "docs" / "adding-a-system.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
