"""The run as a table at the end of the terminal's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_codexbench.matrix import Block
from pytest_codexbench.metrics import VIEWS, Summary
from pytest_codexbench.records import Story
from pytest_codexbench.reports import DOCUMENTS
from pytest_codexbench.reports.comparisons import (
    COMPARED,
    FAIL,
    MARGINS,
    PASS,
    Comparison,
    Standing,
    comparisons,
    no_copy_notes,
    standings,
)
from pytest_codexbench.reports.findings import ENOUGH
from pytest_codexbench.reports.meetings import Gathering, gatherings, value_of
from pytest_codexbench.reports.outcomes import ERROR, FAILED, NOT_RUN, SKIPPED, Outcome, by_block, outcomes, viewed
from pytest_codexbench.reports.page import GAP, Column, Page, fitting, joined, width_of
from pytest_codexbench.reports.reliability import (
    SOAK_COLUMNS,
    SOAK_LEGEND,
    STRESS_COLUMNS,
    STRESS_LEGEND,
    Row,
    soak_tables,
    stress_tables,
)
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import (
    NOTHING,
    block_words,
    cells_words,
    count,
    environment_words,
    flags_words,
    grouped,
    number,
    percent,
    run_words,
    speed_mb_s,
    spread,
    spread_title,
    times,
)
from pytest_codexbench.stats import Interval

if TYPE_CHECKING:
    from rich.console import Console

# A reason is an error's text and may be a log's; the whole of it is in results.json.
MOST_REASON_LINES = 3
MOST_FAILURES = 10
WORD_STYLES = {"faster": "green", "within": "green", "over": "red", "inconclusive": "yellow"}
TITLES = {
    "download": "DOWNLOAD: medians over the rounds, of each round's median leecher",
    "upload": "PUBLISH: from the file on disk until another node can fetch it",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One system of one block, with what there is to show of it."""

    outcome: Outcome
    summary: Summary
    comparison: Comparison | None
    is_reference: bool

    def middle(self, metric: str) -> str:
        """The median of a time in whichever view there is."""
        found = viewed(self.summary, metric)
        if found is None:
            return NOTHING
        return number(found[1].median) if math.isfinite(found[1].median) else "never"

    @property
    def headline(self) -> Interval:
        """What the cell is compared by."""
        return self.summary.intervals[self.summary.headline]

    @property
    def ratio(self) -> str:
        """The median ratio to the reference."""
        if self.is_reference:
            return "reference"
        if self.comparison is None or self.comparison.ratio is None:
            return NOTHING
        return times(self.comparison.ratio.median)


def render(story: Story, run: Mapping[str, Any], console: Console) -> None:
    """Print the run on ``console``, no line wider than it."""
    found = outcomes(story, run)
    compared = comparisons(found)
    page = Page(console)
    page.words(run_words(run), "bold")
    for place in environment_words(found):
        page.words(place, "dim")
    for kind in TITLES:
        lines = _lines([outcome for outcome in found if outcome.cell.kind == kind], compared)
        if any(lines.values()):
            _table(page, kind, lines)
            _standings(page, [one for one in standings(compared) if one.kind == kind])
    _under_stress(page, Told(story, run, found, compared))
    _notes(page, found, compared, run.get("rounds"))
    _left_out(page, found)
    _meetings(page, gatherings(story.meetings))


def _under_stress(page: Page, told: Told) -> None:
    """Tables of disturbances and of soaks."""
    for title, names, groups, legend in (
        ("UNDER STRESS", STRESS_COLUMNS, stress_tables(told), STRESS_LEGEND),
        ("SOAK", SOAK_COLUMNS, soak_tables(told), SOAK_LEGEND),
    ):
        rows = [row for group in groups.values() for row in group]
        if not rows:
            continue
        columns = [_text_column(index, name) for index, name in enumerate(names)]
        columns = [column for column in columns if any(column.show(row) not in ("", NOTHING) for row in rows)]
        kept, _ = fitting(columns, rows, page.width)
        widths = [width_of(column, rows) for column in kept]
        page.heading(title)
        page.line(joined([column.title for column in kept], kept, widths), "dim")
        for name, group in groups.items():
            page.words(name, "bold cyan")
            for row in group:
                page.line(joined([column.show(row) for column in kept], kept, widths))
        page.words(legend, "dim")


def _text_column(index: int, title: str) -> Column[Row]:
    first = index == 0
    return Column(title, lambda row: f"  {row[index]}" if first else row[index], left=first, drop=index)


# --- the table --------------------------------------------------------------------------------------------------------


def _lines(found: Sequence[Outcome], compared: Iterable[Comparison]) -> dict[Block, list[Line]]:
    by_subject = {comparison.subject: comparison for comparison in compared}
    references = {comparison.reference for comparison in by_subject.values()}
    return {
        block: [
            Line(outcome, outcome.summary, by_subject.get(outcome.cell), outcome.cell in references)
            for outcome in group
            if outcome.summary is not None
        ]
        for block, group in by_block(found).items()
    }


def _table(page: Page, kind: str, lines: Mapping[Block, Sequence[Line]]) -> None:
    every = [line for group in lines.values() for line in group]
    ids, names = (_columns(kind, every, label) for label in (_id, _system))
    columns, left_out = fitting(ids, every, page.width)
    if left_out:
        columns, left_out = fitting(names, every, page.width)
    widths = [width_of(column, every) for column in columns]
    page.heading(TITLES[kind])
    page.line(joined([column.title for column in columns], columns, widths), "dim")
    for block, group in lines.items():
        if group:
            page.parts((str(block), "bold cyan"), (f"  {block_words(block)}", "dim"))
        for line in group:
            _row(page, line, columns, widths)
    if left_out:
        page.words(f"A wider terminal also shows: {', '.join(column.title for column in left_out)}.", "dim")


def _row(page: Page, line: Line, columns: Sequence[Column[Line]], widths: Sequence[int]) -> None:
    failed = line.outcome.status == FAILED
    texts = [column.show(line) for column in columns]
    if failed:
        page.line(joined(texts, columns, widths), "red")
        page.words(line.outcome.reason or "", "red", indent="    ", most=MOST_REASON_LINES)
        return
    verdict = columns[-1].title == "verdict"
    word = texts.pop() if verdict else ""
    style = next((style for start, style in WORD_STYLES.items() if word.startswith(start)), "")
    page.parts((joined(texts, columns, widths) + (GAP if word else ""), ""), (word, style))


def _id(line: Line) -> str:
    return f"  {line.outcome.cell}"


def _system(line: Line) -> str:
    return f"  {line.outcome.cell.system}"


def _columns(kind: str, lines: Sequence[Line], label: Callable[[Line], str]) -> list[Column[Line]]:
    """All columns that have anything to say of these lines; ``label`` says which line it is."""
    time = "t100 s" if kind == "download" else "publish s"
    ratios = [line.comparison.ratio for line in lines if line.comparison and line.comparison.ratio]
    columns: list[Column[Line]] = [
        Column("system", label, left=True),
        Column("ok", lambda line: f"{line.summary.succeeded}/{line.summary.rounds}"),
        Column("flagged", lambda line: str(line.summary.flagged or ""), drop=2),
        Column(time, lambda line: number(line.headline.median)),
        Column(spread_title(line.headline for line in lines), lambda line: spread(line.headline), drop=1, left=True),
        Column("MB/s", lambda line: number(speed_mb_s(line.summary))),
    ]
    if kind == "download":
        columns += [
            Column("t50 s", lambda line: line.middle("t50_s"), drop=5),
            Column("t90 s", lambda line: line.middle("t90_s"), drop=6),
            Column("ttfb s", lambda line: line.middle("ttfb_s"), drop=4),
            Column("overhead %", lambda line: percent(line.summary.centre("overhead")), drop=7),
            Column("seeders %", lambda line: percent(line.summary.centre("seeder_share")), drop=8),
        ]
    else:
        columns.append(Column("accepted s", lambda line: number(line.summary.centre("upload_accept_s")), drop=4))
    columns += [
        Column("ratio", lambda line: line.ratio),
        Column(f"ratio {spread_title(ratios)}", _ratio_spread, drop=3, left=True),
        Column("verdict", lambda line: line.comparison.word if line.comparison else "", left=True),
    ]
    return [column for column in columns if any(column.show(line) not in ("", NOTHING) for line in lines)]


def _ratio_spread(line: Line) -> str:
    return spread(line.comparison.ratio, "infinite") if line.comparison else ""


# --- below the table --------------------------------------------------------------------------------------------------


def _standings(page: Page, told: Sequence[Standing]) -> None:
    """Over all blocks of a kind; only where there are several, with intervals to speak of."""
    told = [one for one in told if len(one.comparisons) > 1 and any(comparison.word for comparison in one.comparisons)]
    if not told:
        return
    columns: list[Column[Standing]] = [
        Column("over all blocks", lambda one: f"  {one.subject} / {one.reference}", left=True),
        Column("geometric mean", lambda one: times(one.geometric_mean)),
        Column("worst", lambda one: times(one.worst.ratio.median if one.worst.ratio else None)),
        *(Column(f"within {margin:g}x", _share_of(margin, PASS)) for margin in MARGINS),
        *(Column(f"over {margin:g}x", _share_of(margin, FAIL), drop=1) for margin in MARGINS),
        Column("worst in", lambda one: str(one.worst.block), drop=2, left=True),
    ]
    kept, _ = fitting(columns, told, page.width)
    widths = [width_of(column, told) for column in kept]
    page.line()
    page.line(joined([column.title for column in kept], kept, widths), "dim")
    for one in told:
        page.line(joined([column.show(one) for column in kept], kept, widths))


def _share_of(margin: float, wanted: str) -> Callable[[Standing], str]:
    return lambda one: f"{one.count(margin, wanted)}/{len(one.comparisons)}"


def _notes(page: Page, found: Sequence[Outcome], compared: Sequence[Comparison], planned: object) -> None:
    """What must be known to read the table, each thing once."""
    notes = [*_about_intervals(found, compared), *_about_views(found), *_about_rounds(found, planned)]
    notes += [f"{note}: it is shown beside the others and gets no verdict" for note in no_copy_notes(compared)]
    if unpaired := [str(comparison.subject) for comparison in compared if not comparison.paired_in_time]:
        notes.append(f"not measured at the same time as its reference: {', '.join(unpaired)}")
    if flags := flags_words(found):
        notes.append(f"flagged rounds are counted, and results.json has the figures without them: {'; '.join(flags)}")
    if drifting := [str(outcome.cell) for outcome in found if outcome.drifts]:
        notes.append(f"times drift with the round's number: {', '.join(drifting)}")
    if notes:
        page.line()
    for note in notes:
        page.words(note, "dim")


def _about_intervals(found: Sequence[Outcome], compared: Sequence[Comparison]) -> list[str]:
    levels = {outcome.summary.intervals[outcome.summary.headline].level for outcome in found if outcome.summary}
    notes = []
    if levels - {None}:
        notes.append("[a..b] is the interval that holds the median with at least 95 %")
    if None in levels:
        notes.append(f"(a..b) is the range of fewer than {ENOUGH} rounds, not an interval: nothing is claimed from it")
    if any(comparison.word for comparison in compared):
        notes.append(
            "ratio: time / the reference's, over 1 is slower; the verdict is of its whole interval: "
            "faster, within 1.2x, within 2x, over 1.2x, over 2x, else inconclusive"
        )
    elif compared:
        notes.append("ratio: time / the reference's, over 1 is slower")
    return notes


def _about_views(found: Sequence[Outcome]) -> list[str]:
    """Times to a part of the file are of bytes in any order; said where a system tells them in order alone."""
    ordered = {
        outcome.cell.system
        for outcome in found
        if outcome.summary and (one := viewed(outcome.summary, "t50_s")) and not one[0].startswith(VIEWS[0])
    }
    if not ordered:
        return []
    if ordered == {outcome.cell.system for outcome in found if outcome.summary and outcome.cell.kind == "download"}:
        return ["t50, t90, ttfb are of bytes in order"]
    return [f"t50, t90, ttfb of {', '.join(sorted(ordered))} are of bytes in order, others' in any order"]


def _about_rounds(found: Sequence[Outcome], planned: object) -> list[str]:
    some = [one for one in found if one.rounds and one.cell.kind != "stability"]  # a soak ends when its time does
    fewer = [one.cell for one in some if isinstance(planned, int) and len(one.rounds) < planned]
    return [f"fewer than the {planned} planned rounds were run: {cells_words(fewer)}"] if fewer else []


def _meetings(page: Page, found: Sequence[Gathering]) -> None:
    """Tests with several deployments."""
    if found:
        page.heading("Several networks")
    for one in found:
        page.parts((one.test, "bold cyan"), (f"  {one.who}", "dim"))
        page.words(f"rounds {one.reliability}", indent="  ")
        for measured in one.measured:
            page.words(f"{measured.words}: {value_of(measured)}", indent="  ")
        for failure in one.failures[:MOST_FAILURES]:
            page.words(failure, "red", indent="  ")


def _left_out(page: Page, found: Sequence[Outcome]) -> None:
    """Cells without rounds, those with the same reason together."""
    for status, style in ((ERROR, "red"), (SKIPPED, "yellow"), (NOT_RUN, "yellow")):
        chosen = [outcome for outcome in found if outcome.status == status]
        if chosen:
            page.heading(f"{status.upper()}: {count(len(chosen), 'cell')}")
        for why, cells in grouped(chosen).items():
            page.words(f"{cells_words(cells)}: {why}", style, indent=GAP, most=MOST_REASON_LINES + 1)
    if not found:
        page.line("No cell was measured.", "yellow")


# --- what to do next --------------------------------------------------------------------------------------------------


def closing_lines(folder: Path, run: Mapping[str, Any], width: int = 200) -> list[str]:
    """Where the results are, and what to try next; explanations that do not fit into ``width`` are left out."""
    place = _near(folder)
    there = [name for name in dict.fromkeys(("report.html", *DOCUMENTS)) if (folder / name).exists()]
    lines = [f"results: {place}/" + (f"  ({', '.join(there)})" if there else "")]
    tries = list(_tries(folder, run))
    column = max((len(command) for command, _ in tries), default=0)
    for index, (command, why) in enumerate(tries):
        line = f"{'next:' if not index else '':<9}{command:<{column}}  {why}"
        lines.append(line if len(line) <= width else f"{line[:9]}{command}")
    return lines


def _tries(folder: Path, run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Commands that tell more, each with what it tells."""
    options = run.get("options") if isinstance(run.get("options"), Mapping) else {}
    called = (options or {}).get("called") or "pytest"
    matrix = (options or {}).get("matrix") or run.get("matrix") or "smoke"
    if matrix == "3x3" and isinstance(run.get("rounds"), int) and run["rounds"] >= ENOUGH:
        yield f"{called} --matrix=full --cb-plan", "what the full matrix takes; runs nothing"
    elif matrix != "full" and _has_downloads(run):
        yield f"{called} --matrix=3x3", f"{ENOUGH} rounds a cell: intervals, and verdicts"
    cells = [cell for cell in run.get("cells") or () if isinstance(cell, Mapping) and "variant" in cell]
    if len({cell["variant"] for cell in cells}) > 1:
        yield f'{called} --matrix={matrix} -k "{cells[-1]["variant"]}-n"', "one system's downloads"
    if (folder / "benchmark.json").exists():
        yield f"pytest-benchmark compare {_near(folder)}/benchmark.json", "pytest-benchmark's view, and its history"


def _near(folder: Path) -> Path:
    """The folder as one would type it here."""
    here = Path.cwd()
    return folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder.resolve()


def _has_downloads(run: Mapping[str, Any]) -> bool:
    """Whether it measured what other matrices do too; one of which nothing is known may have."""
    cells = [cell for cell in run.get("cells") or () if isinstance(cell, Mapping)]
    return not cells or any(cell.get("kind") in COMPARED for cell in cells)
