"""A comparison as a table on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_codexbench.matrix import Block
from pytest_codexbench.reports.compare import Match
from pytest_codexbench.reports.compare.contrast import Contrast
from pytest_codexbench.reports.compare.words import finding, metrics_words, notes, overall, side_words, verdict_words
from pytest_codexbench.reports.comparisons import FAIL, INCONCLUSIVE, PASS
from pytest_codexbench.reports.page import GAP, Column, Page, fitting, joined, width_of
from pytest_codexbench.reports.wording import NOTHING, block_words, number, spread, spread_title, times

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {PASS: "green", FAIL: "red", INCONCLUSIVE: "yellow"}


def render(match: Match, console: Console) -> None:
    """Print the comparison on ``console``, no line wider than it."""
    page = Page(console)
    for letter, side in (("A", match.reference), ("B", match.subject)):
        page.words(f"{letter}  {side_words(side)}", "bold")
    page.words(metrics_words(match))
    if match.differences:
        page.heading("WHERE THEY DIFFER: A | B")
        for difference in match.differences:
            page.words(str(difference), "yellow", indent=GAP)
    page.line()
    _table(page, match)
    page.line()
    page.words(finding(match), STYLES[match.every_cell] if match.judged else "")
    for told in overall(match):
        page.words(told)
    page.line()
    for note in notes(match):
        page.words(note, "dim")


def _table(page: Page, match: Match) -> None:
    """A line a cell; of whole runs below the block that it is in."""
    blocks = match.reference.system is None
    columns, _ = fitting(_columns(match, blocks), match.contrasts, page.width)
    widths = [width_of(column, match.contrasts) for column in columns]
    page.line(joined([column.title for column in columns], columns, widths), "dim")
    for block, group in _by_block(match.contrasts):
        if blocks:
            page.parts((str(block), "bold cyan"), (f"  {block_words(block)}", "dim"))
        for contrast in group:
            *texts, word = (column.show(contrast) for column in columns)
            style = STYLES.get(contrast.verdict(match.margin) or "", "")
            page.parts((joined(texts, columns, widths) + GAP, ""), (word, style))


def _by_block(contrasts: Sequence[Contrast]) -> Iterable[tuple[Block, Iterable[Contrast]]]:
    return groupby(contrasts, lambda contrast: contrast.block.only(frozenset()))


def _columns(match: Match, blocks: bool) -> list[Column[Contrast]]:
    """The lower its ``drop``, the longer a column stays."""
    ratios = [contrast.ratio for contrast in match.contrasts if contrast.ratio]
    return [
        Column("cell", lambda one: f"{GAP}{one.subject.cell.system}" if blocks else str(one.block), left=True),
        Column("ok A", lambda one: f"{one.reference.succeeded}/{one.reference.rounds}", drop=4),
        Column("ok B", lambda one: f"{one.subject.succeeded}/{one.subject.rounds}", drop=4),
        Column("A", lambda one: number(one.reference.centre(one.metric)), drop=3),
        Column("B", lambda one: number(one.subject.centre(one.metric)), drop=2),
        Column("ratio", lambda one: times(one.ratio.median) if one.ratio else NOTHING),
        Column(spread_title(ratios), lambda one: spread(one.ratio, "infinite"), drop=1, left=True),
        Column("verdict", lambda one: verdict_words(one, match.margin), left=True),
    ]
