"""What the documents of a run say."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import stories
from stories import MB, STORIES, cell, round_of, rounds_of, run_of, story

from pytest_codexbench.errors import BenchError
from pytest_codexbench.metrics import summarise
from pytest_codexbench.records import Journal, Note, Story
from pytest_codexbench.reports import DOCUMENTS, benchmark, junit, markdown, results, write_all
from pytest_codexbench.reports.comparisons import NO_COPY, comparisons, standings
from pytest_codexbench.reports.outcomes import outcomes
from pytest_codexbench.reports.results import results_document
from pytest_codexbench.reports.schema import SCHEMAS, record_schema, results_schema
from pytest_codexbench.reports.terminal import closing_lines, render
from pytest_codexbench.reports.told import Told, tell

SCHEMA_FOLDER = Path(__file__).parent.parent / "schemas"
each_story = pytest.mark.parametrize("name", STORIES)


def told_of(name: str) -> tuple[Story, dict[str, Any]]:
    """The story of that name, as its journal and its provenance."""
    told: tuple[Story, dict[str, Any]] = STORIES[name]()
    return told


def strictly(text: str) -> Any:
    """JSON in which NaN or Infinity is an error, as the standard has it."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def page_of(told: tuple[Story, dict[str, Any]], width: int = 140) -> str:
    """What a terminal of that width shows."""
    from rich.console import Console

    page = io.StringIO()
    render(*told, Console(file=page, width=width, no_color=True))
    return page.getvalue()


def saved(folder: Path, told: tuple[Story, dict[str, Any]]) -> Path:
    """A run's folder with this story in it."""
    journal = Journal(folder)
    for round_ in told[0].rounds:
        journal.add(round_)
    for note in told[0].notes:
        journal.add(note)
    (folder / "run.json").write_text(json.dumps(told[1]), encoding="utf-8")
    return folder


def parsed(told: tuple[Story, dict[str, Any]]) -> ET.Element:
    """junit.xml as a reader of it sees it."""
    return ET.fromstring(junit.document(tell(*told)).encode())  # noqa: S314 - written a moment ago, by ourselves


# --- what became of a cell --------------------------------------------------------------------------------------------


def test_rounds_decide_over_notes() -> None:
    """A cell is failed if any round failed, else passed; notes count only where there is no round."""
    good, bad, late, broken, never = (cell(name) for name in ("bittorrent", "http", "codex", "ipfs", "codex.new"))
    notes = [Note("error", good, "came up late"), Note("error", late, "no"), Note("skipped", late, "not here")]
    notes.append(Note("error", broken, "did not come up"))
    told = story(rounds_of(good, (1.0, 1.0)), rounds_of(bad, (1.0, math.inf)), notes=notes)

    found = outcomes(told, run_of(good, bad, late, broken, never))

    statuses = {outcome.cell.system: (outcome.status, outcome.reason) for outcome in found}
    assert ("passed", None) == statuses["bittorrent"]
    assert "failed" == statuses["http"][0]
    assert ("skipped", "not here") == statuses["codex"]
    assert ("error", "did not come up") == statuses["ipfs"]
    assert ("not run", "no round of it was run") == statuses["codex.new"]


def test_a_failure_is_told_with_its_round() -> None:
    """The reason of a failed cell says how many rounds failed, and how the first one did."""
    (_, http) = outcomes(*stories.failing())

    assert http.reason is not None
    assert http.reason.startswith("4 of 6 rounds failed; the first, round 1: http-2 had 40 % of the file")


def test_cells_of_a_damaged_provenance() -> None:
    """A cell that run.json tells wrongly is left out; those of the journal are there all the same."""
    told, run = stories.single()
    run["cells"] = [{"variant": "http"}, None, *run["cells"]]

    assert [told.rounds[0].cell] == [outcome.cell for outcome in outcomes(told, run)]


def test_warm_ups_are_no_cells() -> None:
    """A round that warmed a cluster up is counted apart and makes no cell."""
    warm = round_of(cell(size=10 * MB), -1, 0.3)
    told = story([warm], rounds_of(cell(), (1.0,)))

    document = results_document(tell(told, {}))

    assert (["bittorrent-n04-s02-50MB"], 1) == ([one["id"] for one in document["cells"]], document["warmups"])


# --- comparisons ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "systems,kind,expected",
    [
        (("codex", "http", "bittorrent"), "download", "bittorrent"),
        (("codex", "bittorrent.stock", "http"), "download", "bittorrent.stock"),
        (("codex", "http"), "download", "http"),
        (("codex.new", "codex"), "download", "codex.new"),
        (("bittorrent", "codex", "http"), "upload", "http"),
        (("bittorrent", "codex"), "upload", "codex"),
    ],
)
def test_the_reference_of_a_block(systems: tuple[str, ...], kind: str, expected: str) -> None:
    """BitTorrent, else http, else the first; uploads are not compared with BitTorrent while there is another."""
    cells = [cell(name, 2, 1, kind=kind) for name in systems]

    compared = comparisons(outcomes(story(*(rounds_of(each, (1.0,)) for each in cells)), run_of(*cells)))

    assert {expected} == {comparison.reference.system for comparison in compared}
    assert len(systems) - 1 == len(compared)


def test_a_reference_without_rounds_is_none() -> None:
    """Where BitTorrent did not run, the others are compared with http."""
    cells = [cell("bittorrent"), cell("http"), cell("codex")]
    told = story(rounds_of(cells[1], (1.0,)), rounds_of(cells[2], (2.0,)), notes=[Note("skipped", cells[0], "why")])

    (comparison,) = comparisons(outcomes(told, run_of(*cells)))

    assert ("codex", "http") == (comparison.subject.system, comparison.reference.system)


@pytest.mark.parametrize(
    "factors,expected",
    [
        ((0.5, 0.6, 0.7, 0.8, 0.9, 0.95), "faster"),
        ((0.9, 1.0, 1.1, 1.1, 1.1, 1.15), "within 1.2x"),
        ((1.1, 1.3, 1.5, 1.5, 1.6, 1.9), "within 2x"),
        ((1.3, 1.5, 1.7, 1.9, 2.5, 3.0), "over 1.2x"),
        ((2.1, 2.5, 3.0, 3.0, 3.0, 9.0), "over 2x"),
        ((0.9, 1.1, 1.3, 1.7, 2.2, 2.5), "inconclusive"),
        ((0.5, 0.6, 0.7, 0.8, 0.9), ""),
    ],
)
def test_verdict_in_a_word(factors: tuple[float, ...], expected: str) -> None:
    """The word is of the whole interval of the ratio; fewer than 6 rounds give none."""
    first, second = cell(), cell("http")
    told = story(rounds_of(first, [1.0] * len(factors)), rounds_of(second, factors))

    (comparison,) = comparisons(outcomes(told, run_of(first, second)))

    assert expected == comparison.word


def test_no_round_in_both() -> None:
    """Systems that share no round have no ratio, and the comparison says why."""
    first, second = cell(), cell("http")
    told = story([round_of(first, 0, 1.0)], [round_of(second, 1, 1.0)])

    (comparison,) = comparisons(outcomes(told, run_of(first, second)))

    assert (None, 0, "no round was run in both") == (comparison.ratio, comparison.pairs, comparison.note)


def test_neither_arrived() -> None:
    """Rounds in which neither arrives say nothing of the ratio, and are counted."""
    first, second = cell(), cell("http")
    told = story(rounds_of(first, (math.inf, 2.0)), rounds_of(second, (math.inf, 5.0)))

    (comparison,) = comparisons(outcomes(told, run_of(first, second)))

    assert comparison.ratio is not None
    assert (2.5, 2, 1) == (comparison.ratio.median, comparison.pairs, comparison.neither)


@pytest.mark.parametrize("count,expected", [(6, 0), (10, 2)])
def test_which_blocks_fail_of_all_that_are_looked_at(count: int, expected: int) -> None:
    """Two of nine blocks are slower in each round: six rounds are too few to say so of nine at once, ten are enough."""
    sizes = [size * MB for size in range(1, 10)]
    groups = [
        rounds_of(cell(name, size=size), [2.0 if name == "http" and size > 7 * MB else 1.0] * count)
        for size in sizes
        for name in ("bittorrent", "http")
    ]

    (standing,) = standings(comparisons(outcomes(story(*groups), {})))

    assert 2 == standing.count(1.2, "fail")
    assert expected == len(standing.failing(1.2))


# --- results.json -----------------------------------------------------------------------------------------------------


@each_story
def test_results_keep_to_their_schema(name: str) -> None:
    """Every results.json validates against the published schema."""
    document = strictly(results.document(tell(*told_of(name))))

    jsonschema.validate(document, results_schema(), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", SCHEMAS)
def test_published_schemas_are_current(name: str) -> None:
    """The files in schemas/ are what the models make today."""
    published = json.loads((SCHEMA_FOLDER / f"{name}-1.json").read_text(encoding="utf-8"))

    assert SCHEMAS[name]() == published


@each_story
def test_records_keep_to_their_schema(name: str) -> None:
    """Every line of a journal validates against the published schema."""
    told, _ = told_of(name)
    validator = jsonschema.Draft202012Validator(record_schema())

    for data in [*(round_.to_json() for round_ in told.rounds), *(note.to_json() for note in told.notes)]:
        validator.validate(json.loads(json.dumps(data, allow_nan=False)))


def test_a_wrong_record_is_refused() -> None:
    """The schema of records is no rubber stamp."""
    data = json.loads(json.dumps(round_of(cell(), 0, 1.0).to_json()))
    data["transfers"][0]["outcome"] = "fine"

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, record_schema())


def test_schemas_stand_what_later_versions_add() -> None:
    """Within a version keys may be added: a document with one more is valid."""
    document = results_document(tell(*stories.normal()))
    document["cells"][0]["colour"] = "green"

    jsonschema.validate(document, results_schema())


def test_figures_of_a_cell() -> None:
    """Six rounds: the median, the interval from the least to the largest, its coverage, the speed of the median."""
    document = results_document(tell(*stories.normal()))
    bittorrent = document["cells"][0]

    t100 = bittorrent["summary"]["t100_s"]
    assert (True, 1.5, 2.6, 0.96875, 6) == tuple(t100[key] for key in ("reached", "low", "high", "level", "count"))
    assert 2.0 == pytest.approx(t100["median"])
    assert 25.0 == pytest.approx(bittorrent["mb_s"])
    assert 1.0 == pytest.approx(bittorrent["summary"]["available.t50_s"]["median"])
    assert 0.05 == pytest.approx(bittorrent["summary"]["overhead"]["median"])
    assert 0.5 == pytest.approx(bittorrent["summary"]["seeder_share"]["median"])
    assert (6, 6, 12, 12) == tuple(
        bittorrent["reliability"][key] for key in ("succeeded", "attempted", "transfers_ok", "transfers_attempted")
    )


def test_figures_of_a_comparison() -> None:
    """Paired by round, http takes 1.5 times BitTorrent's seconds: over the margin 1.2, within 2."""
    (comparison,) = results_document(tell(*stories.normal()))["comparisons"]
    (http,) = comparison["subjects"]

    assert ("bittorrent", "t100_s", "n04-s02-50MB") == tuple(
        comparison[key] for key in ("reference", "metric", "block")
    )
    assert [1.5] * 3 == pytest.approx([http["ratio"][key] for key in ("median", "low", "high")])
    assert [(1.2, "fail"), (2.0, "pass")] == [(each["margin"], each["verdict"]) for each in http["verdicts"]]
    assert (6, 0, True) == (http["pairs"], http["neither"], http["paired_in_time"])


def test_results_without_flagged_rounds() -> None:
    """A flagged round stays in the summary; beside it is the summary without."""
    document = results_document(tell(*stories.normal()))
    bittorrent, http = document["cells"]

    assert (0, None) == (bittorrent["flagged_rounds"], bittorrent["without_flagged"])
    assert (1, 6, 5) == (
        http["flagged_rounds"], http["summary"]["t100_s"]["count"], http["without_flagged"]["t100_s"]["count"]
    )  # fmt: skip
    assert 5 == document["comparisons"][0]["subjects"][0]["without_flagged"]["count"]


def test_what_was_not_reached() -> None:
    """An infinite median is null and said not to be reached; the round names the figures it did not reach."""
    http = results_document(tell(*stories.failing()))["cells"][1]

    t100 = http["summary"]["t100_s"]
    assert (False, None, None, 2.0) == tuple(t100[key] for key in ("reached", "median", "high", "low"))
    assert ("failed", None, 2, 6) == (
        http["status"], http["mb_s"], http["reliability"]["succeeded"], http["reliability"]["attempted"]
    )  # fmt: skip
    assert (0.0968, 0.7000) == pytest.approx((http["reliability"]["low"], http["reliability"]["high"]), abs=1e-4)
    assert "t100_s" in http["rounds"][1]["not_reached"]
    assert "t100_s" not in http["rounds"][1]["figures"]
    assert {"failed"} == {transfer["outcome"] for transfer in http["rounds"][1]["transfers"]}


def test_a_range_is_no_interval() -> None:
    """Two rounds have a range without a level, and no verdict is claimed."""
    document = results_document(tell(*stories.short()))

    assert {None} == {one["summary"]["t100_s"]["level"] for one in document["cells"]}
    (http,) = document["comparisons"][0]["subjects"]
    assert {"inconclusive"} == {each["verdict"] for each in http["verdicts"]}
    assert ("", None) == (http["word"], http["ratio"]["level"])


def test_bittorrent_uploads_get_no_verdict() -> None:
    """Codex publishes in twice the time of http; BitTorrent is shown, with the reason why it is not judged."""
    document = results_document(tell(*stories.uploads()))
    codex, bittorrent = document["comparisons"][0]["subjects"]

    assert ("http", "publish_s") == (document["comparisons"][0]["reference"], document["comparisons"][0]["metric"])
    assert (2.0, ["fail", "pass"]) == (codex["ratio"]["median"], [each["verdict"] for each in codex["verdicts"]])
    assert (0.25, f"bittorrent {NO_COPY}") == (bittorrent["ratio"]["median"], bittorrent["note"])
    assert {None} == {each["verdict"] for each in bittorrent["verdicts"]}
    assert ["codex"] == [standing["subject"] for standing in document["standings"]]


def test_an_upload_has_no_arrivals() -> None:
    """The publishing node's figures are its own durations; what proves the upload is told apart."""
    transfers = results_document(tell(*stories.uploads()))["cells"][0]["rounds"][0]["transfers"]

    assert ["upload", "proof"] == [transfer["kind"] for transfer in transfers]
    assert ({"publish_s": 4.0, "upload_accept_s": 2.0}, []) == (transfers[0]["figures"], transfers[0]["not_reached"])


def test_standing_over_all_blocks() -> None:
    """Over blocks: the geometric mean, beside it the worst block, and how many keep each margin."""
    cells = [cell(size=size) for size in (10 * MB, 50 * MB)] + [cell("http", size=size) for size in (10 * MB, 50 * MB)]
    told = story(*(rounds_of(each, [seconds] * 6) for each, seconds in zip(cells, (1, 1, 1, 4), strict=True)))

    (standing,) = results_document(tell(told, run_of(*cells)))["standings"]

    assert (2.0, 4.0, "n04-s02-50MB") == tuple(standing[k] for k in ("geometric_mean", "worst_ratio", "worst_block"))
    assert [(1, 1), (1, 1)] == [(each["passed"], each["failed"]) for each in standing["margins"]]


@pytest.mark.parametrize(
    "seconds,rho,expected",
    [((1, 2, 3, 4, 5, 6), 1.0, True), ((2, 1, 6, 5, 3, 4), 0.4286, False), ((1, 2, 3, 4, 5), 1.0, False)],
)
def test_drift_is_flagged_where_it_can_be_told(seconds: tuple[float, ...], rho: float, expected: bool) -> None:
    """Times that grow with the round are flagged; of too few rounds for an interval that would be chance."""
    (one,) = results_document(tell(story(rounds_of(cell(), seconds)), {}))["cells"]

    assert {"rho": pytest.approx(rho, abs=1e-4), "flagged": expected} == one["drift"]


def test_environments_are_told_once() -> None:
    """Rounds name where they were measured by its position in one list."""
    document = results_document(tell(*stories.normal()))

    assert ["Ryzen"] == [place["machine"]["processor"] for place in document["environments"]]
    assert {0} == {each["environment"] for one in document["cells"] for each in one["rounds"]}


# --- benchmark.json ---------------------------------------------------------------------------------------------------


@each_story
def test_benchmark_entries_hold_rounds(name: str) -> None:
    """benchmark.json has no entry without rounds, and nothing that is no number."""
    document = strictly(benchmark.document(tell(*told_of(name))))

    for entry in document["benchmarks"]:
        assert 0 < entry["stats"]["rounds"] == len(entry["stats"]["data"])
        assert all(math.isfinite(value) for value in entry["stats"]["data"])


def test_benchmark_takes_rounds_that_succeeded() -> None:
    """Of six rounds, four of which failed, two are in the data, and the rest is told beside it."""
    entries = benchmark.entries(stories.failing()[0].measured())
    http = next(each for each in entries if each.fullname == "test_download[http-n04-s02-50MB]::t100_s")

    assert ("t100_s", [2.0, 2.0]) == (http.group, http.stats.data)
    assert (4, None, [2.0, None]) == tuple(http.extra_info[key] for key in ("failed_rounds", "mb_s", "interval"))
    assert ("http", 4, 2, 50 * MB) == tuple(http.extra_info[key] for key in ("system", "nodes", "seeders", "size"))


def test_benchmark_leaves_out_what_failed_in_part() -> None:
    """A round in which one leecher of three failed has a median over leechers, but is no success."""
    what = cell("http", 4, 1)
    bad = round_of(what, 1, 9.0)
    bad = replace(bad, transfers=(*bad.transfers[:2], replace(bad.transfers[2], outcome="late", error="late")))

    entries = benchmark.entries([round_of(what, 0, 2.0), bad])

    assert {1} == {each.stats.rounds for each in entries}
    assert [2.0] == next(each.stats.data for each in entries if each.group == "t100_s")


def test_benchmark_names_the_view() -> None:
    """Times to a part of the file carry their view in the metric's name: available, or what the node can tell."""
    cells = [cell("bittorrent"), cell("codex")]

    entries = benchmark.entries([round_of(each, 0, 1.0) for each in cells])

    groups = {(each.extra_info["system"], each.group) for each in entries}
    assert {("bittorrent", "available.t50_s"), ("codex", "contiguous.t50_s"), ("codex", "t100_s")} <= groups
    assert 2 * 4 == len(groups)


def test_benchmark_of_uploads() -> None:
    """An upload has one entry: the time it took to publish."""
    entries = benchmark.entries(stories.uploads()[0].measured())

    assert [("publish_s", 6)] * 3 == [(each.group, each.stats.rounds) for each in entries]


@pytest.mark.parametrize("name", ["normal", "short", "single", "uploads", "mixed"])
def test_pytest_benchmark_reads_it(name: str, tmp_path: Path) -> None:
    """``pytest-benchmark compare benchmark.json`` shows a table for each metric."""
    file = tmp_path / "benchmark.json"
    file.write_text(benchmark.document(tell(*told_of(name))), encoding="utf-8")
    program = [sys.executable, "-c", "from pytest_benchmark.cli import main; main()"]

    done = subprocess.run(
        [*program, "compare", str(file), "--group-by=group", "--columns=median,rounds"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip

    metric = "publish_s" if name == "uploads" else "t100_s"
    assert f"benchmark '{metric}'" in done.stdout
    assert "Failed to load" not in done.stdout + done.stderr


# --- junit.xml --------------------------------------------------------------------------------------------------------


@each_story
def test_junit_parses(name: str) -> None:
    """junit.xml is well-formed, and its counts are those of its cases."""
    told = told_of(name)

    suite = parsed(told).find("testsuite")

    assert suite is not None
    assert told[1].get("started_at") == suite.get("timestamp")
    cases = suite.findall("testcase")
    assert len(outcomes(*told)) == len(cases)
    for key, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(key) == str(sum(case.find(element) is not None for case in cases))


def test_junit_shows_failures_and_numbers() -> None:
    """A failed cell has its reason in a failure, its control characters spelt out, and its numbers all the same."""
    suite = parsed(stories.failing())
    http = suite.findall("testsuite/testcase")[1]

    failure, out = http.find("failure"), http.findtext("system-out")
    assert failure is not None
    assert out is not None
    assert "test_download[http-n04-s02-50MB]" == http.get("name")
    assert "#x1B[31mchoked#x1B[0m <&>" in (failure.text or "")
    properties = {each.get("name"): each.get("value") for each in http.findall("properties/property")}
    assert ("not reached", "2.0", "4") == tuple(
        properties[f"codexbench.{name}"] for name in ("t100_s.median", "t100_s.low", "rounds_failed")
    )
    assert "2 of 6 rounds succeeded" in out


def test_junit_keeps_skips_and_errors_apart() -> None:
    """A skipped cell is skipped, a cell in error an error, one that had no turn is skipped; each with its reason."""
    cases = parsed(stories.skipped()).findall("testsuite/testcase")

    told = [next((child.tag, child.get("message")) for child in case) for case in cases]
    assert [
        ("skipped", f"skipped: {stories.WHY}"),
        ("skipped", f"skipped: {stories.WHY}"),
        ("error", "error: http-3 did not answer within 120 s"),
        ("skipped", "not run: no round of it was run"),
    ] == told


def test_junit_properties_are_plain() -> None:
    """Properties are words and numbers that any process can hand to another."""
    for name in ("normal", "failing", "uploads"):
        summary = summarise(stories.STORIES[name]()[0].rounds[-6:])

        assert {str, int, float} >= {type(value) for _, value in junit.properties(summary)}
        assert all(math.isfinite(value) for _, value in junit.properties(summary) if not isinstance(value, str))


def test_junit_text_is_readable() -> None:
    """The text tells the same numbers, with their unit in the name and their interval."""
    lines = junit.text(summarise(stories.normal()[0].rounds[:6])).splitlines()

    assert "bittorrent-n04-s02-50MB: 6 of 6 rounds succeeded (95 % interval of the share: 61.0 to 100 %)" == lines[0]
    assert ["speed", "25.0", "MB/s"] == lines[1].split()
    assert ["t100_s", "2.00", "[1.50..2.60]", "96.9%", "interval"] == lines[2].split()


@pytest.mark.parametrize("text", ["\x00\x07\x1b\x7f\x9f", "\ud800\udfff", "\ufffe\uffff"])
def test_junit_stands_any_text(text: str) -> None:
    """Whatever a log holds, the file can be parsed."""
    told = story(notes=[Note("error", cell(), f"it said {text} and left")])

    error = parsed((told, {})).find("testsuite/testcase/error")

    assert error is not None
    assert "and left" in (error.text or "")


# --- the terminal -----------------------------------------------------------------------------------------------------


@each_story
@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_too_long(name: str, width: int) -> None:
    """Whatever there is to show, no line is wider than the terminal."""
    page = page_of(told_of(name), width)

    assert [] == [line for line in page.splitlines() if len(line) > width]


def test_the_table() -> None:
    """One line a system below its block: rounds, time with its interval, speed, ratio to the reference, verdict."""
    lines = page_of(stories.normal(), 160).splitlines()

    start = lines.index("n04-s02-50MB  4 nodes, 2 seeders, 50 MB")
    assert (
        "bittorrent-n04-s02-50MB 6/6 2.00 [1.50..2.60] 25.0 1.00 1.80 0.0200 5.0 50.0 reference",
        "http-n04-s02-50MB 6/6 1 3.00 [2.25..3.90] 16.7 1.50 2.70 0.0300 5.0 50.0 1.50x [1.50..1.50] within 2x",
    ) == tuple(" ".join(line.split()) for line in lines[start + 1 : start + 3])


def test_narrow_terminals_lose_columns() -> None:
    """At 80 columns the less important ones are left out, and named; those that decide stay."""
    page = page_of(stories.normal(), 80)

    header = next(line for line in page.splitlines() if line.startswith("system"))
    assert "system ok flagged t100 s interval MB/s ratio verdict" == " ".join(header.split())
    assert "A wider terminal also shows: t50 s, t90 s, ttfb s, overhead %, seeders %, ratio" in page


def test_failures_are_told_below_their_line() -> None:
    """A median that was not reached says so, and the reason stands below."""
    lines = page_of(stories.failing(), 100).splitlines()

    at = next(index for index, line in enumerate(lines) if line.startswith("  http"))
    assert ["http", "2/6", "not", "reached", "[2.00..never]"] == lines[at].split()[:5]
    assert lines[at + 1].startswith("    4 of 6 rounds failed; the first, round 1: http-2 had 40 %")


def test_few_rounds_claim_nothing() -> None:
    """With fewer than 6 rounds it is said once that ranges are shown; there is no column for verdicts."""
    page = page_of(stories.short(), 100)

    assert 1 == page.count("is the range of fewer than 6 rounds, not an interval: nothing is claimed from it")
    assert "verdict" not in page


def test_skips_are_told_once() -> None:
    """Cells that were skipped for the same reason share a line, with the way out."""
    page = page_of(stories.skipped(), 140)

    assert f"  codex-n04-s02-50MB, codex-n04-s02-10MB: {stories.WHY}" in page.splitlines()
    assert ["ERROR: 1 cell", "SKIPPED: 2 cells", "NOT RUN: 1 cell"] == [
        line for line in page.splitlines() if line[:3] in ("ERR", "SKI", "NOT")
    ]


def test_publishing_is_apart() -> None:
    """Uploads have a table of their own, with the note that BitTorrent copies nothing."""
    page = page_of(stories.uploads(), 140)

    assert "DOWNLOAD" not in page
    assert NO_COPY in page
    assert ["bittorrent-100MB", "6/6", "0.500", "[0.500..0.500]", "200", "0.250", "0.25x", "[0.250..0.250]"] in [
        line.split() for line in page.splitlines()
    ]


def test_flags_drift_and_missing_rounds_have_a_note() -> None:
    """What makes figures less than perfect is said below the table."""
    one, other = cell(), cell("http")
    flagged = [round_of(other, index, 1.0, flags=(f"leechers started up to {index} ms apart",)) for index in range(6)]

    page = page_of((story(rounds_of(one, (1, 2, 3, 4, 5, 6)), flagged), run_of(one, other, rounds=10)), 200)

    assert "leechers started up to .. ms apart (6 x)" in page
    assert "times drift with the round's number: bittorrent-n04-s02-50MB" in page
    assert "fewer than the 10 planned rounds were run: bittorrent-n04-s02-50MB, http-n04-s02-50MB" in page


def test_colours_where_there_are_any() -> None:
    """On a terminal in colour a failed cell is red."""
    from rich.console import Console

    page = io.StringIO()
    render(*stories.failing(), Console(file=page, width=100, force_terminal=True, color_system="standard"))

    assert "\x1b[31m  http" in page.getvalue()


def test_closing_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working folder paths are relative; the next steps are commands that can be typed as they are."""
    folder = tmp_path / "results" / "run-1"
    folder.mkdir(parents=True)
    write_all(saved(folder, stories.normal()))
    monkeypatch.chdir(tmp_path)

    lines = closing_lines(folder, stories.normal()[1])

    assert "results: results/run-1/  (report.html, results.json, benchmark.json, junit.xml, report.md)" == lines[0]
    commands = [line.removeprefix("next:").strip().split("  ")[0] for line in lines[1:]]
    assert [
        "pytest --matrix=3x3",
        'pytest --matrix=smoke -k "http-n"',
        "pytest-benchmark compare results/run-1/benchmark.json",
    ] == commands


def test_closing_lines_of_nothing(tmp_path: Path) -> None:
    """Without provenance there is still a place and a next step."""
    lines = closing_lines(tmp_path, {})

    assert f"results: {tmp_path}/" == lines[0]
    assert "pytest --matrix=3x3" in lines[1]


@pytest.mark.parametrize("rounds,expected", [(6, "pytest --matrix=full --cb-plan"), (2, "pytest --matrix=3x3")])
def test_the_next_step_is_a_larger_one(tmp_path: Path, rounds: int, expected: str) -> None:
    """After the 3x3 matrix with its intervals comes the full one, and that is planned first."""
    assert expected in closing_lines(tmp_path, {"matrix": "3x3", "rounds": rounds})[1]


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_summary_is_below_a_mebibyte() -> None:
    """10 000 cells with long errors fit: 1000 rows are shown, and the rest is counted."""
    cells = [cell(size=size) for size in range(1, 10_001)]
    bare = replace(round_of(cells[0], 0, 1.0, error="x" * 500), transfers=(), nodes={})
    told = story([replace(bare, cell=each) for each in cells])

    page = markdown.step_summary(told, {})

    assert len(page.encode()) < 1 << 20
    assert 1000 == sum(line.startswith("| ") and "`bittorrent" in line for line in page.splitlines())
    assert "9000 more cells measured: see results.json." in page


def test_summary_cuts_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would still be too long ends at a line's end, and says so."""
    monkeypatch.setattr(markdown, "MOST_BYTES", 600)

    page = markdown.step_summary(*stories.mixed())

    assert len(page.encode()) < 700
    assert page.endswith("Cut here, at 1 MiB: the rest is in results.json.\n")


def test_summary_tells_it_all() -> None:
    """A table a kind, failures, skips with their reason, where it was measured."""
    page = markdown.step_summary(*stories.mixed())

    lines = page.splitlines()
    assert (
        "| `bittorrent-n04-s02-50MB` | 6/6 | 2.00 [1.50..2.60] | 25.0 | 1.00 | 1.80 | 0.0200 | 5.0 | 50.0 | reference |"
        in lines
    )
    assert any(line.startswith("| ❌ `http-n16-s04-50MB` | 0/6 | not reached |") for line in lines)
    assert any(
        line.startswith("| `codex-100MB` | 6/6 | 4.00 [4.00..4.00] | 25.0 | 2.00x [2.00..2.00] within 2x |")
        for line in lines
    )
    assert f"- codex-n04-s02-50MB, codex-n04-s02-10MB: {stories.WHY}" in lines
    assert "*Ryzen, 8 cores, 16 GB of memory, Linux 6.8.0, isolation namespaces, all nodes on one machine*" in lines


def test_summary_cannot_be_broken_by_errors() -> None:
    """What a log says opens no tag and ends no cell."""
    failed = round_of(cell(), 0, 1.0, error="<script> | \n# heading")

    page = markdown.step_summary(story([failed]), {})

    assert "1 of 1 rounds failed; round 0: &lt;script> \\| # heading" in page


# --- all of them ------------------------------------------------------------------------------------------------------


@each_story
def test_all_documents_are_written(name: str, tmp_path: Path) -> None:
    """Of any run, however little is in it, every document is written, readable for others, and nothing else is left."""
    folder = saved(tmp_path, told_of(name))

    written = write_all(folder)

    assert [folder / name for name in DOCUMENTS] == written
    assert {0o644} == {path.stat().st_mode & 0o777 for path in written}
    journal = {"records.jsonl"} if name != "empty" else set()
    assert {*DOCUMENTS, "run.json", *journal} == {path.name for path in folder.iterdir()}


def test_one_broken_document_keeps_none_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that cannot be made is named at the end; the others are there, and its older version stays."""
    folder = saved(tmp_path, stories.normal())
    write_all(folder)
    old = (folder / "junit.xml").read_text(encoding="utf-8")
    (folder / "results.json").unlink()

    def broken(told: Told) -> str:
        raise ZeroDivisionError("no time at all")

    monkeypatch.setattr(junit, "document", broken)

    with pytest.raises(BenchError, match=r"junit\.xml was not written: ZeroDivisionError: no time at all"):
        write_all(folder)

    assert (folder / "results.json").exists()
    assert old == (folder / "junit.xml").read_text(encoding="utf-8")


def test_a_story_that_cannot_be_summarised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the run as a whole is told like what is wrong with a document."""
    folder = saved(tmp_path, stories.normal())

    def broken(story: Story, run: dict[str, Any]) -> Told:
        raise ZeroDivisionError("no time at all")

    monkeypatch.setattr("pytest_codexbench.reports.told.tell", broken)

    with pytest.raises(BenchError, match="ZeroDivisionError: no time at all"):
        write_all(folder)


def test_documents_without_provenance(tmp_path: Path) -> None:
    """A run whose run.json is lost still has its documents; that it is lost is said."""
    folder = saved(tmp_path, stories.normal())
    (folder / "run.json").unlink()

    with pytest.raises(BenchError, match=r"run\.json"):
        write_all(folder)

    assert 2 == len(json.loads((folder / "results.json").read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize(
    "module", ["__init__", *DOCUMENTS.values(), "page", "terminal", "rows", "trend", "parquet", "compare.words"]
)
def test_imports_stay_cheap(module: str) -> None:
    """Importing a report imports none of what is slow to import: a plugin burdens every run of pytest."""
    name = "pytest_codexbench.reports" + ("" if module == "__init__" else f".{module}")
    program = f"import sys, {name}; print(*{{each.partition('.')[0] for each in sys.modules}})"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert set() == {"rich", "pydantic", "pytest_benchmark", "pyarrow", "xdist", "requests"} & set(done.stdout.split())
