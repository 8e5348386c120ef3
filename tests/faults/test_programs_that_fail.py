"""Programs that do not start, hang, talk without end or answer nonsense: who it was and why is told, and it goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from benches import Bench
from underway import Underway, assert_each_round_once, resumed

MB = 10**6
NOT_UP_S = 2
# A node has a minute to get ready, and gets another chance.
IMPATIENT = f"import pytest_codexbench.backends.local as local\nlocal.NODE_S = {NOT_UP_S}\n"
MENDED = "FAULTY_MENDED"
CELL = "faulty-n02-s01-1MB"


@pytest.fixture
def broken(bench: Bench) -> Callable[[str], Bench]:
    """Two rounds over nodes with a fault."""

    def with_fault(name: str) -> Bench:
        bench.matrix(f'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 2\n[systems.faulty]\nfault = "{name}"\n')
        bench.pytester.makeconftest(IMPATIENT)
        return bench

    return with_fault


@pytest.mark.parametrize(
    "fault, told",
    [
        ("not executable", "n00/program is not an executable program"),
        ("wrong format", "n00/program is a program for another kind of machine than this one"),
        ("hangs", f"faulty node n00 was not ready within {NOT_UP_S} s (asked last: "),
        ("answers garbage", "BadStatusLine"),
        ("port taken", "7070: [Errno 98] Address already in use"),
        ("talks and exits", "exited with status 3 before it was ready; the end of its log: blah"),
    ],
)
def test_a_program_that_does_not_come_up(
    broken: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    """It is an error in set-up that says why, in a few lines; once that is mended, the run can be gone on with."""
    bench = broken(fault)
    first = Underway(bench)

    said = first.ended()

    assert pytest.ExitCode.TESTS_FAILED == first.process.returncode
    assert told in said
    assert len(said) < 20_000
    assert ["error"] == [cell["status"] for cell in bench.results()["cells"]]
    for log in bench.pytester.path.glob("results/*/logs/*/*.log"):
        os.truncate(log, 0)
    monkeypatch.setenv(MENDED, "1")
    assert_each_round_once(resumed(bench), 2, CELL)


def test_a_node_that_prints_100_million_bytes(broken: Callable[[str], Bench]) -> None:
    """They are in its log and nowhere else; the node is measured as any other."""
    run = Underway(broken("talks"))

    run.ended()

    assert 0 == run.process.returncode
    assert_each_round_once(run, 2, CELL)
    sizes = {path.name: path.stat().st_size for path in run.results.rglob("*") if path.is_file()}
    assert 100 * MB <= sizes.pop("n00.log") < 101 * MB
    assert 100 * MB <= sizes.pop("n01.log") < 101 * MB
    assert sum(sizes.values()) < 2 * MB
    for log in run.results.glob("*/logs/*/n0?.log"):
        log.unlink()


def test_a_seeder_that_serves_garbage(broken: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its leecher's transfers fail and say what came instead; what was recorded stays so."""
    bench = broken("serves garbage")
    run = Underway(bench)

    said = run.ended()

    assert pytest.ExitCode.TESTS_FAILED == run.process.returncode
    assert "faulty node n01: GET http://" in said
    assert "BadStatusLine" in said
    assert [False, False] == [round_.success for round_ in run.rounds()]
    monkeypatch.setenv(MENDED, "1")
    assert_each_round_once(resumed(bench), 2, CELL)


def test_a_program_that_is_named_and_cannot_be_run(bench: Bench) -> None:
    """Named by an option, it is refused before anything starts."""
    program = bench.pytester.path / "program"
    program.write_bytes(b"")
    run = Underway(bench, f"--cb-ipfs-bin={program}")

    said = run.ended()

    assert pytest.ExitCode.USAGE_ERROR == run.process.returncode
    assert f"ERROR: --cb-ipfs-bin={program}: not an executable program" in said
    assert [] == bench.folders
