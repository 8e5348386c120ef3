"""A comparison in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_codexbench.metrics import MORE_IS_BETTER, unit_of
from pytest_codexbench.reports.compare import Match
from pytest_codexbench.reports.compare.contrast import IN_DRAW, IN_TIME, UNPAIRED, Contrast
from pytest_codexbench.reports.compare.sides import Side
from pytest_codexbench.reports.comparisons import FAIL, INCONCLUSIVE, PASS
from pytest_codexbench.reports.wording import cells_words, count, one_line, run_words, times
from pytest_codexbench.stats import verdict

APART = "what differs from day to day or place to place is in the ratio, and not in its interval"
PAIRED_WORDS = {
    IN_TIME: "paired: round k of both drew the same bytes and seeders, and ran one after the other",
    IN_DRAW: f"paired in draw, not in time: round k of both drew the same bytes and seeders, measured apart; {APART}",
    UNPAIRED: "not paired: their rounds drew other bytes and seeders, so the ratio is that of the two medians, and its "
    f"interval is wider; {APART}",
}


def side_words(side: Side) -> str:
    """Which run it is, and when."""
    started = side.run.get("started_at")
    system = f", its {side.system}" if side.system else ""
    when = f"; {started}" if isinstance(started, str) else ""
    going = "; no end of it is noted: still going, or killed" if side.run and "ended_at" not in side.run else ""
    return one_line(run_words({"id": side.folder.name, **side.run}) + system + when + going)


def metrics_words(match: Match) -> str:
    """What is divided, and how to read it."""
    metrics = list(dict.fromkeys(contrast.metric for contrast in match.contrasts))
    told = ", ".join(f"{metric} ({unit})" if (unit := unit_of(metric)) else metric for metric in metrics)
    turned = " (turned over, as more of it is better)" if set(metrics) <= MORE_IS_BETTER else ""
    return f"ratio: {told} of B / of A{turned}, over 1 is worse; margin {match.margin:g}"


def verdict_words(contrast: Contrast, margin: float) -> str:
    """The verdict, and what more is sure; empty where none may be given."""
    said = contrast.verdict(margin) or ""
    leaning = contrast.leaning if said != FAIL else ""
    return ", ".join(filter(None, (said, leaning)))


def finding(match: Match) -> str:
    """Whether the margin is kept in every cell, and where not: never more than the intervals say."""
    cells, passed = len(match.judged), match.count(PASS)
    if not cells:
        return "no verdict may be given on any of these cells"
    told = f"{passed} of {count(cells, 'cell')} within {match.margin:g}x for sure"
    if match.every_cell == PASS:
        which = "every cell" if cells == len(match.contrasts) else "every cell that is judged"
        return f"{which} is within {match.margin:g}x ({passed} of {cells}), with 95 %"
    failed = [contrast for contrast in match.contrasts if contrast.verdict(match.margin) == FAIL]
    sure = match.confirmed
    parts = [told]
    if sure:
        parts.append(f"over it, with 95 % for all of them together: {_cells(sure)}")
    if alone := [contrast for contrast in failed if contrast not in sure]:
        of_all = f", but not when all {cells} are looked at together (Holm)" if cells > 1 else ""
        parts.append(f"over it on {'its' if len(alone) == 1 else 'their'} own{of_all}: {_cells(alone)}")
    if undecided := match.count(INCONCLUSIVE):
        parts.append(f"{undecided} inconclusive")
    return "; ".join(parts)


def overall(match: Match) -> Iterator[str]:
    """The mean over cells, never without the worst beside it; of two cells at least."""
    for mean in match.means:
        if len(mean.contrasts) > 1 and mean.worst.ratio:
            yield (
                f"{mean.metric} over {len(mean.contrasts)} cells: geometric mean {times(mean.geometric)}, "
                f"worst {times(mean.worst.ratio.median)} in {mean.worst.subject.cell}"
            )


def notes(match: Match) -> Iterator[str]:
    """What must be known to read the ratios, each thing once."""
    for paired in dict.fromkeys(contrast.paired for contrast in match.contrasts):
        some = [contrast for contrast in match.contrasts if contrast.paired == paired]
        yield PAIRED_WORDS[paired] + ("" if len(some) == len(match.contrasts) else f" ({_cells(some)})")
    levels = {contrast.ratio.level for contrast in match.contrasts if contrast.ratio}
    if levels - {None}:
        yield "[a..b] is the interval that holds with at least 95 %; the verdict is of the whole of it"
    if None in levels:
        yield "(a..b) is the range of too few rounds, not an interval: nothing is claimed from it"
    for note in dict.fromkeys(contrast.note for contrast in match.contrasts if contrast.note):
        some = [contrast for contrast in match.contrasts if contrast.note == note]
        yield f"no verdict, as {note}: {_cells(some)}"
    yield from _about_rounds(match)
    for label, missing in (("B", match.missing_in_subject), ("A", match.missing_in_reference)):
        if missing:
            yield f"not measured in {label}, so not compared: {cells_words(missing)}"
    yield from (note for side in (match.reference, match.subject) for note in side.notes)


def _about_rounds(match: Match) -> Iterator[str]:
    if neither := sum(contrast.neither for contrast in match.contrasts):
        yield f"{count(neither, 'pair')} in which neither of the two arrived: counted here, and in no ratio"
    if partial := [contrast for contrast in match.contrasts if contrast.untold]:
        yield f"not every round tells it, and those that do not are in no ratio: {_cells(partial)}"
    changed = [
        contrast
        for contrast in match.judged
        if contrast.clean and verdict(contrast.clean, match.margin) != contrast.verdict(match.margin)
    ]
    flagged = sum(contrast.subject.flagged + contrast.reference.flagged for contrast in match.contrasts)
    if flagged:
        tail = f"; without them the verdict is another one: {_cells(changed)}" if changed else ""
        yield f"flagged rounds are counted ({flagged}){tail}"
    summaries = [summary for contrast in match.contrasts for summary in (contrast.reference, contrast.subject)]
    if drifting := list(dict.fromkeys(summary.cell for summary in summaries if summary.drifts)):
        yield f"times drift with the round's number: {cells_words(drifting)}"


def _cells(contrasts: Sequence[Contrast]) -> str:
    return cells_words([contrast.subject.cell for contrast in contrasts])
