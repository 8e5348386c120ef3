"""The page of a run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import stories
from parsing import Element, parsed
from stories import MB, STORIES, cell, round_of, rounds_of, run_of, story

from pytest_codexbench.matrix import BUILT_IN, Cell, Shape, Variant
from pytest_codexbench.records import Note, Round, Story
from pytest_codexbench.reports import html
from pytest_codexbench.reports.html.markup import Markup, element, escaped
from pytest_codexbench.reports.html.plot import MARKERS, axis, differ_much, marker, straightened
from pytest_codexbench.reports.results import results_document
from pytest_codexbench.reports.told import tell

HOSTILE = "</style></title></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;]]>\x00\x1b[31m\ud800"
each_story = pytest.mark.parametrize("name", STORIES)


def page_of(told: tuple[Story, dict[str, Any]]) -> Element:
    """The page of a story, parsed."""
    return parsed(html.document(tell(*told)))


def three() -> tuple[Story, dict[str, Any]]:
    """Three systems over two sizes and two swarms, with publishing: something for every plot."""
    systems = ("bittorrent", "http", "codex")
    cells = [
        cell(system, nodes, 1, size)
        for nodes in (2, 4)
        for size in (10 * MB, 50 * MB)
        for system in systems
    ]  # fmt: skip
    cells += [cell(system, 2, 1, size, "upload") for size in (10 * MB, 50 * MB) for system in systems]
    factors = dict(zip(systems, (1.0, 1.5, 4.0), strict=True))
    groups = [
        rounds_of(each, [each.size / MB * factors[each.system] * seconds / 50 for seconds in stories.SIX])
        for each in cells
    ]
    return story(*groups), run_of(*cells)


# --- one file that needs nothing --------------------------------------------------------------------------------------


@each_story
def test_the_page_is_well_formed(name: str) -> None:
    """Of any run: everything is closed, ids are there once, and each link within the page leads somewhere."""
    page = page_of(STORIES[name]())

    ids = [each.attributes["id"] for each in page.all() if "id" in each.attributes]
    links = [each.attributes["href"] for each in page.all("a")]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"\S+", each) for each in ids)
    assert {f"#{each}" for each in ids} >= set(links)
    labels = [each.attributes["aria-labelledby"].split() for each in page.all() if "aria-labelledby" in each.attributes]
    assert set(ids) >= {word for label in labels for word in label}
    assert "en" == page.one("html").attributes["lang"]


@each_story
def test_the_page_runs_and_fetches_nothing(name: str) -> None:
    """No script, no handler, no address of another place: it opens offline, and where scripts are forbidden."""
    text = html.document(tell(*STORIES[name]()))
    page = parsed(text)

    assert [] == [
        each for tag in ("script", "link", "img", "iframe", "object", "base", "form") for each in page.all(tag)
    ]
    attributes = [pair for each in page.all() for pair in each.attributes.items()]
    assert [] == [key for key, _ in attributes if key.startswith("on") or key in ("src", "style", "srcset")]
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text


def test_the_page_forbids_what_it_does_not_need() -> None:
    """Its policy lets it use its own style and nothing else, whatever else should ever come into it."""
    page = page_of(stories.normal())

    (policy,) = [each for each in page.all("meta") if "http-equiv" in each.attributes]
    assert policy.attributes["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")


@each_story
def test_the_page_can_be_read_out(name: str) -> None:
    """One main heading, no level left out; every table has a caption, every plot a title and a description."""
    page = page_of(STORIES[name]())

    levels = [int(each.tag[1]) for each in page.all() if re.fullmatch("h[1-6]", each.tag)]
    assert 1 == levels.count(1) == levels[0]
    assert all(next_ - before <= 1 for before, next_ in pairwise(levels))
    assert all(table.one("caption").text for table in page.all("table"))
    for plot in page.all("svg"):
        told = "aria-hidden" in plot.attributes or ("img" == plot.attributes["role"] and next(plot.all("desc")).text)
        assert told


@each_story
def test_tables_are_whole(name: str) -> None:
    """Every row of a table has as many cells as its head."""
    for table in page_of(STORIES[name]()).all("table"):
        rows = [
            sum(int(each.attributes.get("colspan", 1)) for each in row.inside if isinstance(each, Element))
            for row in table.all("tr")
        ]
        assert 1 == len(set(rows))


# --- whatever is in the records ---------------------------------------------------------------------------------------


def poisoned(data: Any) -> Any:
    """The same plain data with every text replaced that a user, a node or a log may have written."""
    kept = {"variant", "kind", "outcome", "view"}
    if isinstance(data, dict):
        return {key: value if key in kept else poisoned(value) for key, value in data.items()}
    if isinstance(data, list):
        return [poisoned(each) for each in data]
    return HOSTILE if isinstance(data, str) else data


def test_text_of_others_stays_text() -> None:
    """Names, logs, errors, flags, versions, reasons, options: none of them opens a tag, wherever it stands."""
    good, run = stories.mixed()
    rounds = [Round.from_json(poisoned(round_.to_json())) for round_ in good.rounds]
    notes = [Note(note.what, note.cell, HOSTILE) for note in good.notes]
    rounds += [
        replace(
            round_of(cell("http", size=7), index, math.inf if index else 1.0),
            flags=(HOSTILE,),
            environment=replace(stories.PLACE, versions={HOSTILE: HOSTILE}, machine={HOSTILE: HOSTILE}, wire=HOSTILE),
        )
        for index in range(2)
    ]
    strange = rounds[0].transfers[0]
    views = {HOSTILE: next(iter(strange.timelines.values()))}
    odd = replace(strange, timelines=views, seconds={HOSTILE: 1.0}, node=HOSTILE, log_tail=HOSTILE, outcome="failed")
    rounds.append(replace(rounds[0], index=99, transfers=(odd,)))
    told = tell(Story(tuple(rounds), tuple(notes), (HOSTILE,)), {**poisoned(run), HOSTILE: HOSTILE, "cells": []})

    text = html.document(told)

    page = parsed(text)
    text.encode()
    assert [] == list(page.all("script")) + list(page.all("img"))
    assert 1 == text.count("</style>")
    assert "alert(1)" in page.one("main").text
    assert "\x00" not in text
    assert "\x1b" not in text


def test_settings_of_one_name_are_two_cells() -> None:
    """Two cells of one id that differ in their settings have sections of their own."""
    cells = [
        Cell(Shape(Variant("mine", "http", (("flags", flag),)), 2), 1, MB) for flag in ("a", "b")
    ]  # fmt: skip

    page = page_of((story(*(rounds_of(each, (1.0,)) for each in cells)), {}))

    assert 2 == len({each.attributes["id"] for each in page.all("details", class_="cell")})


@pytest.mark.parametrize(
    "content,expected",
    [
        (("<b>", Markup("<i></i>")), "<p>&lt;b&gt;<i></i></p>"),
        ((None, ["a", None, Markup("&amp;")]), "<p>a&amp;</p>"),
        ((), "<p></p>"),
    ],
)
def test_elements_escape_text(content: tuple[Any, ...], expected: str) -> None:
    """Text is escaped, markup is not, nothing is nothing."""
    assert expected == element("p", *content)


def test_attributes_are_escaped() -> None:
    """No value can end its attribute; None and False leave it out, True is its name alone."""
    assert '<a href="&quot;&gt;" data-x="1.5" open></a>' == element(
        "a", href='">', data_x=1.5, open=True, title=None, hidden=False
    )


def test_escaped_text_has_no_control_characters() -> None:
    """What a page cannot hold is left out or replaced; line ends stay."""
    assert "a&lt;\nb?" == escaped("a\x00<\n\x1b[31mb\ud800")


# --- the numbers ------------------------------------------------------------------------------------------------------


@each_story
def test_numbers_are_those_of_the_results(name: str) -> None:
    """Every median of every cell stands in its section as in results.json, to the last digit."""
    told = tell(*STORIES[name]())
    page, document = parsed(html.document(told)), results_document(told)

    for wanted in document["cells"]:
        if wanted["summary"]:
            section = page.one("details", id=f"cell-{wanted['id']}")
            (table,) = [each for each in section.all("table") if each.one("caption").text.endswith("all figures")]
            shown = {}
            for row in next(table.all("tbody")).all("tr"):
                values = [float(each.attributes["value"]) for each in row.all("data")]
                shown[next(row.all("th")).text] = values[0] if values else None
            assert {metric: each["median"] for metric, each in wanted["summary"].items()} == shown


def test_ratios_are_those_of_the_results() -> None:
    """The heat map shows each block's ratio as in results.json."""
    told = tell(*three())
    page, document = parsed(html.document(told)), results_document(told)

    shown = sorted(
        float(each.attributes["value"]) for table in page.all("table", class_="heat") for each in table.all("data")
    )
    ratios = [subject["ratio"]["median"] for block in document["comparisons"] for subject in block["subjects"]]
    assert sorted(ratios) == shown
    assert 8 + 4 == len(shown)


def test_rounds_are_told_one_by_one() -> None:
    """Each round stands in its cell's section, a failed one with its reason and its node's last words."""
    section = page_of(stories.failing()).one("details", id="cell-http-n04-s02-50MB")

    (table,) = [each for each in section.all("table") if each.one("caption").text.endswith("each round")]
    oks = [row.all("td") for row in next(table.all("tbody")).all("tr")]
    assert ["yes", "no", "no", "yes", "no", "no"] == [
        next(each.text for each in cells if each.text in ("yes", "no")) for cells in oks
    ]
    assert "Round 1: http-2 had 40 % of the file at its deadline, after 110 s" in section.text
    assert "open" in section.attributes


def test_what_was_not_reached() -> None:
    """A median of infinity reads "not reached"; its interval "never", where it has an end at all."""
    section = page_of(stories.failing()).one("details", id="cell-http-n04-s02-50MB")

    assert "not reached [2.00..never]" in section.one("summary").text


# --- plots ------------------------------------------------------------------------------------------------------------


def points_of(line: Element) -> list[tuple[float, float]]:
    """Where a line of straight pieces goes along."""
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", line.attributes["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.mark.parametrize("name", [name for name in STORIES if name not in ("uploads", "skipped", "empty")])
def test_drawn_curves_never_go_back(name: str) -> None:
    """As time goes on, what is held does not shrink: to the right, and upwards."""
    figures = [
        each for each in page_of(STORIES[name]()).all("figure") if next(each.all("figcaption")).text.startswith("Bytes")
    ]

    lines = [line for figure in figures for line in figure.all("path") if line.attributes["class"].startswith("line ")]
    assert lines
    for line in lines:
        for (x, y), (next_x, next_y) in pairwise(points_of(line)):
            assert next_x >= x
            assert next_y <= y


@pytest.mark.parametrize(
    "points,expected",
    [
        ([(0, 0), (1, 1), (2, 2), (3, 3)], [(0, 0), (3, 3)]),
        ([(0, 0), (1, 0), (2, 0), (2, 5)], [(0, 0), (2, 0), (2, 5)]),
        ([(0, 0), (1, 0.1), (2, 0)], [(0, 0), (2, 0)]),
        ([(0, 0), (5, 5), (0, 0)], [(0, 0), (5, 5), (0, 0)]),
        ([(1, 2)], [(1, 2)]),
    ],
)
def test_lines_are_drawn_by_the_points_that_matter(
    points: list[tuple[float, float]], expected: list[tuple[float, float]]
) -> None:
    """What nobody could see is left out, so that a page of hundreds of curves stays small; corners and ends stay."""
    assert expected == straightened(points)


def test_views_are_never_mixed() -> None:
    """Each view has a plot of its own: BitTorrent, which fetches in any order, is in none of those in order."""
    page = page_of(three())
    block = page.one("section", id="block-n04-s01-50MB")

    told = {
        next(each.all("figcaption")).text: each.one("desc").text
        for each in next(block.all("div", class_="plots")).all("figure")
    }
    assert {"Bytes held in any order", "Bytes held in order"} == set(told)
    assert "of bittorrent, http, against" in told["Bytes held in any order"]
    assert "of http, codex, against" in told["Bytes held in order"]


def test_streaming_is_compared_in_order() -> None:
    """BitTorrent's streaming variant is shown beside those that are read in order."""
    cells = [cell("bittorrent.streaming"), cell("codex")]

    page = page_of((story(*(rounds_of(each, (1.0,)) for each in cells)), {}))

    assert any("of bittorrent.streaming, codex, against" in each.text for each in page.all("desc"))


def test_a_system_looks_the_same_everywhere() -> None:
    """In every key and every plot a system has its own colour and mark."""
    page = page_of(three())

    looks: dict[str, set[str]] = {}
    for entry in (each for key in page.all("ul", class_="key") for each in key.all("li")):
        for path in entry.all("path"):
            looks.setdefault(entry.text, set()).add(path.attributes["class"])
    assert {"bittorrent", "http", "codex"} <= set(looks)
    assert {"line s0 d0", "mark s0"} == looks["bittorrent"]
    assert {"line s2 d2", "mark s2"} == looks["codex"]


def test_marks_differ_without_their_colour() -> None:
    """Each style has a shape of its own, so that a plot can be read in grey."""
    assert MARKERS == len({re.findall(r' d="([^"]+)"', marker(style, 0, 0))[0] for style in range(MARKERS)})


def test_failures_are_drawn() -> None:
    """A median that was not reached is an arrow at the upper edge, not a gap."""
    cells = [cell("http", size=size) for size in (10 * MB, 50 * MB)]
    told = story(rounds_of(cells[0], (1.0,) * 6), rounds_of(cells[1], (math.inf,) * 6))

    page = page_of((told, run_of(*cells)))

    figure = next(page.one("section", id="by-size").all("figure"))
    assert ["not reached"] == re.findall("not reached", figure.text)
    shapes = [each.attributes["d"] for each in figure.all("path", class_="line s0")]
    assert 1 == len(list(figure.all("path", class_="mark s0"))) == len(shapes)
    assert shapes[0].endswith("l4 -6l4 6")


@pytest.mark.parametrize(
    "values,by_decades,low,high",
    [
        ((0.3, 4.0), False, 0.0, 4.0),
        ((1.0, 500.0), True, 1.0, 500.0),
        ((0.03, 0.03), True, 0.02, 0.05),
        ((2.0, 2.0), True, 2.0, 5.0),
        ((1.0, 500.0), False, 0.0, 500.0),
        ((0.0, 0.0), False, 0.0, 1.0),
        ((3.0, math.inf), False, 0.0, 3.0),
        ((math.inf,), False, 0.0, 1.0),
    ],
)
def test_axes(values: tuple[float, ...], by_decades: bool, low: float, high: float) -> None:
    """An axis goes from 0 or a round number to a round number; what is infinite does not stretch it."""
    found = axis("seconds", values, by_decades)

    assert (low, by_decades) == (found.low, found.logarithmic)
    assert high <= found.high <= 2 * high
    assert 2 <= len(found.ticks) <= 7
    assert found.low <= found.ticks[0][0] < found.ticks[-1][0] <= found.high


def test_where_axes_are_logarithmic() -> None:
    """Values that differ more than twentyfold need it; infinite ones and 0 do not count."""
    assert not differ_much((1.0, 20.0, math.inf, 0.0))
    assert differ_much((1.0, 21.0))


# --- what stands where ------------------------------------------------------------------------------------------------


def test_the_answer_comes_first() -> None:
    """On top: the question, the verdict, its interval and how sure it is."""
    header = page_of(stories.normal()).one("header")

    assert "Is http as fast as bittorrent?" == header.one("h1").text
    assert "No, over 1.2x" == header.one("p", class_="word").text
    assert "1.50x [1.50..1.50]" in header.text
    assert "96.9 % interval of 6 rounds" in header.one("dl").text
    assert "bittorrent: libtorrent 2.1.1" in header.one("dl").text


def test_few_rounds_claim_nothing() -> None:
    """With fewer than 6 rounds there is no verdict anywhere, and nothing is sure."""
    page = page_of(stories.short())

    assert "No verdict: fewer than 6 rounds" == page.one("p", class_="word").text
    assert "Not at all: ranges of fewer than 6 rounds" in page.one("header").text
    assert [] == [each for name in ("pass", "fail", "open") for each in page.all("span", class_=name)]


@each_story
def test_nothing_is_empty(name: str) -> None:
    """No list, no section and no box stands there without anything in it."""
    page = page_of(STORIES[name]())

    assert [] == [each.tag for tag in ("ul", "dl", "div", "section", "p") for each in page.all(tag) if not each.inside]


def test_what_was_left_out_is_told() -> None:
    """Errors, skipped cells and those without a turn are listed with their reasons."""
    section = page_of(stories.skipped()).one("section", id="left-out")

    assert ["Error", "Skipped", "Not run"] == [each.text for each in section.all("h3")]
    assert stories.WHY in section.text


def test_counters_of_pods_are_labelled() -> None:
    """Where wire bytes are not corrected the table says so."""
    pods = replace(stories.PLACE, wire="counters of the Pods' interfaces (gso: uncorrected)")
    rounds = [replace(round_, environment=pods) for round_ in rounds_of(cell(), stories.SIX)]

    section = page_of((story(rounds), run_of(cell()))).one("section", id="carried")

    assert "gso: uncorrected), which is too low" in section.one("caption").text


def test_the_first_byte_is_split_up() -> None:
    """What passed before manifest or first block is shown as a share; bytes in order only where they are fetched so."""
    rounds = rounds_of(cell(), (1.0,) * 6)
    early = [
        replace(each, transfers=tuple(replace(one, seconds={"first_block_s": 0.005}) for one in each.transfers))
        for each in rounds
    ]

    section = page_of((story(early), run_of(cell()))).one("section", id="first-byte")

    assert "50.0 %" in section.text
    assert "in order" not in section.text


def test_environments_that_differ() -> None:
    """Of a second environment what is different stands in the provenance."""
    far = replace(stories.PLACE, kernel="9.9.9")
    rounds = rounds_of(cell(), (1.0, 1.0))

    section = page_of((story([rounds[0], replace(rounds[1], environment=far)]), {})).one("section", id="provenance")

    groups = [each.text for each in section.all("th", class_="group")]
    assert ["Environment 1", "Environment 2"] == groups[-2:]
    assert 1 == section.text.count("9.9.9")
    assert 1 == section.text.count("Ryzen")


def test_how_to_repeat_it() -> None:
    """The run's own command stands there, and what makes the page again."""
    section = page_of(stories.normal()).one("section", id="again")

    assert ["pytest --matrix=smoke", "codexbench report results/20261123-050000-smoke-abcdef"] == [
        each.text for each in section.all("pre")
    ]


def test_a_page_says_what_the_journal_lost() -> None:
    """Lines that could not be read are listed."""
    told, run = stories.single()

    page = page_of((replace(told, problems=("records.jsonl, line 3: not readable",)), run))

    assert "records.jsonl, line 3: not readable" in page.one("section", id="provenance").text


def test_many_seeders_have_plots_of_their_own() -> None:
    """Where a swarm of one size had several numbers of seeders, each number is a plot: a line joins like with like."""
    cells = [cell("http", nodes, seeders) for nodes, seeders in ((2, 1), (4, 1), (4, 2), (8, 2))]

    page = page_of((story(*(rounds_of(each, (1.0,)) for each in cells)), run_of(*cells)))

    section = page.one("section", id="by-swarm")
    assert ["50MB, 1 seeder", "50MB, 2 seeders"] == [each.text for each in section.all("figcaption")]


def test_seeders_are_told_beside_nodes() -> None:
    """Where each swarm had one number of seeders, it stands beside the nodes."""
    cells = [cell("http", nodes, seeders) for nodes, seeders in ((2, 1), (8, 2))]

    page = page_of((story(*(rounds_of(each, (1.0,)) for each in cells)), run_of(*cells)))

    assert {"2 (1)", "8 (2)"} <= {each.text for each in page.one("section", id="by-swarm").all("text")}


def test_shares_are_shown_in_percent() -> None:
    """A share reads in percent, and carries the ratio of results.json."""
    told = tell(*stories.normal())
    (wanted, *_) = results_document(told)["cells"]

    overhead = next(parsed(html.document(told)).one("section", id="carried").all("data"))
    assert (wanted["summary"]["overhead"]["median"], "5.00") == (float(overhead.attributes["value"]), overhead.text)


def test_links_are_told_apart() -> None:
    """Cells on other links are other rows and other plots."""
    cells = [
        Cell(Shape(BUILT_IN[name], 2, link), 1, size)
        for link in (10**8, 10**9)
        for size in (MB, 2 * MB)
        for name in ("bittorrent", "http")
    ]

    page = page_of((story(*(rounds_of(each, (1.0,)) for each in cells)), {}))

    assert ["2 nodes, 1 seeder, 100mbit", "2 nodes, 1 seeder, 1gbit"] == [
        each.text for each in page.one("table", class_="heat").all("th", scope="row")
    ]
    assert 2 == len(list(page.one("section", id="by-size").all("figure")))


def test_json_is_not_needed() -> None:
    """The page comes from records and provenance alone: provenance of any kind of plain data is shown as text."""
    run = {"id": 7, "options": {"deep": {"er": [1, {"x": None}]}}, "command": ["pytest", "-k", "<x>"], "started_at": 3}

    page = page_of((stories.single()[0], json.loads(json.dumps(run))))

    assert "pytest -k <x>" in page.one("section", id="again").text
