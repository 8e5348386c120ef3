"""A matrix in steps of somebody else's workflow: pytest_codexbench/steps.py, and what the command makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benches import DOUBLES

from pytest_codexbench import cli, steps
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Variant, preset
from pytest_codexbench.options import read_options
from pytest_codexbench.plan import blocks_of, draw
from pytest_codexbench.records import JOURNAL, read_journal
from pytest_codexbench.run import PROVENANCE, read_provenance

# Whole runs, some of them several.
pytestmark = pytest.mark.timeout(300)

SUITE = str(Path(__file__).parents[1] / "tests_bench")
MATRIX = 'shapes = [[2, 1]]\nsizes = ["1MB", "2MB"]\nrounds = 2\n[systems.http]\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a matrix file, in which commands are run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(MATRIX)
    return tmp_path


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `codexbench` as a workflow does."""
    argv = [sys.executable, "-m", "pytest_codexbench.cli", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=110)


def block(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Measure one block in a way that leaves no trace of this checkout."""
    return command("block", name, "--matrix=mine.toml", "--", SUITE, "-q", "-pno:cacheprovider", *arguments)


def test_the_blocks_are_those_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """Every block comes once, by its name, downloads and uploads; nothing else is in the answer."""
    status = cli.main(["emit", "blocks", "--matrix=full", "--systems=http", "--link=1gbit"])
    names = json.loads(capsys.readouterr().out)
    matrix = preset("full", (Variant("http", "http"),)).with_links((10**9,))

    assert 0 == status
    assert [str(each) for each in blocks_of(matrix)] == names
    assert len(set(names)) == len(names) == 42


def test_the_environment_asks_as_the_command_line_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow's parameters are values of variables; an empty one was not given."""
    monkeypatch.setenv("CODEXBENCH_MATRIX", "3x3")
    monkeypatch.setenv("CODEXBENCH_SYSTEMS", "")
    monkeypatch.setenv("CODEXBENCH_ROUNDS", "2")

    assert 0 == cli.main(["emit", "blocks"])


@pytest.mark.parametrize("name", ["MATRIX", "SYSTEMS", "ROUNDS", "LINK", "SEED", "DEADLINE", "BACKEND"])
@pytest.mark.parametrize(
    "value", ["$(id)", "`id`", "'; touch x; '", "\n- name: x", "{{workflow.name}}", "../..", "--help"]
)
def test_a_hostile_parameter_is_refused_by_its_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with status 2 and a sentence that names the option, and nothing is run."""
    monkeypatch.setenv("CODEXBENCH_MATRIX", "smoke")
    monkeypatch.setenv(f"CODEXBENCH_{name}", value)
    status = cli.main(["emit", "blocks"])
    told = capsys.readouterr()

    assert 2 == status
    assert "" == told.out
    assert name.lower() in told.err
    assert "Traceback" not in told.err


def test_without_a_matrix_it_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names that there are can be listed."""
    monkeypatch.delenv("CODEXBENCH_MATRIX", raising=False)

    assert 2 == cli.main(["emit", "blocks"])
    assert "codexbench matrices" in capsys.readouterr().err


def test_blocks_that_are_measured_apart_make_one_run(here: Path) -> None:
    """Each draws what the whole run would, and all of them together are that run, with its report."""
    done = [block(name) for name in ("n02-s01-1MB", "n02-s01-2MB", "upload-1MB", "upload-2MB")]
    gathered = command("gather", "results", "--output=whole")
    story, run = read_journal(here / "whole" / JOURNAL), read_provenance(here / "whole")
    seeds = {(str(round_.cell), round_.index): round_.seed for round_ in story.measured()}

    assert [0, 0, 0, 0] == [each.returncode for each in done], done
    assert 0 == gathered.returncode, gathered.stderr
    assert 8 == len(seeds)
    assert 4 == len(run["cells"])
    assert 4 == len(run["gathered_from"])
    plan = read_options({"matrix": "mine.toml"}.get).whole_plan
    for each in plan.blocks:
        for index in range(2):
            assert draw(each, index, 1).seed == seeds[str(each.cells[0]), index]
    assert (here / "whole" / "report.html").is_file()
    assert [] == list(story.problems)


def test_a_block_that_was_killed_goes_on_with_what_it_has(here: Path) -> None:
    """Killed in the middle, the next try measures what is lacking, in the same run; then there is nothing to do."""
    (here / "mine.toml").write_text(MATRIX.replace("rounds = 2", "rounds = 30"))
    argv = [
        sys.executable,
        "-m",
        "pytest_codexbench.cli",
        "block",
        "n02-s01-1MB",
        "--matrix=mine.toml",
        "--",
        SUITE,
        "-q",
    ]
    first = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 60
    while not (journals := list(here.glob(f"results/*/*/{JOURNAL}"))) or journals[0].read_bytes().count(b"\n") < 5:
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = sum(1 for _ in read_journal(journals[0]).measured())
    again = block("n02-s01-1MB")
    story = read_journal(journals[0])
    third = block("n02-s01-1MB")

    assert 0 < before < 30
    assert 0 == again.returncode, again.stdout + again.stderr
    assert 30 == sum(1 for _ in story.measured())
    assert 1 == len(list(here.glob(f"results/*/*/{PROVENANCE}")))
    assert 0 == third.returncode
    assert "1 passed" in third.stdout


def test_a_block_that_cannot_come_up_is_to_be_tried_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble with the infrastructure is no result: status 75, with the cell and the reason."""
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
    faulty = '[systems.faulty]\nfault = "exits"\n'
    (here / "mine.toml").write_text(MATRIX.replace("[systems.http]\n", faulty))
    done = block("n02-s01-1MB")

    assert 75 == done.returncode, done.stdout + done.stderr
    assert "faulty-n02-s01-1MB has 0 of 2 rounds: " in done.stderr


def test_failed_rounds_are_a_result(here: Path) -> None:
    """A block whose rounds are recorded is whole, whatever came of them."""
    done = block("n02-s01-1MB", "--cb-deadline=0.001s")

    assert 0 == done.returncode, done.stderr
    assert "1 failed" in done.stdout


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["n09-s01-1MB"], "codexbench emit blocks"),
        (["n02-s01-1MB", "--", "--no-such-option"], "pytest ended with 4"),
    ],
)
def test_wrong_input_is_never_tried_again(here: Path, arguments: list[str], says: str) -> None:
    """Status 2, with what is wrong."""
    done = command("block", "--matrix=mine.toml", *arguments)

    assert 2 == done.returncode
    assert says in done.stderr


def test_runs_of_two_plans_are_not_gathered(here: Path) -> None:
    """What differs is named; nothing is written."""
    assert 0 == block("n02-s01-1MB").returncode
    assert 0 == block("n02-s01-2MB", "--cb-seed=2").returncode

    with pytest.raises(WrongInput, match="seed was 1 and is 2"):
        steps.gather([here / "results"], here / "whole")
    assert not (here / "whole").exists()


def test_what_no_block_measured_is_told_as_lacking(here: Path) -> None:
    """The report is made of what there is, and the status says that it is not all."""
    assert 0 == block("n02-s01-1MB").returncode
    done = command("gather", "results", "--output=whole")

    assert 1 == done.returncode
    assert "http-n02-s01-2MB has 0 of 2 rounds" in done.stderr
    assert (here / "whole" / "report.html").is_file()


def test_nothing_is_gathered_into_a_folder_that_is_in_use(here: Path) -> None:
    """A report that is there already stays as it is."""
    assert 0 == block("n02-s01-1MB").returncode
    (here / "whole").mkdir()
    (here / "whole" / "report.html").write_text("mine")
    done = command("gather", "results", "--output=whole")

    assert 2 == done.returncode
    assert "mine" == (here / "whole" / "report.html").read_text()


def test_there_must_be_something_to_gather(here: Path) -> None:
    """An empty folder is an error that says what was looked for."""
    with pytest.raises(WrongInput, match=PROVENANCE):
        steps.gather([here], here / "whole")
