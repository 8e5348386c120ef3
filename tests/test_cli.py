"""What `codexbench report` makes of a run's files."""

from __future__ import annotations

import builtins
import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import stories
from benches import LEAN, Bench
from stories import SIX, cell, rounds_of, run_of

from pytest_codexbench.cli import REPORT_FORMATS, main
from pytest_codexbench.records import Journal, Round
from pytest_codexbench.reports import DOCUMENTS
from pytest_codexbench.reports.rows import TABLES, rows

INF = math.inf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that ended: BitTorrent always arrives, http in two of six rounds."""
    told, run = stories.failing()
    return written(tmp_path / "run", told.rounds, run)


def written(place: Path, rounds: Sequence[Round], run: dict[str, Any]) -> Path:
    """A run's folder."""
    place.mkdir()
    for round_ in rounds:
        Journal(place).add(round_)
    (place / "run.json").write_text(json.dumps({**run, "ended_at": "2026-11-23T06:00:00+00:00"}), encoding="utf-8")
    return place


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_a_cell_and_metric(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The median with its interval, what never arrived as infinity, an empty field where there is no limit."""
    assert 0 == main(["report", str(folder), "--format=csv"])

    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    t100 = {row["variant"]: row for row in found if row["metric"] == "t100_s"}
    assert (2.0, 1.5, 2.6) == pytest.approx([float(t100["bittorrent"][name]) for name in ("median", "low", "high")])
    assert ("inf", "failed", "2", "6", "") == tuple(
        t100["http"][name] for name in ("median", "status", "succeeded", "rounds", "link")
    )
    assert {"more"} == {row["better"] for row in found if row["metric"] == "download_mb_s"}
    assert len(found) == len({(row["cell"], row["metric"]) for row in found})


def test_a_row_a_round_and_metric(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each round's own figures; a time that a failed round did not reach is infinite in it."""
    assert 0 == main(["report", str(folder), "--format=csv", "--table=rounds"])

    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    t100 = [row for row in found if (row["variant"], row["metric"]) == ("http", "t100_s")]
    assert [2.0, INF, INF, 2.0, INF, INF] == [float(row["value"]) for row in t100]
    assert ["True", "False", "False", "True", "False", "False"] == [row["success"] for row in t100]
    assert len(found) == len({(row["cell"], row["round"], row["metric"]) for row in found})


@pytest.mark.parametrize("name", stories.STORIES)
@pytest.mark.parametrize("table", TABLES)
def test_rows_have_their_columns(name: str, table: str) -> None:
    """Of any run, all of them and no other, each of its type; of a run without rounds there is no row."""
    for row in rows(table, *stories.STORIES[name]()):
        assert list(TABLES[table]) == list(row)
        assert all(value is None or isinstance(value, TABLES[table][column]) for column, value in row.items())


@pytest.mark.parametrize("table", TABLES)
def test_parquet_holds_the_same_rows(table: str, folder: Path) -> None:
    """As pyarrow reads them: infinity is infinity, no limit is null, and a column of nulls keeps its type."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it is Cython, and carries no annotations
    from pyarrow import parquet

    told, run = stories.failing()
    output = folder / "rows.parquet"

    assert 0 == main(["report", str(folder), "--format=parquet", f"--table={table}", f"--output={output}"])

    found = parquet.read_table(output)
    assert list(rows(table, told, run)) == found.to_pylist()
    assert pa.int64() == found.schema.field("link").type


def test_without_pyarrow_the_error_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parquet is in an extra; nothing else of the report needs it."""
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    assert 2 == main(["report", str(folder), "--format=parquet", "--output=x"])
    assert 0 == main(["report", str(folder), "--format=csv"])
    assert "pip install 'pytest-codexbench[parquet]'" in capsys.readouterr().err


def test_a_run_without_rounds_has_a_line_of_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads it finds the columns, and no row."""
    empty = written(tmp_path / "run", (), {})
    (empty / "records.jsonl").touch()

    assert 0 == main(["report", str(empty), "--format=csv"])

    assert [",".join(TABLES["cells"])] == capsys.readouterr().out.splitlines()


# --- trend pages ------------------------------------------------------------------------------------------------------


def test_an_array_for_a_trend_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The time that a cell is judged by, its interval as the range; what was not reached has no entry."""
    assert 0 == main(["report", str(folder), "--format=github-action-benchmark"])

    said = capsys.readouterr()
    assert [
        {
            "name": "bittorrent-n04-s02-50MB t100_s",
            "unit": "s",
            "value": pytest.approx(2.0),
            "range": "[1.50..2.60]",
            "extra": "6 of 6 rounds succeeded",
        }
    ] == json.loads(said.out)
    assert "customSmallerIsBetter" in said.err


def test_speeds_are_of_the_other_tool(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The action is told by its input which way is better: standard error says which it must be."""
    assert 0 == main(["report", str(folder), "--format=github-action-benchmark", "--metric=download_mb_s"])

    said = capsys.readouterr()
    assert [25.0, 0.0] == pytest.approx([one["value"] for one in json.loads(said.out)])
    assert {"MB/s"} == {one["unit"] for one in json.loads(said.out)}
    assert "customBiggerIsBetter" in said.err


def test_several_metrics_in_one_array(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare name is of the view that the cell tells, under its full name."""
    assert 0 == main(["report", str(folder), "--format=github-action-benchmark", "--metric=t50_s, overhead"])

    names = [one["name"].split()[1] for one in json.loads(capsys.readouterr().out)]
    assert ["available.t50_s", "overhead", "overhead"] == names


# --- any run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [form for form in REPORT_FORMATS if form != "parquet"])
def test_the_journal_alone_is_enough(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without run.json all is made that can be; that it is lost is said, and is no error."""
    (folder / "run.json").unlink()

    assert 0 == main(["report", str(folder), f"--format={form}"])

    said = capsys.readouterr()
    assert "bittorrent" in said.out
    assert "made from the journal alone" in said.err
    assert form != "all" or set(DOCUMENTS) <= {path.name for path in folder.iterdir()}


def test_a_damaged_journal_is_read_as_far_as_it_goes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A half line, a doubled round and an unknown schema are told; six rounds are still six."""
    journal = folder / "records.jsonl"
    first = journal.read_text(encoding="utf-8").splitlines()[0]
    with journal.open("a", encoding="utf-8") as file:
        file.write(f'{first}\n{{"schema": 99}}\n{first[:100]}')

    assert 0 == main(["report", str(folder)])

    said = capsys.readouterr()
    assert "6/6" in said.out
    for told in ("is there already; the first one counts", "schema 99 is not known", "not readable, left out"):
        assert told in said.err


def test_a_run_that_still_goes(bench: Bench) -> None:
    """While it measures, every document can be made of what there is, and the run goes on to its end as if not."""
    bench.matrix('shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 40\n[systems.http]\n')
    argv = [sys.executable, "-m", "pytest", "--matrix=mine.toml", *LEAN]
    process = subprocess.Popen(argv, cwd=bench.pytester.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not any(line for each in bench.folders for line in _lines(each)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)  # it is in the middle of something, for as long as the report takes
        shown = _command("report", str(bench.folder))
        rounds = _command("report", str(bench.folder), "--format=csv", "--table=rounds")
        os.kill(process.pid, signal.SIGCONT)

        assert 0 == process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert (0, 0) == (shown.returncode, rounds.returncode), shown.stderr + rounds.stderr
    assert "No end of this run is noted: it is still going, or was killed." in shown.stdout
    assert "http-n02-s01-1MB" in rounds.stdout
    assert 40 == bench.results()["cells"][0]["reliability"]["attempted"]


def _lines(folder: Path) -> list[str]:
    journal = folder / "records.jsonl"
    return journal.read_text(encoding="utf-8").splitlines()[1:] if journal.exists() else []


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest_codexbench.cli", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, message",
    [
        (["--table=rounds"], "--table=rounds is of --format=csv and --format=parquet"),
        (["--metric=t100_s"], "--metric=t100_s is of --format=github-action-benchmark"),
        (["--format=csv", "--metric=t100_s"], "--metric=t100_s is of --format=github-action-benchmark"),
        (["--output=x"], "--output=x takes one document: say which by --format"),
        (["--format=parquet"], "--format=parquet is binary: it needs --output=FILE"),
        (["--format=csv", "--output=/nowhere/x.csv"], "--output=/nowhere/x.csv: No such file or directory"),
        (["--format=parquet", "--output=/nowhere/x"], "--output=/nowhere/x: "),
        (["--format=xml"], "invalid choice: 'xml'"),
        (["--format=csv", "--table=nodes"], "invalid choice: 'nodes'"),
        (["--format=github-action-benchmark", "--metric=t99_s"], "no cell tells it; there are available.t100_s"),
        (
            ["--format=github-action-benchmark", "--metric=t100_s,download_mb_s"],
            "of download_mb_s more is better: an array of their own is needed",
        ),
    ],
)
def test_wrong_input(words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, an error that says what would be right, and nothing printed before."""
    try:
        status: object = main(["report", str(folder), *words])
    except SystemExit as stop:  # argparse's own
        status = stop.code

    said = capsys.readouterr()
    assert (2, "") == (status, said.out)
    assert message in said.err


def test_output_to_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be printed is in the file, and nothing is printed."""
    assert 0 == main(["report", str(folder), "--format=csv"])
    printed = capsys.readouterr().out
    assert 0 == main(["report", str(folder), "--format=csv", f"--output={folder / 'x.csv'}"])

    assert "" == capsys.readouterr().out
    assert printed == (folder / "x.csv").read_text(encoding="utf-8")


def test_a_large_run_has_all_of_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several cells, each with its own rounds: nothing is mixed up."""
    cells = [cell(size=size) for size in (1, 2, 3)]
    groups = [rounds_of(each, [seconds * each.size for seconds in SIX]) for each in cells]
    place = written(tmp_path / "run", [round_ for group in groups for round_ in group], run_of(*cells))

    assert 0 == main(["report", str(place), "--format=csv"])

    found = csv.DictReader(io.StringIO(capsys.readouterr().out))
    t100 = {row["cell"]: float(row["high"]) for row in found if row["metric"] == "t100_s"}
    assert [2.6 * 2, 2.6 * 3] == pytest.approx([t100[str(each)] for each in cells[1:]])
