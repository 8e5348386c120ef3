"""The run as one page that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_codexbench import __version__
from pytest_codexbench.reports.comparisons import COMPARED
from pytest_codexbench.reports.findings import failure_sentences, limits, title
from pytest_codexbench.reports.html import across, origin, overview, scenarios
from pytest_codexbench.reports.html.look import Look, look_at
from pytest_codexbench.reports.html.markup import Content, Markup, element, joined
from pytest_codexbench.reports.html.table import Column, measured, table
from pytest_codexbench.reports.meetings import Measured, gatherings
from pytest_codexbench.reports.outcomes import ERROR, NOT_RUN, SKIPPED
from pytest_codexbench.reports.reliability import (
    SOAK,
    SOAK_COLUMNS,
    SOAK_LEGEND,
    STRESS,
    STRESS_COLUMNS,
    STRESS_LEGEND,
    soak_tables,
    stress_tables,
)
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import cells_words, grouped

STYLE = Path(__file__).with_name("style.css")
EVERY = {
    "download": "Every download scenario",
    "upload": "Every publish scenario",
    "reliability": "Every scenario under stress",
    "stability": "Every soak",
}
# The style alone may be used, and nothing may be fetched, whatever else came into the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
BARS = (
    "Seconds until the median leecher has all of the file: medians over the rounds. Bars with caps are intervals, "
    "without caps the range of fewer than 6 rounds; an arrow at the upper edge is a median that was not reached. Each "
    "plot has its own scale."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page below its own heading."""

    name: str
    title: str
    content: Content


def document(told: Told) -> str:
    """The text of ``report.html``."""
    look = look_at(told)
    sections = [section for section in _sections(look) if section.content]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="generator", content=f"codexbench {__version__}"),
        element("title", f"{title(told)} {told.run.get('id') or ''}".strip()),
        # written by ourselves, and a style is not to be escaped
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    contents = element(
        "nav",
        element("ul", [element("li", element("a", each.title, href=f"#{each.name}")) for each in sections]),
        aria_label="Contents",
    )
    body = element(
        "body",
        element("a", "Skip to the numbers", href="#main", class_="skip"),
        overview.header(look),
        contents,
        element("main", [_section(each) for each in sections], id="main"),
        element("footer", element("p", f"Made by codexbench {__version__} from the run's records.")),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _section(section: Section) -> Markup:
    return element("section", element("h2", section.title), section.content, id=section.name)


def _sections(look: Look) -> Iterator[Section]:
    told = look.told
    if maps := overview.heat_maps(look, "download"):
        words = element("p", "Time of each system over the reference's, round by round: over 1x is slower.")
        yield Section(
            "ratios", "Ratios over the matrix", [words, overview.heat_key(), element("div", maps, class_="maps")]
        )
    if told.measured:
        yield Section("limits", "What these numbers cannot say", overview.sentences(limits(told)))
    yield from _downloads(look)
    if look.of_kind("upload"):
        yield Section("publish", "Publish", list(_publish(look)))
    if groups := stress_tables(told):
        words = element("p", STRESS_LEGEND)
        yield Section("stress", STRESS, [words, across.text_table("Disturbances", STRESS_COLUMNS, groups)])
    if groups := soak_tables(told):
        figures = across.text_table("Each node over the soak", SOAK_COLUMNS, groups)
        yield Section("soak", SOAK, [element("p", SOAK_LEGEND), *across.over_time(look), figures])
    if told.measured and any(look.of_kind(kind) for kind in COMPARED):
        tables = [across.stability_table(look) if look.of_kind("download") else None, across.reliability_table(look)]
        failures = overview.sentences(failure_sentences(told.measured))
        yield Section("reliability", "Stability and reliability", [*tables, failures])
    yield Section("several-networks", "Several networks in one test", list(_several(told)))
    for kind, name in EVERY.items():
        parts = [scenarios.scenario(look, block, group) for block, group in look.of_kind(kind).items()]
        yield Section(f"every-{kind}", name, parts)
    yield Section("left-out", "Not measured", list(_left_out(told)))
    yield Section("provenance", "Where the numbers come from", origin.provenance(told))
    yield Section("again", "How to repeat it", origin.repeating(told))


def _downloads(look: Look) -> Iterator[Section]:
    if not look.of_kind("download"):
        return
    seconds = "download time, s"
    note = element("p", BARS)
    against_size = across.by_size(look, "download", "t100_s", seconds)
    against_swarm = across.by_swarm(look, "t100_s", seconds)
    yield Section("by-size", "Download time against file size", [note, against_size] if against_size else None)
    yield Section("by-swarm", "Download time against swarm size", [note, against_swarm] if against_swarm else None)
    yield Section("first-byte", "Time to the first byte", across.first_byte_table(look))
    shares = {"overhead": "overhead, %", "seeder_share": "sent by seeders, %"}
    plots = [across.by_swarm(look, metric, words, only_largest=True) for metric, words in shares.items()]
    yield Section("carried", "Overhead and who sends", [*plots, across.carried_table(look)])


def _publish(look: Look) -> Iterator[Markup | None]:
    kinds = {one.subject.kind for one in look.told.compared}
    if kinds == {"download", "upload"}:  # or they are at the top
        yield overview.cards(look, "upload", "h3")
    if "upload" in kinds:
        yield element("div", overview.heat_maps(look, "upload"), class_="maps")
    yield across.by_size(look, "upload", "publish_s", "publish, s")
    yield across.publish_table(look)


def _several(told: Told) -> Iterator[Markup]:
    """Tests with several deployments: their figures, and what failed."""
    columns = [
        Column[Measured]("measure", lambda row: row.words, words=True),
        Column[Measured]("median and its interval", lambda row: measured(row.interval)),
    ]
    for one in gatherings(told.story.meetings):
        caption = joined(element("strong", one.test), f": {one.who}; rounds {one.reliability}")
        yield table(caption, columns, {None: one.measured})
        if one.failures:
            yield element("ul", [element("li", failure) for failure in one.failures])


def _left_out(told: Told) -> Iterator[Markup]:
    """Cells without rounds, with the reason."""
    for status in (ERROR, SKIPPED, NOT_RUN):
        chosen = [outcome for outcome in told.found if outcome.status == status]
        items = [
            element("li", element("strong", cells_words(cells)), f": {why}") for why, cells in grouped(chosen).items()
        ]
        if items:
            yield joined(element("h3", status.capitalize()), element("ul", items))
