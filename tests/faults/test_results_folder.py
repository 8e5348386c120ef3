"""Whatever happens to the folder of the results: what is recorded stays readable, and the run can be gone on with."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from benches import Bench
from underway import Underway, assert_each_round_once, resumed

from pytest_codexbench.records import read_journal

TINY = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = {rounds}\n[systems.http]\n'
CELL = "http-n02-s01-1MB"
# A file system of its own, which is gone with the process that has it: nothing remains, whatever ends that.
APART = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def why_no_mounts() -> str:
    """Why no file system can be mounted here; empty if one can."""
    try:
        done = subprocess.run([*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False, capture_output=True)
    except OSError as error:
        return str(error)
    return done.stderr.decode() if done.returncode else ""


mounts = pytest.mark.skipif(bool(why_no_mounts()), reason=f"nothing can be mounted here: {why_no_mounts()}")


def shell(script: str) -> list[str]:
    """A prefix that runs the command which follows it, ``"$@"``, in a shell with mounts of its own."""
    return [*APART, "sh", "-c", script, "sh"]


def bound() -> Sequence[str]:
    """A prefix by which permissions also bind root."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("permissions do not bind root, and there is no setpriv")
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]


@pytest.fixture
def tiny(bench: Bench) -> Callable[[int], Bench]:
    """A matrix of one small cell."""

    def with_rounds(rounds: int) -> Bench:
        bench.matrix(TINY.format(rounds=rounds))
        (bench.pytester.path / "results").mkdir()
        return bench

    return with_rounds


@mounts
@pytest.mark.parametrize("moment", ["while it measures", "between two rounds, to the last byte"])
def test_a_full_disk_under_the_results(tiny: Callable[[int], Bench], moment: str) -> None:
    """The run ends with what the disk said, earlier records stay, and with room again it goes on where it was."""
    bench = tiny(100 if moment == "while it measures" else 6)
    last = (
        ""
        if moment == "while it measures"
        else """
        (until grep -qs '"index":0' results/*/records.jsonl; do sleep 0.01; done
        cat /dev/zero > results/filler 2> /dev/null) &
    """
    )
    script = f"""
        mount -t tmpfs -o size=120k tmpfs results
        {last}
        "$@"; echo "status $?"; wait
        cp -r results kept
        rm -f results/filler; mount -o remount,size=9m results
        "$@" --cb-resume=latest; echo "status $?"
        cp -r results/* kept2
    """
    (bench.pytester.path / "kept2").mkdir()
    run = Underway(bench, before=shell(script))

    said = run.ended()

    first, second, _ = said.split("status ")
    assert "cannot be written, so nothing more is measured: No space left on device" in first
    assert "go on with --cb-resume=" in first
    assert second.startswith("1\n")
    assert said.rstrip().endswith("status 0")
    (short,) = bench.pytester.path.glob("kept/*/records.jsonl")
    (whole,) = bench.pytester.path.glob("kept2/*/records.jsonl")
    assert 0 < len(list(read_journal(short).measured())) < len(list(read_journal(whole).measured()))
    assert () == read_journal(short).problems
    assert whole.read_bytes().startswith(short.read_bytes())


@mounts
def test_a_read_only_file_system_is_refused_before_anything_starts(tiny: Callable[[int], Bench]) -> None:
    """For a new run, and for one that is to be gone on with: a wrong option, which names the folder."""
    bench = tiny(2)
    Underway(bench).ended()
    script = 'mount --bind results results; mount -o remount,ro,bind results; exec "$@"'

    for arguments, option in (((), "--cb-results=results"), (("--cb-resume=latest",), "--cb-resume=latest")):
        run = Underway(bench, *arguments, before=shell(script))
        said = run.ended()

        assert pytest.ExitCode.USAGE_ERROR == run.process.returncode
        assert f"ERROR: {option}: Read-only file system: results/" in said
    assert_each_round_once(resumed(bench), 2, CELL)


def test_a_folder_that_may_no_longer_be_written(tiny: Callable[[int], Bench]) -> None:
    """When the rights are taken away in the middle, the run says so and keeps its records; given back, it goes on."""
    bench = tiny(40)
    run = Underway(bench, before=bound())
    run.wait_until_moving(1)
    journal = run.journal
    assert journal is not None
    for path, mode in ((journal, 0o444), (journal.parent, 0o555)):
        path.chmod(mode)

    said = run.ended()

    kept = run.rounds()
    assert "cannot be written, so nothing more is measured: Permission denied" in said
    assert f"go on with --cb-resume={journal.parent.name}" in said
    assert 1 <= len(kept) < 40
    refused = Underway(bench, "--cb-resume=latest", before=bound())
    assert "ERROR: --cb-resume=latest: Permission denied" in refused.ended()
    for path, mode in ((journal.parent, 0o755), (journal, 0o644)):
        path.chmod(mode)
    assert_each_round_once(resumed(bench), 40, CELL)


@pytest.mark.parametrize("cut", ["in the last line", "in the middle", "at the start", "to nothing"])
def test_a_truncated_journal(tiny: Callable[[int], Bench], cut: str) -> None:
    """The lines that are whole count, the broken one is told of, and the rounds that it takes are measured again."""
    bench = tiny(4)
    first = Underway(bench)
    first.ended()
    assert first.journal is not None
    whole = first.journal.read_bytes()
    at = {"in the last line": len(whole) - 9, "in the middle": len(whole) // 2, "at the start": 40, "to nothing": 0}
    first.journal.write_bytes(whole[: at[cut]])
    left = len(first.rounds())
    assert left == {"in the last line": 3, "in the middle": left, "at the start": 0, "to nothing": 0}[cut]

    again = resumed(bench)

    assert {(CELL, index) for index in range(4)} == {(str(each.cell), each.index) for each in again.rounds()}
    assert whole[: at[cut]].count(b"\n") == first.journal.read_bytes()[: at[cut]].count(b"\n")
    problems = read_journal(first.journal).problems
    assert (0 if cut == "to nothing" else 1) == len(problems)
    assert all("not readable, left out" in each and f"journal: {each}" in again.log.read_text() for each in problems)


def test_a_run_is_not_gone_on_with_beside_itself(bench: Bench) -> None:
    """A second pytest is refused at once, names why, and harms nothing."""
    bench.matrix(TINY.format(rounds=400))
    first = Underway(bench)
    first.wait_until_moving(1)

    second = Underway(bench, "--cb-resume=latest")
    said = second.ended()

    assert pytest.ExitCode.USAGE_ERROR == second.process.returncode
    assert "another pytest is writing to this run; wait for its end" in said
    assert first.process.poll() is None
    first.process.terminate()
    first.ended()
    journal = first.journal
    assert journal is not None
    assert () == read_journal(journal).problems


def test_two_new_runs_at_once_have_a_folder_each(tiny: Callable[[int], Bench]) -> None:
    """Started in the same second in the same place, each writes its own records, all of them."""
    bench = tiny(3)
    runs = [Underway(bench), Underway(bench)]

    said = [run.ended() for run in runs]

    assert [0, 0] == [run.process.returncode for run in runs], said
    journals = list(Path(bench.pytester.path).glob("results/*/records.jsonl"))
    assert 2 == len(journals)
    for journal in journals:
        story = read_journal(journal)
        assert [0, 1, 2] == [round_.index for round_ in story.measured()]
        assert () == story.problems
