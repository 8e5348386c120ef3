"""A comparison as Markdown, for the summary of a CI job or a pull request."""

from __future__ import annotations

from pytest_codexbench.reports.compare import Match
from pytest_codexbench.reports.compare.contrast import Contrast
from pytest_codexbench.reports.compare.words import finding, metrics_words, notes, overall, side_words, verdict_words
from pytest_codexbench.reports.comparisons import FAIL, INCONCLUSIVE, PASS
from pytest_codexbench.reports.wording import NOTHING, escaped, number, spread, times

MARKS = {PASS: "✅ ", FAIL: "❌ ", INCONCLUSIVE: "❔ "}
TITLES = ("cell", "ok A", "ok B", "A", "B", "ratio", "verdict")


def document(match: Match) -> str:
    """The finding, what A and B are, the table, where they differ, what must be known to read it."""
    lines = [f"### {escaped(finding(match))}", ""]
    lines += [
        f"- **{letter}** {escaped(side_words(side))}" for letter, side in (("A", match.reference), ("B", match.subject))
    ]
    lines += [f"- {escaped(metrics_words(match))}"]
    lines += [f"- {escaped(told)}" for told in overall(match)]
    lines += ["", _row(TITLES), _row(["---", *["---:"] * 5, "---"])]
    lines += [_row([escaped(text) for text in _texts(contrast, match)]) for contrast in match.contrasts]
    if match.differences:
        lines += ["", "| where they differ | A | B |", "| --- | --- | --- |"]
        lines += [_row([escaped(text) for text in (one.what, one.reference, one.subject)]) for one in match.differences]
    return "\n".join([*lines, "", *(f"- {escaped(note)}" for note in notes(match))]) + "\n"


def _texts(contrast: Contrast, match: Match) -> list[str]:
    ratio = contrast.ratio
    return [
        str(contrast.subject.cell) if match.reference.system is None else str(contrast.block),
        *(f"{summary.succeeded}/{summary.rounds}" for summary in (contrast.reference, contrast.subject)),
        *(number(summary.centre(contrast.metric)) for summary in (contrast.reference, contrast.subject)),
        f"{times(ratio.median)} {spread(ratio, 'infinite')}".strip() if ratio else NOTHING,
        MARKS.get(contrast.verdict(match.margin) or "", "") + verdict_words(contrast, match.margin),
    ]


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
