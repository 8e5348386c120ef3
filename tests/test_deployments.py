"""Tests with several deployments: how they are chosen, recorded, gone on with, and what becomes of a failure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from benches import LEAN, Bench

from pytest_codexbench.records import read_journal

# Whole runs, some of them several.
pytestmark = pytest.mark.timeout(300)

SUITE = Path(__file__).parents[1] / "tests_bench" / "test_heterogeneous.py"
BOTH = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 2\n[systems.http]\n[systems.bittorrent]\n'
OWN = """
def test_mine(deployments):
    deployments.want("one", "http", nodes=2)
    for turn in deployments.turns():
        with turn:
            turn.measures["t100_s"], = turn.disseminate(turn["one"])
            {more}
"""

TWICE = """
from pytest_codexbench import staging

def test_mine(deployments, monkeypatch):
    drawn, real = [], staging.disseminate
    monkeypatch.setattr(staging, "disseminate", lambda cell, draw, to: drawn.append(draw) or real(cell, draw, to))
    deployments.want("one", "http", nodes=3)
    for turn in deployments.turns():
        with turn:
            for _ in range(2):
                turn.disseminate(turn["one"])
            with turn.published(turn["one"]) as (_, first), turn.published(turn["one"]) as (_, second):
                assert first != second
    assert 4 == len({each.seed for each in drawn})
    assert drawn[0].seeders == drawn[1].seeders
"""


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A folder with a matrix of two systems."""
    found = Bench(pytester, monkeypatch)
    found.matrix(BOTH)
    return found


def own(bench: Bench, more: str = "pass") -> None:
    """One test of the user's own, and nothing else."""
    bench.pytester.makepyfile(test_spread=OWN.format(more=more))


def test_swarms_are_measured_alone_and_side_by_side(bench: Bench) -> None:
    """The suite's own test: each pair of systems, in every round, with both times of each."""
    run = bench.pytester.runpytest_subprocess(str(SUITE), "--matrix=mine.toml", *LEAN, "-k", "side_by_side")

    run.assert_outcomes(passed=1)
    meetings = bench.story().meetings
    assert [0, 1] == [meeting.index for meeting in meetings]
    for meeting in meetings:
        assert meeting.success
        for system in ("http", "bittorrent"):
            alone, together = (meeting.measures[f"{system}.{way}_t100_s"] for way in ("alone", "together"))
            assert 0 < alone < 60
            assert together / alone == pytest.approx(meeting.measures[f"{system}.slowdown"])
        assert ["http", "bittorrent"] == [one["variant"] for one in meeting.deployments]
    run.stdout.fnmatch_lines(["Several networks", "test_side_by_side*", "*2 of 2*"])


@pytest.mark.skipif(shutil.which("waku") is None, reason="no `waku` on PATH (.ci/gowaku/build makes one)")
def test_messages_carry_handles_and_a_mesh_is_one(bench: Bench) -> None:
    """The suite's own tests over real nodes; what wants a program that is not here is skipped, and says so."""
    run = bench.pytester.runpytest_subprocess(
        str(SUITE), "--matrix=mine.toml", "--cb-rounds=1", *LEAN, "-rs", "-k", "(mesh or handle) and not nwaku"
    )

    run.assert_outcomes(passed=3, deselected=4)
    found = {meeting.test: meeting for meeting in bench.story().meetings}
    assert 1.0 == found["test_one_mesh[gowaku]"].measures["delivery_ratio"]
    assert 6 == len(found["test_one_mesh[gowaku]"].deliveries)
    assert found["test_a_message_carries_a_handle[http-gowaku]"].measures["message_to_file_s"] > 0
    assert "gowaku" in found["test_one_mesh[gowaku]"].environment.versions


def test_a_program_that_is_missing_skips_the_test_with_the_way_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure, and nothing is brought up."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
    bench.pytester.makepyfile(test_spread=OWN.format(more="pass").replace('"http"', '"nwaku"'))
    run = bench.run("-rs")

    run.assert_outcomes(skipped=1)
    run.stdout.fnmatch_lines(["*no `wakunode2` or `wakunode` program on PATH; give --cb-nwaku-bin=PATH*"])


def test_no_node_is_asked_for_the_same_file_twice(bench: Bench) -> None:
    """Each file of a round is another one, from the same seeder: what a node kept or remembers of one says nothing."""
    bench.pytester.makepyfile(test_spread=TWICE)

    bench.run().assert_outcomes(passed=1)


def test_a_check_that_fails_is_recorded_and_the_next_round_follows(bench: Bench) -> None:
    """The test fails at its end, with each round that failed; what was measured is kept."""
    own(bench, 'assert turn.index != 0, "not in the first one"')
    run = bench.run()

    assert 1 == run.ret
    run.stdout.fnmatch_lines(["*round 1: not in the first one*"])
    first, second = bench.story().meetings
    assert (False, True) == (first.success, second.success)
    assert first.error is not None
    assert first.error.startswith("not in the first one")
    assert first.measures["t100_s"] > 0


def test_a_run_goes_on_with_the_rounds_that_it_lacks(bench: Bench) -> None:
    """What is recorded is not measured again; a run that lacks nothing brings nothing up."""
    own(bench)
    assert 0 == bench.run().ret
    journal = bench.folder / "records.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0])
    again = bench.run("--cb-resume")

    assert 0 == again.ret
    assert [0, 1] == [meeting.index for meeting in read_journal(journal).meetings]
    assert lines[0] == journal.read_text().splitlines(keepends=True)[0]
    assert 0 == bench.run("--cb-resume").ret
    assert 2 == len(journal.read_text().splitlines())


def test_what_was_measured_is_in_every_document(bench: Bench) -> None:
    """results.json, JUnit, the page and the writeup."""
    own(bench)
    assert 0 == bench.run().ret
    results = json.loads((bench.folder / "results.json").read_text())
    told = [meeting["measures"]["t100_s"] for meeting in results["meetings"]]

    assert 2 == len(told)
    assert all(value > 0 for value in told)
    for document in ("report.html", "report.md"):
        text = (bench.folder / document).read_text()
        assert "test_mine" in text
        assert "2 of 2" in text


def test_without_a_matrix_it_is_left_out(bench: Bench) -> None:
    """As all that measures; and pytest says how it is run."""
    own(bench)
    run = bench.pytester.runpytest_subprocess(*LEAN)

    run.assert_outcomes(deselected=1)
    run.stdout.fnmatch_lines(["*they need a matrix*"])


@pytest.mark.parametrize("name", ["gowaku", "nwaku"])
def test_a_network_of_messages_is_no_system_of_a_matrix(bench: Bench, name: str) -> None:
    """It stores no file: refused before anything starts."""
    run = bench.run(f"--cb-systems={name}")

    assert 4 == run.ret
    run.stderr.fnmatch_lines([f"*system {name}: it passes messages, and stores no file*"])


def test_under_xdist_it_is_measured_once(bench: Bench) -> None:
    """One worker has it, and the record is the same."""
    own(bench)
    run = bench.run("-n", "2")

    run.assert_outcomes(passed=1)
    assert [0, 1] == [meeting.index for meeting in bench.story().meetings]


def test_a_plan_names_it_and_the_cells_come_first(bench: Bench) -> None:
    """What it takes nobody knows, but that it would run is said; within a budget cells are not kept waiting by it."""
    bench.pytester.makepyfile(
        test_spread=OWN.format(more="pass")
        + "\n\nimport pytest\n\n@pytest.mark.experiment('download')\ndef test_cells(cell, rounds):\n    pass\n"
    )
    run = bench.run("--cb-plan")

    run.stdout.fnmatch_lines(["*and 1 tests with several deployments*", "*test_mine*"])
    listed = bench.run("--collect-only", "-q")
    assert "test_mine" in [line for line in listed.outlines if "::" in line][-1]
