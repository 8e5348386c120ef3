"""What goes wrong with nodes, and what a run says of it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benches import Bench

from pytest_codexbench.records import read_journal

Fault = Callable[..., Bench]


@pytest.mark.parametrize(
    "name, outcome, text",
    [
        ("wrong byte", "corrupt", "but their digest is"),
        ("dies", "failed", "was ended by SIGKILL"),
        ("short", "failed", "2999999 bytes are announced, not 3000000"),
        ("silent", "late", "the deadline passed with 0 of 3000000 bytes"),
        ("breaks", "failed", "its driver broke: RuntimeError: boom"),
        ("tells too much", "failed", "its driver told that it holds more than 3000000 bytes"),
    ],
)
def test_a_bad_transfer_fails_its_cell(fault: Fault, name: str, outcome: str, text: str) -> None:
    """A wrong byte, a dead leecher, a short file, a passed deadline, a bad driver each fail the cell, and are named."""
    bench = fault(name, size="3MB" if name != "dies" else "40MB")

    run = bench.run("--cb-deadline=3")

    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines([f"*{text}*"])
    (round_,) = bench.story().measured()
    (transfer,) = round_.transfers
    assert outcome == transfer.outcome
    assert text in (transfer.error or "")
    assert transfer.timelines


def test_the_partial_timeline_of_a_dead_leecher_is_kept(fault: Fault) -> None:
    """A leecher that dies half-way leaves its marks up to there, and the end of its log is in the report."""
    bench = fault("dies", size="40MB")

    bench.run()

    (round_,) = bench.story().measured()
    timeline = round_.transfers[0].timelines["contiguous"]
    assert timeline.seconds_to(50) < float("inf")
    assert timeline.seconds_to(100) == float("inf")
    assert round_.transfers[0].log_tail is not None


def test_after_a_dead_node_the_next_round_has_a_fresh_cluster(fault: Fault) -> None:
    """One round's dead node is no excuse for the next round: each round fails by its own doing."""
    bench = fault("dies", rounds=2, size="40MB")

    bench.run()

    assert ["was ended by SIGKILL"] * 2 == [
        text for round_ in bench.story().measured() for text in ("was ended by SIGKILL",) if text in str(round_.failure)
    ]


def test_seeders_must_agree_on_the_handle(fault: Fault) -> None:
    """Same bytes, other handle: the round fails and says which seeders differ."""
    bench = fault("handles differ")

    run = bench.run()

    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["*so the handles should be the same*"])


def test_a_file_that_stays_after_its_deletion_is_flagged(fault: Fault) -> None:
    """Deletion is checked, and a node that keeps the file is told of in the record."""
    bench = fault("keeps")

    bench.run()

    (round_,) = bench.story().measured()
    assert 3 == sum("still held the file after its deletion" in flag for flag in round_.flags)
    assert ("n00", "n01", "n02") == round_.left_on


def test_why_a_deletion_failed_is_in_the_record(fault: Fault) -> None:
    """The node's own words are in the flag."""
    bench = fault("cannot delete")

    bench.run()

    (round_,) = bench.story().measured()
    assert all("DELETE: status 500" in flag for flag in round_.flags if "still held" in flag)
    assert 3 == len(round_.left_on)


def test_after_a_node_that_kept_something_the_next_round_has_a_fresh_cluster(fault: Fault) -> None:
    """Rounds never share blocks: what one left behind is not there for the next."""
    bench = fault("keeps", rounds=2)

    bench.run()

    assert [True, True, False, False] == [round_.warmup for round_ in bench.story().rounds]


def test_a_driver_that_cannot_count_loses_its_own_counters_alone(fault: Fault) -> None:
    """Payload is unknown then; the wire, the memory and the times are measured all the same."""
    bench = fault("no traffic")

    bench.run().assert_outcomes(passed=1)

    (round_,) = bench.story().measured()
    assert {None} == {counters.payload_rx_bytes for counters in round_.nodes.values()}
    assert all(counters.rss_peak_bytes for counters in round_.nodes.values())


def test_a_publish_without_its_time_fails_the_round(fault: Fault) -> None:
    """A driver that does not tell how long it took is told so."""
    bench = fault("no seconds")

    bench.run().assert_outcomes(failed=1)

    (round_,) = bench.story().measured()
    assert "its driver did not tell publish_s" in (round_.failure or "")


@pytest.mark.parametrize(
    "name, text",
    [
        ("exits", "*exited with status 3 before it was ready*no such flag*"),
        ("no program", "*could not be started*"),
        ("no address", "*gave a contact without address*"),
    ],
)
def test_a_node_that_does_not_start_is_an_error_in_setup(fault: Fault, name: str, text: str) -> None:
    """Infrastructure trouble is an error, not a failure, and carries the end of the node's log."""
    bench = fault(name)

    run = bench.run()

    run.assert_outcomes(errors=1)
    assert any(all(part in line for part in text.split("*")) for line in [run.stdout.str().replace("\n", " ")])
    assert "error" == bench.results()["cells"][0]["status"]


def test_a_system_that_is_not_here_is_skipped_with_the_way_out(fault: Fault) -> None:
    """A cell that cannot run here is skipped, with the reason."""
    bench = fault("missing")

    run = bench.run("-rs")

    run.assert_outcomes(skipped=1)
    run.stdout.fnmatch_lines(["*the program is not there; install it*"])


def test_one_systems_trouble_leaves_the_others_alone(bench: Bench) -> None:
    """In one block, a system that does not come up errs, and the other one is measured."""
    bench.matrix('shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.faulty]\nfault = "exits"\n[systems.http]\n')

    run = bench.run()

    run.assert_outcomes(errors=1, passed=1)


@pytest.fixture
def small_disk() -> Iterator[Callable[[str], Path]]:
    """Mounts file systems of a few megabytes; needs root."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        if os.geteuid():
            pytest.skip("only root mounts a file system")
        # a short path: sockets are made below it
        path = Path(tempfile.mkdtemp(prefix="disk-"))
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=False)
        if done.returncode:
            path.rmdir()
            pytest.skip("mount is not allowed here")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)
        path.rmdir()


def test_a_full_disk_under_the_nodes_says_so(fault: Fault, small_disk: Callable[[str], Path]) -> None:
    """A leecher whose disk is full fails its transfer with the disk's own words."""
    bench = fault("full disk")

    run = bench.run(f"--cb-data={small_disk('80m')}")

    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["*No space left on device*"])


def test_a_full_disk_under_the_results_keeps_what_is_recorded(bench: Bench, small_disk: Callable[[str], Path]) -> None:
    """When the journal cannot grow, the run says so, stops measuring, and earlier records stay readable."""
    disk = small_disk("120k")
    bench.matrix('shapes = [[2, 1]]\nsizes = ["1MB", "2MB"]\nrounds = 60\n[systems.http]\n')

    run = bench.run(f"--cb-results={disk}/results", "--cb-deadline=5")

    assert 1 == run.ret
    run.stdout.fnmatch_lines(["*cannot be written, so nothing more is measured*No space left*"])
    (journal,) = disk.glob("results/*/records.jsonl")
    story = read_journal(journal)
    assert story.rounds
    assert () == story.problems


def test_a_cell_too_large_for_the_disk_is_skipped(bench: Bench, small_disk: Callable[[str], Path]) -> None:
    """A cell that the disk cannot hold is skipped with the figure and the way out."""
    bench.matrix('shapes = [[2, 1]]\nsizes = ["100MB"]\n[systems.http]\n')

    run = bench.run(f"--cb-data={small_disk('50m')}", "-rs")

    run.assert_outcomes(skipped=1)
    run.stdout.fnmatch_lines(["*needs 300 MB of disk*give another folder by --cb-data*"])
