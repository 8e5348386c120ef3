"""What disturbed rounds tell beside undisturbed ones, to the digit, and how every report says it."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from xml.etree.ElementTree import fromstring

import stories
from rich.console import Console
from stories import MB, SIX, cell, round_of, run_of, story, stressed, upset

from pytest_codexbench.disturbances import UNDISTURBED
from pytest_codexbench.matrix import Cell
from pytest_codexbench.records import Happened, Round
from pytest_codexbench.reports import html, junit, results, writeup
from pytest_codexbench.reports.findings import title
from pytest_codexbench.reports.reliability import sentences
from pytest_codexbench.reports.terminal import render
from pytest_codexbench.reports.told import tell
from pytest_codexbench.resilience import Resilience, resilience
from pytest_codexbench.stats import wilson


def of(system: str, name: str) -> Resilience:
    """What the story of disturbed rounds says of one cell."""
    every = {(one.cell.system, one.cell.disturbance): one for one in resilience(stressed()[0].rounds)}
    return every[system, name]


def stressed_cell(name: str) -> Cell:
    """One of its cells."""
    return replace(cell("bittorrent", 4, 1), kind="reliability", disturbance=name)


def test_the_ratio_is_to_the_undisturbed_round_of_the_same_draw() -> None:
    """Round by round, not median by median: shuffled times give the same ratios only in pairs."""
    ratio = of("bittorrent", "seeder-restarts").ratio

    assert ratio is not None
    assert (2.0, 2.0, 2.0) == (ratio.median, ratio.low, ratio.high)


def test_a_pair_needs_both_rounds() -> None:
    """A disturbed round whose undisturbed one is missing says nothing of a ratio."""
    calm, hurt = stressed_cell(UNDISTURBED), stressed_cell("seeder-restarts")
    rounds = [round_of(calm, 0, 1.0), upset(hurt, 0, 3.0), upset(hurt, 1, 30.0)]

    ratio = resilience(rounds)[1].ratio

    assert ratio is not None
    assert (3.0, 1) == (ratio.median, ratio.count)


def test_success_has_wilsons_interval() -> None:
    """Of all rounds in which it happened."""
    lost = of("http", "seeder-restarts")

    assert (0, 6) == (lost.succeeded, lost.counted)
    assert wilson(0, 6) == lost.chance


def test_a_void_round_counts_for_nothing_but_is_told() -> None:
    """It is neither a success nor a failure, its time is in no median, and its reason is kept."""
    late = of("bittorrent", "late-leecher")

    assert (6, 1, 5, 5) == (late.rounds, late.void, late.counted, late.succeeded)
    assert 5 == late.figures["t100_s"].count
    assert ("round 3: its moment never came",) == late.voids


def test_a_void_round_is_no_success() -> None:
    """Even if every transfer of it ended well."""
    told = replace(round_of(stressed_cell("link-cut"), 0, 1.0), happened=Happened("link-cut", void="too late"))

    assert not told.success
    assert "void: too late" == told.failure


def test_recovery_and_bytes_fetched_again() -> None:
    """From the record, and from the counters beyond the file, summed over leechers; never reached is infinite."""
    swarm, origin = of("bittorrent", "seeder-restarts"), of("http", "seeder-restarts")

    assert 0.5 == swarm.figures["recovery_s"].median
    assert math.inf == origin.figures["recovery_s"].median
    assert 30 * MB == swarm.figures["refetched_bytes"].median
    assert 0 == of("bittorrent", UNDISTURBED).figures["refetched_bytes"].median


def test_what_happened_comes_back_from_its_json() -> None:
    """With a recovery that was never reached, which JSON cannot say."""
    for recovery_s in (None, 0.25, math.inf):
        told = replace(
            round_of(stressed_cell("link-cut"), 0, 1.0),
            happened=Happened("link-cut", ("n01",), 30.5, 1.0, 6.0, 6.1, recovery_s, {"dropped_packets": 7.0}),
        )

        line = json.dumps(told.to_json(), allow_nan=False)
        assert told == Round.from_json(json.loads(line))


def test_sentences_say_who_came_through_at_what_cost() -> None:
    """One for each disturbance, with intervals, first of those that not all came through; void rounds are told of."""
    found = sentences(tell(*stressed()))

    assert (
        "The only seeder is killed at 30 % and started again 8 s later (seeder-restarts): bittorrent succeeded in 6 of "
        "6 (95 % interval 61 to 100 %), its last leecher took 2.00x the undisturbed time, new bytes came 0.500 s after "
        "its end, 30.0 MB came more than once; http succeeded in 0 of 6 (95 % interval 0 to 39 %)."
    ) == found[0]
    assert any("In 1 round the disturbance did not happen" in sentence for sentence in found)


def test_the_question_under_stress() -> None:
    """A report of disturbed rounds alone does not ask how fast anything is."""
    assert "How do bittorrent and http stand stress?" == title(tell(*stressed()))


def test_every_report_has_the_table() -> None:
    """Terminal, Markdown, HTML and results.json show the same ratio, recovery and void round; JUnit the properties."""
    told = tell(*stressed())
    console = Console(record=True, width=200, file=io.StringIO())
    render(told.story, told.run, console)
    pages = (console.export_text(), writeup.document(told), html.document(told))
    document = json.loads(results.document(told))

    for page in pages:
        assert "seeder-restarts" in page
        assert "2.00x" in page
    rows = {(one["variant"], one["disturbance"]): one for one in document["resilience"]}
    assert 2.0 == rows["bittorrent", "seeder-restarts"]["ratio"]["median"]
    assert {"median": None, "reached": False}.items() <= rows["http", "seeder-restarts"]["figures"][
        "recovery_s"
    ].items()
    assert 1 == rows["bittorrent", "late-leecher"]["void"]
    names = {each.get("name") for each in fromstring(junit.document(told)).iter("property")}  # noqa: S314 - our own
    wanted = ("recovery_s.median", "refetched_bytes.median", "rounds_void", "ratio_to_undisturbed.median")
    assert {f"codexbench.{name}" for name in wanted} <= names


def test_disturbed_cells_are_held_against_no_other_system() -> None:
    """Their ratios are to themselves: no verdict on a system comes from rounds in which it was disturbed."""
    assert [] == list(tell(*stressed()).compared)


def test_without_a_disturbance_there_is_no_section() -> None:
    """Reports of other runs are what they were."""
    told = tell(*stories.normal())

    assert [] == sentences(told)
    assert "Under stress" not in writeup.document(told) + html.document(told)
    assert len(SIX) == len(told.measured[0].rounds)
    assert run_of(cell())["rounds"] == len(story(told.story.rounds).rounds) // 2
