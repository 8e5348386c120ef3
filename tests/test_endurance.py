"""What a soak tells of a cluster over time, to the digit, and how every report says it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benches import Bench
from stories import MB, cell, round_of, soaked

from pytest_codexbench.endurance import Endurance, endurance, trend
from pytest_codexbench.records import Counters
from pytest_codexbench.reports import html, results, writeup
from pytest_codexbench.reports.findings import limits, title
from pytest_codexbench.reports.reliability import sentences
from pytest_codexbench.reports.told import tell

SOAK = 'shapes = [[2, 1]]\nsizes = ["2MB"]\nexperiments = ["stability"]\n[systems.http]\n'


def only() -> Endurance:
    """The soak of the story."""
    (found,) = endurance(soaked()[0].rounds)
    return found


def test_memory_that_grows_is_found_by_node_with_its_slope() -> None:
    """Bytes a round, of the one node whose memory does."""
    (node,) = only().leaking

    assert "n00" == node.name
    assert node.memory is not None
    assert (50.0 * MB, 59.0 * MB, 1.0 * MB) == (node.memory.first, node.memory.last, node.memory.slope)
    assert 1.0 == pytest.approx(node.memory.rho)


def test_a_deletion_that_does_not_give_space_back_is_found() -> None:
    """By the disk of each node after the deletion."""
    (node,) = only().keeping

    assert "n01" == node.name
    assert node.disk is not None
    assert 2.0 * MB == node.disk.slope


def test_programs_that_were_started_again_are_counted() -> None:
    """By the moment at which each was started; a node that tells nothing has no trend and no restart."""
    assert {"n00": 1, "n01": 0, "n02": 0} == {node.name: node.restarts for node in only().nodes}
    assert 1 == only().restarts
    assert only().nodes[2].memory is None


def test_one_wild_round_makes_no_slope() -> None:
    """A single value may be anything."""
    points = [(index, 10.0) for index in range(9)] + [(9, 1e9)]

    found = trend(points)

    assert found is not None
    assert 0.0 == found.slope
    assert not found.rises


def test_a_few_rounds_show_no_trend() -> None:
    """Five of them rise by chance too often."""
    found = trend([(index, float(index)) for index in range(5)])

    assert found is not None
    assert not found.rises
    assert trend([]) is None


def test_sentences_of_a_soak() -> None:
    """Success with its interval, drift of speed, memory, disk, restarts."""
    (said,) = sentences(tell(*soaked()))

    assert (
        "bittorrent spread 10 files one after the other with 3 nodes, 1 seeder, 50 MB: 10 succeeded (95 % interval 72 "
        "to 100 %); times do not rise (rho +0.17), memory of 1 node rises, by up to 1000 kB a file, 1 node kept up to "
        "2000 kB a file after its deletion, 1 restart of programs."
    ) == said


def test_the_question_of_a_soak() -> None:
    """A report of soaks alone does not ask how fast anything is."""
    assert "How does bittorrent stand a long run?" == title(tell(*soaked()))


def test_every_report_has_the_soak() -> None:
    """A table a node; in the page also plots over time."""
    told = tell(*soaked())
    page, text, document = html.document(told), writeup.document(told), json.loads(results.document(told))

    assert "Each node over the soak" in page
    assert "memory, MB against the number of the file" in page
    assert "| n00 | 50.0 | 59.0 | +1000.0 | +1.00 |" in text
    (soak,) = document["endurance"]
    assert (1, 1e6, True) == (
        soak["restarts"],
        soak["nodes"][0]["memory"]["slope"],
        soak["nodes"][0]["memory"]["rises"],
    )


def test_a_soak_lacks_no_rounds() -> None:
    """It ends with its time, not with a number."""
    assert not any("planned rounds" in sentence for sentence in limits(tell(*soaked())))


def test_what_nodes_hold_is_in_the_record_of_a_soak_alone() -> None:
    """Other rounds have no such keys, as before."""
    plain = round_of(cell(), 0, 1.0)
    with_rest = replace(plain, rest={"n00": Counters(rss_bytes=5, disk_bytes=6, started_at_s=7.5)})

    assert {"rest", "happened"} & set(plain.to_json()) == set()
    assert {"rss_bytes", "disk_bytes", "started_at_s"} & set(plain.to_json()["nodes"]["bittorrent-0"]) == set()
    assert 5 == with_rest.to_json()["rest"]["n00"]["rss_bytes"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No budget is spent on waiting for what else measures here: the lock is where temporary files are."""
    with tempfile.TemporaryDirectory(prefix="cb") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield


@pytest.mark.usefixtures("alone")
def test_a_soak_goes_on_until_its_budget_ends(bench: Bench) -> None:
    """More rounds than any matrix plans, on one cluster; each node's memory and disk are there after every file."""
    bench.matrix(SOAK)
    bench.pytester.makepyfile(
        test_spread=(Path(__file__).parent.parent / "tests_bench" / "test_stability.py").read_text()
    )

    bench.run("--cb-budget=12s").assert_outcomes(passed=1)

    rounds = list(bench.story().measured())
    (found,) = endurance(rounds)
    assert len(rounds) > 6
    assert [True] == [round_.warmup for round_ in bench.story().rounds if round_.warmup]
    assert {"n00", "n01"} == set(rounds[-1].rest)
    assert all((each.rss_bytes or 0) > MB and each.disk_bytes is not None for each in rounds[-1].rest.values())
    assert 0 == found.restarts
    assert [] == found.keeping


@pytest.mark.usefixtures("alone")
def test_what_stays_on_a_disk_is_seen(bench: Bench) -> None:
    """A node whose deletions free nothing: the negative control of the soak."""
    bench.matrix(SOAK)
    suite = Path(__file__).parent.parent / "tests_bench" / "test_stability.py"
    bench.pytester.makepyfile(test_spread=suite.read_text(encoding="utf-8"))
    bench.pytester.makeconftest(
        "from pytest_codexbench.agent.client import Node\nNode.delete = lambda self, name, handle, size=0: True\n"
    )

    bench.run("--cb-rounds=8")

    (found,) = endurance(bench.story().measured())
    assert {"n00", "n01"} == {node.name for node in found.keeping}
