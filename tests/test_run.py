"""One run's folder: its place, its provenance, its lock."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import BUILT_IN, preset
from pytest_codexbench.plan import Plan
from pytest_codexbench.records import Environment, Note
from pytest_codexbench.run import LATEST, PROVENANCE, Run, new_run, plan_to_json, read_provenance, resumed_run

PLACE = Environment("local", "namespaces", {"python": "3.11"}, {"cores": 2, "memory": 8}, "6.1", True, 1, "queues")
HTTP = BUILT_IN["http"]
MATRIX = preset("smoke", (HTTP,))
PLAN = Plan("smoke", tuple(MATRIX.blocks()), 2, 1)


def told(plan: Plan = PLAN, **versions: str) -> dict[str, Any]:
    """A plan as the plugin tells it."""
    return plan_to_json(plan, "pytest --matrix=smoke", {"rounds": plan.rounds}, {"http": "1", **versions})


def measure(run: Run) -> None:
    """Something that is worth keeping."""
    run.journal.add(Note("skipped", PLAN.cells[0], "no program"))


@contextmanager
def ended(run: Run, exit_status: int = 0) -> Iterator[Run]:
    """A run with something in it, and its end."""
    try:
        measure(run)
        yield run
    finally:
        run.end(exit_status)


def a_run(results: Path, plan: Plan = PLAN, place: Environment = PLACE, **versions: str) -> Path:
    """The folder of a run that measured something and ended."""
    with ended(new_run(results, told(plan, **versions), place)) as run:
        return run.folder


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Named by the moment, the matrix and the plan; git is told to keep out of the results."""
    results = tmp_path / "some" / "results"
    first, second = a_run(results), a_run(results)

    assert first != second
    assert [results, results] == [first.parent, second.parent]
    assert all(f"-smoke-{PLAN.hash[:6]}" in each.name for each in (first, second))
    assert "*\n" == (results / ".gitignore").read_text()


def test_a_users_own_gitignore_stays(tmp_path: Path) -> None:
    """Who keeps results in git says so there."""
    (tmp_path / ".gitignore").write_text("!*\n")
    a_run(tmp_path)

    assert "!*\n" == (tmp_path / ".gitignore").read_text()


def test_a_matrix_of_any_name_has_a_folder(tmp_path: Path) -> None:
    """A name with slashes and blanks does not lead elsewhere."""
    run = new_run(tmp_path, told(replace(PLAN, matrix="../two builds/é" + "x" * 300)), PLACE)

    assert tmp_path == run.folder.parent
    assert "/" not in run.id
    assert run.folder.is_dir()
    run.end(0)


def test_a_run_says_where_its_figures_come_from(tmp_path: Path) -> None:
    """Plan, hash, seed, versions, machine: `run.json` is whole from the first moment, and is told the end."""
    run = new_run(tmp_path, told(), PLACE)
    before = read_provenance(run.folder)
    measure(run)
    run.end(1)
    after = read_provenance(run.folder)

    facts = {"matrix": "smoke", "plan_hash": PLAN.hash, "seed": 1, "rounds": 2, "backend": "local", "id": run.id}
    assert facts.items() <= before.items()
    assert ["http"] == before["systems"]
    assert {"http": "1"} == before["versions"]
    assert "pytest --matrix=smoke" == before["command"]
    assert [str(cell) for cell in PLAN.cells] == [cell["id"] for cell in before["cells"]]
    assert PLACE.to_json() == before["environment"]
    assert {"ended_at", "exit_status"} == after.keys() - before.keys()
    assert 1 == after["exit_status"]


def test_a_run_that_measured_nothing_leaves_nothing(tmp_path: Path) -> None:
    """No empty folders pile up."""
    run = new_run(tmp_path, told(), PLACE)
    empty = run.empty
    run.end(5)

    assert empty
    assert [tmp_path / ".gitignore"] == list(tmp_path.iterdir())


def test_a_run_that_left_anything_is_kept(tmp_path: Path) -> None:
    """The log of a node that did not come up is worth reading."""
    run = new_run(tmp_path, told(), PLACE)
    (run.folder / "logs").mkdir()
    (run.folder / "logs" / "n00.log").write_text("no")
    run.end(1)

    assert "no" == (run.folder / "logs" / "n00.log").read_text()
    assert 1 == read_provenance(run.folder)["exit_status"]


def test_results_that_cannot_be_there_are_refused(tmp_path: Path) -> None:
    """A file in the way: the option and the reason."""
    (tmp_path / "file").touch()

    for results in (tmp_path / "file", tmp_path / "file" / "deeper", tmp_path / ("x" * 300)):
        with pytest.raises(WrongInput) as caught:
            new_run(results, told(), PLACE)
        assert str(caught.value).startswith(f"--cb-results={results}: ")


# --- one writer ---


HOLD = """
import sys
from pathlib import Path
from pytest_codexbench.run import Run

run = Run(Path(sys.argv[1]), {})
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """Two runs in one folder would mix their records: the second is told to wait."""
    folder = a_run(tmp_path)
    before = read_provenance(folder)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert "held\n" == other.stdout.readline()
        (folder / PROVENANCE).write_text(json.dumps(before))
        with pytest.raises(WrongInput, match="another pytest is writing"):
            resumed_run(tmp_path, LATEST, told(), PLACE)
        untouched = read_provenance(folder)
        other.communicate()

    assert before == untouched
    resumed_run(tmp_path, LATEST, told(), PLACE).end(0)


def test_a_run_that_was_killed_can_be_gone_on_with(tmp_path: Path) -> None:
    """Its lock ends with its process."""
    folder = a_run(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
    (folder / PROVENANCE).write_text(json.dumps({**told(), "environment": PLACE.to_json()}))
    run = resumed_run(tmp_path, LATEST, told(), PLACE)

    assert folder == run.folder
    run.end(0)


# --- going on ---


def test_the_latest_run_of_the_same_plan_is_gone_on_with(tmp_path: Path) -> None:
    """Runs of other plans, and earlier ones, are left alone; the moment is noted, and all else stays."""
    other = replace(PLAN, seed=2)
    a_run(tmp_path)
    latest = a_run(tmp_path)
    a_run(tmp_path, other)
    before = read_provenance(latest)
    with ended(resumed_run(tmp_path, LATEST, told(), PLACE)) as run:
        resumed = read_provenance(latest)

    assert latest == run.folder
    assert 1 == len(resumed.pop("resumed_at"))
    assert before == resumed
    assert 2 == len(run.journal.read().notes)


def test_a_run_can_be_gone_on_with_many_times(tmp_path: Path) -> None:
    """Each time is noted."""
    folder = a_run(tmp_path)
    for _ in range(3):
        resumed_run(tmp_path, folder.name, told(), PLACE).end(0)

    assert 3 == len(read_provenance(folder)["resumed_at"])


@pytest.mark.parametrize("by", ["id", "folder"])
def test_a_run_can_be_named_by_its_id_or_folder(tmp_path: Path, by: str) -> None:
    """An earlier one than the latest, too."""
    first = a_run(tmp_path)
    a_run(tmp_path)
    run = resumed_run(tmp_path, first.name if by == "id" else str(first), told(), PLACE)

    assert first == run.folder
    run.end(0)


@pytest.mark.parametrize(
    "other, differences",
    [
        (replace(PLAN, seed=2), ["seed was 1 and is 2"]),
        (replace(PLAN, rounds=6), ["rounds was 2 and is 6"]),
        (replace(PLAN, matrix="mine", seed=3), ["matrix was 'smoke' and is 'mine'", "seed was 1 and is 3"]),
        (
            replace(PLAN, blocks=tuple(MATRIX.with_variants((HTTP, BUILT_IN["codex"])).blocks())),
            ["systems was ['http'] and is ['http', 'codex']"],
        ),
        (replace(PLAN, blocks=PLAN.blocks[:1]), ["other cells or settings"]),
    ],
)
def test_a_run_of_another_plan_is_refused_with_the_difference(
    tmp_path: Path, other: Plan, differences: list[str]
) -> None:
    """Records of two plans are no one's result: what differs is named, in the words of the options."""
    folder = a_run(tmp_path)
    before = read_provenance(folder)
    with pytest.raises(WrongInput) as caught:
        resumed_run(tmp_path, folder.name, told(other), PLACE)

    assert f"--cb-resume={folder.name}: {folder.name} is of another plan: " in str(caught.value)
    assert [] == [word for word in differences if word not in str(caught.value)]
    assert before == read_provenance(folder)


@pytest.mark.parametrize(
    "place, difference",
    [
        (replace(PLACE, kernel="6.2"), "kernel was '6.1' and is '6.2'"),
        (replace(PLACE, machine={"cores": 4, "memory": 8}), "machine was {'cores': 2"),
        (replace(PLACE, isolation="loopback"), "isolation was 'namespaces' and is 'loopback'"),
        (replace(PLACE, wire="not counted"), "wire was 'queues'"),
        (replace(PLACE, versions={"python": "3.12"}), "python was '3.11' and is '3.12'"),
        (replace(PLACE, versions={}), "python was '3.11' and is None"),
    ],
)
def test_a_run_from_elsewhere_is_refused_with_the_difference(
    tmp_path: Path, place: Environment, difference: str
) -> None:
    """Another machine, kernel or version measures something else: it is named, and nothing is written."""
    folder = a_run(tmp_path)
    before = read_provenance(folder)
    with pytest.raises(WrongInput) as caught:
        resumed_run(tmp_path, LATEST, told(), place)

    assert f"{folder.name} was measured elsewhere: " in str(caught.value)
    assert difference in str(caught.value)
    assert before == read_provenance(folder)


def test_a_run_with_another_version_of_a_system_is_refused(tmp_path: Path) -> None:
    """A new build is to be compared with the old one, not mixed with it."""
    a_run(tmp_path)
    with pytest.raises(WrongInput, match="http was '1' and is '2'"):
        resumed_run(tmp_path, LATEST, told(http="2"), PLACE)


def test_what_does_not_change_a_result_does_not_hinder(tmp_path: Path) -> None:
    """The number of workers, the probe of a cluster and the command may differ."""
    a_run(tmp_path)
    place = replace(PLACE, workers=4, probe={"wire_mb_s": 1.0})
    run = resumed_run(tmp_path, LATEST, {**told(), "command": "pytest --cb-resume"}, place)

    run.end(0)
    assert 1 == len(run.provenance["resumed_at"])


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By name, or the latest where there is none; what is there instead is said."""
    with pytest.raises(WrongInput, match=r"--cb-resume=absent: no such run in .*"):
        resumed_run(tmp_path, "absent", told(), PLACE)
    with pytest.raises(WrongInput, match=rf"no run of this plan \({PLAN.hash[:6]}\)"):
        resumed_run(tmp_path / "nowhere", LATEST, told(), PLACE)

    other = a_run(tmp_path, replace(PLAN, seed=2))
    with pytest.raises(WrongInput, match=other.name):
        resumed_run(tmp_path, LATEST, told(), PLACE)


def test_a_file_after_resume_is_no_run(tmp_path: Path) -> None:
    """`--cb-resume tests/` takes the folder for a run: the way out is told."""
    with pytest.raises(WrongInput, match="--cb-resume=latest"):
        resumed_run(tmp_path, str(tmp_path), told(), PLACE)


DAMAGED: Mapping[str, str] = {
    "empty": "",
    "cut": '{"plan_hash": "',
    "a list": "[]",
    "a number": "3",
    "without environment": json.dumps({"plan_hash": PLAN.hash}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_run_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """A `run.json` that cannot be understood is named."""
    folder = a_run(tmp_path)
    (folder / PROVENANCE).write_text(text)
    with pytest.raises(WrongInput) as caught:
        resumed_run(tmp_path, folder.name, told(), PLACE)

    assert folder.name in str(caught.value)


def test_a_damaged_run_does_not_hinder_another(tmp_path: Path) -> None:
    """The latest that can be gone on with is gone on with, whatever else lies there."""
    folder = a_run(tmp_path)
    broken = a_run(tmp_path, replace(PLAN, seed=2))
    (broken / PROVENANCE).write_text("")
    run = resumed_run(tmp_path, LATEST, told(), PLACE)

    assert folder == run.folder
    run.end(0)
