"""The run as a page of Markdown tables, for the summary of a CI job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_codexbench.metrics import Summary
from pytest_codexbench.records import Story
from pytest_codexbench.reports.comparisons import Comparison, no_copy_notes
from pytest_codexbench.reports.meetings import Gathering, gatherings
from pytest_codexbench.reports.outcomes import ERROR, FAILED, NOT_RUN, SKIPPED, Outcome, by_block, viewed
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
from pytest_codexbench.reports.told import Told, tell
from pytest_codexbench.reports.wording import (
    cells_words,
    count,
    environment_words,
    flags_words,
    grouped,
    number,
    one_line,
    percent,
    run_words,
    speed_mb_s,
    spread,
    times,
)
from pytest_codexbench.stats import Interval

# GitHub refuses a step's summary over 1 MiB as a whole, and shows no table of more rows well.
MOST_BYTES, MOST_ROWS, MOST_LISTED, MOST_REASON = (1 << 20) - 4096, 1000, 40, 300
COLUMNS = {
    "download": (
        "cell",
        "rounds",
        "t100 s",
        "MB/s",
        "t50 s",
        "t90 s",
        "ttfb s",
        "overhead %",
        "seeders' share %",
        "ratio",
    ),
    "upload": ("cell", "rounds", "publish s", "MB/s", "ratio"),
}
TITLES = {"download": "Download: until every leecher has the file", "upload": "Publish: from file to handle"}


def step_summary(story: Story, run: Mapping[str, Any]) -> str:
    """Tables by kind, failures, what was skipped with its reason, where it was measured; always less than 1 MiB."""
    return cut("\n".join(tables(tell(story, run))) + "\n")


def tables(told: Told) -> list[str]:
    """The lines of the same."""
    found, compared = told.found, told.by_subject
    references = {comparison.reference for comparison in told.compared}
    lines = [f"## {inline(run_words(told.run))}", "", _counts(found), ""]
    room = MOST_ROWS
    for kind in COLUMNS:
        measured = [one for group in by_block(found).values() for one in group if one.rounds and one.cell.kind == kind]
        if measured:
            lines += _table(kind, measured[:room], compared, references)
            if len(measured) > room:
                lines += [f"{count(len(measured) - room, 'more cell')} measured: see results.json.", ""]
            room = max(0, room - len(measured))
    lines += _under_stress(told)
    lines += _legend(found, compared.values())
    for one in gatherings(told.story.meetings)[:MOST_LISTED]:
        lines += _gathering(one)
    lines += _failures([one for one in found if one.status == FAILED])
    for status, title in ((ERROR, "Errors"), (SKIPPED, "Skipped"), (NOT_RUN, "Not run")):
        lines += _reasons(title, [one for one in found if one.status == status])
    return lines + [f"*{inline(place)}*" for place in environment_words(found)[:MOST_LISTED]]


def _gathering(one: Gathering) -> list[str]:
    """One test with several deployments."""
    lines = [f"### {inline(one.test)}", "", f"{inline(one.who)}; rounds {one.reliability}", ""]
    if one.measured:
        lines += ["| measure | median | |", "|:--|--:|:--|"]
        for measured in one.measured:
            interval = measured.interval
            lines.append(_row([inline(measured.words), number(interval.median), spread(interval)]))
        lines.append("")
    lines += [f"- {_reason(failure)}" for failure in one.failures[:MOST_LISTED]]
    return [*lines, ""]


def _under_stress(told: Told) -> list[str]:
    """Tables of disturbances and of soaks."""
    lines = []
    for title, names, groups, legend in (
        (STRESS, STRESS_COLUMNS, stress_tables(told), STRESS_LEGEND),
        (SOAK, SOAK_COLUMNS, soak_tables(told), SOAK_LEGEND),
    ):
        if groups:
            lines += [f"### {title}", "", legend, ""]
        for name, rows in groups.items():
            marks = ["---", *["---:"] * (len(names) - 1)]
            table = (_row(names), _row(marks), *(_row([inline(text) for text in row]) for row in rows[:MOST_ROWS]))
            lines += [f"**{inline(name)}**", "", *table, ""]
    return lines


def _counts(found: Sequence[Outcome]) -> str:
    counts: dict[str, int] = {}
    for outcome in found:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    return f"{count(len(found), 'cell')}: " + (
        ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing ran"
    )


def _table(
    kind: str, measured: Sequence[Outcome], compared: Mapping[Any, Comparison], references: set[Any]
) -> list[str]:
    if not measured:
        return []
    rows = []
    for outcome in measured:
        if outcome.summary is not None:
            ratio = "reference" if outcome.cell in references else _ratio(compared.get(outcome.cell))
            cells = _figures(kind, outcome.summary)
            rows.append((f"{'❌ ' if outcome.status == FAILED else ''}`{outcome.cell}`", *cells, ratio))
    titles = COLUMNS[kind]
    marks = ["---", *["---:"] * (len(titles) - 1)]
    table = [_row(titles), _row(marks), *(_row([inline(text) for text in row]) for row in rows)]
    return [f"### {TITLES[kind]}", "", *table, ""]


def _figures(kind: str, summary: Summary) -> list[str]:
    flags = f" ({summary.flagged} flagged)" if summary.flagged else ""
    headline = summary.intervals[summary.headline]
    told = [f"{summary.succeeded}/{summary.rounds}{flags}", _with_spread(headline), number(speed_mb_s(summary))]
    if kind == "upload":
        return told
    for metric in ("t50_s", "t90_s", "ttfb_s"):
        one = viewed(summary, metric)
        told.append(number(one[1].median) if one else number(None))
    return [*told, percent(summary.centre("overhead")), percent(summary.centre("seeder_share"))]


def _ratio(comparison: Comparison | None) -> str:
    if comparison is None or comparison.ratio is None:
        return number(None)
    parts = times(comparison.ratio.median), spread(comparison.ratio, "infinite"), comparison.word
    return " ".join(filter(None, parts))


def _with_spread(interval: Interval) -> str:
    return f"{number(interval.median)} {spread(interval)}".strip()


def _legend(found: Sequence[Outcome], compared: Any) -> list[str]:
    measured = [outcome.summary.intervals[outcome.summary.headline] for outcome in found if outcome.summary]
    lines = []
    if any(interval.level is None for interval in measured):
        lines.append("(a..b) is the range of fewer than 6 rounds, not an interval: nothing is claimed of it.")
    if any(interval.level is not None for interval in measured):
        lines.append("[a..b] is the interval of the median that holds with at least 95 %.")
    lines += [f"{note}: it gets no verdict." for note in no_copy_notes(compared)]
    if flags := flags_words(found):
        lines.append(f"Flagged rounds are counted: {inline('; '.join(flags[:MOST_LISTED]))}.")
    return [*lines, ""] if lines else []


def _failures(failed: Sequence[Outcome]) -> list[str]:
    if not failed:
        return []
    lines = [f"- `{inline(str(outcome.cell))}`: {_reason(outcome.reason or '')}" for outcome in failed[:MOST_LISTED]]
    more = [f"- and {count(len(failed) - MOST_LISTED, 'more cell')}"] if len(failed) > MOST_LISTED else []
    return ["### Failed", "", *lines, *more, ""]


def _reasons(title: str, found: Sequence[Outcome]) -> list[str]:
    if not found:
        return []
    groups = grouped(found)
    lines = [f"- {inline(cells_words(cells))}: {_reason(why)}" for why, cells in list(groups.items())[:MOST_LISTED]]
    more = [f"- and {count(len(groups) - MOST_LISTED, 'more reason')}"] if len(groups) > MOST_LISTED else []
    return [f"### {title}", "", *lines, *more, ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _reason(text: str) -> str:
    line = one_line(text)
    return inline(line if len(line) <= MOST_REASON else f"{line[:MOST_REASON]} ...")


def inline(text: str) -> str:
    """Text that can end neither a cell of a table nor open a tag."""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def cut(page: str) -> str:
    """Whole lines of the page that fit; the last one says that there were more."""
    if len(page.encode()) <= MOST_BYTES:
        return page
    head = page.encode()[:MOST_BYTES].decode(errors="ignore")
    return head[: head.rindex("\n")] + "\n\nCut here, at 1 MiB: the rest is in results.json.\n"
