"""What a run found, in sentences that say no more than its statistics allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pytest_codexbench.metrics import MOST_DRIFT
from pytest_codexbench.reports.comparisons import (
    COMPARED,
    FAIL,
    INCONCLUSIVE,
    MARGINS,
    NO_COPY,
    PASS,
    Comparison,
    Standing,
)
from pytest_codexbench.reports.outcomes import ERROR, NOT_RUN, SKIPPED, Outcome, block_of, by_block, failure
from pytest_codexbench.reports.reliability import sentences
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import (
    block_words,
    cells_words,
    count,
    flags_words,
    grouped,
    number,
    one_line,
    scaled,
    speed_mb_s,
    spread,
    times,
)
from pytest_codexbench.stats import LEVEL, Interval

GOOD, BAD, OPEN, SILENT = "good", "bad", "open", "silent"
# The least rounds that give an interval.
ENOUGH = 6
VERBS = {"download": "download", "upload": "publish"}
# Where the links limit a cell: the slowest leecher came this near to what they allow.
NEAR_BOUND = 0.9
MOST_NAMED, MOST_TOLD, MOST_REASON = 4, 20, 300
# An environment whose wire counters say so is not compared with others.
UNCORRECTED = "gso: uncorrected"


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be said of one system against its reference, over all blocks of a kind.

    ``tone`` is how it looks: good, bad, open, or silent where no verdict may be given; ``word`` says it in a few words.
    """

    standing: Standing
    tone: str
    word: str
    sentences: tuple[str, ...]

    @property
    def question(self) -> str:
        """What was asked."""
        verb = VERBS[self.standing.kind]
        return f"Does {self.standing.subject} {verb} as fast as {self.standing.reference}?"


def answers(told: Told) -> list[Answer]:
    """One for each system that was measured beside a reference: downloads first, in the plan's order."""
    groups: dict[tuple[str, str, str], list[Comparison]] = {}
    for one in sorted(told.compared, key=lambda comparison: comparison.subject.kind):
        groups.setdefault((one.subject.system, one.reference.system, one.subject.kind), []).append(one)
    return [_answer(Standing(*key, tuple(group))) for key, group in groups.items()]


def _answer(standing: Standing) -> Answer:
    tone, word = _verdict(standing)
    return Answer(standing, tone, word, tuple(_sentences(standing)))


def _verdict(standing: Standing) -> tuple[str, str]:
    every = standing.comparisons
    if not any(one.judged for one in every):
        return SILENT, "No verdict"
    if not any(_sure(one) for one in every):
        return SILENT, f"No verdict: fewer than {ENOUGH} rounds"
    margin = MARGINS[0]
    passed, failed = (standing.count(margin, wanted) for wanted in (PASS, FAIL))
    if all(one.word == "faster" for one in every):
        return GOOD, "Yes, faster" + _everywhere(every)
    if passed == len(every):
        return GOOD, f"Yes, within {margin:g}x{_everywhere(every)}"
    if failed and standing.failing(margin):
        return BAD, f"No, over {margin:g}x" + (f" in {failed} of {len(every)} scenarios" if len(every) > 1 else "")
    if failed:
        return OPEN, f"Over {margin:g}x in {failed} of {len(every)} scenarios, each taken alone"
    return OPEN, "Open" + (f": within {margin:g}x in {passed} of {len(every)} scenarios" if len(every) > 1 else "")


def _sure(comparison: Comparison) -> bool:
    """Whether there are rounds enough for an interval, and so for a verdict."""
    return comparison.judged and comparison.ratio is not None and comparison.ratio.level is not None


def _everywhere(every: Sequence[Comparison]) -> str:
    return " in every scenario measured" if len(every) > 1 else ""


def _sentences(standing: Standing) -> Iterator[str]:
    """The ratio over all blocks, the worst one, the count that keep each margin; never one without the others."""
    every = standing.comparisons
    judged = [one for one in every if one.judged]
    if len(every) == 1:
        yield ratio_sentence(every[0])
    elif not judged:
        yield from dict.fromkeys(f"{one.note}." for one in every)
    elif not any(_sure(one) for one in judged):
        yield _seen(judged)
    else:
        yield from _over_blocks(standing, judged)


def _seen(judged: Sequence[Comparison]) -> str:
    """Ratios of which nothing can be claimed."""
    ratios = [one.ratio for one in judged if one.ratio]
    low, high = min(one.low for one in ratios), max(one.high for one in ratios)
    return (
        f"Over {count(len(ratios), 'scenario')} single rounds took from {times(low)} to {times(high)} the time of "
        f"{judged[0].reference.system}: what was seen, not an interval."
    )


def _over_blocks(standing: Standing, judged: Sequence[Comparison]) -> Iterator[str]:
    mean = standing.geometric_mean
    if mean is not None and math.isfinite(mean):
        yield (
            f"{standing.subject} took {times(mean)} the time of {standing.reference} in the geometric mean of "
            f"{count(len(judged), 'scenario')}."
        )
    for name, one in (("Worst", standing.worst), ("Best", min(judged, key=_middle))):
        yield f"{name}: {_ratio_words(one)} with {block_words(one.block)}{_backing(one)}."
    yield from _counts(standing)


def _middle(comparison: Comparison) -> float:
    return comparison.ratio.median if comparison.ratio else math.inf


def _counts(standing: Standing) -> Iterator[str]:
    """In how many blocks each margin is kept; which are over it is said of all looked at together, too."""
    every = standing.comparisons
    for margin in MARGINS:
        passed, failed, unclear = (standing.count(margin, wanted) for wanted in (PASS, FAIL, INCONCLUSIVE))
        unjudged = len(every) - passed - failed - unclear
        silent = f", not judged in {unjudged}" if unjudged else ""
        together = f" ({_together(standing, margin)})" if failed else ""
        yield (
            f"Within {margin:g}x in {passed} of {len(every)}, over it in {failed}{together}, open in {unclear}{silent}."
        )


def _together(standing: Standing, margin: float) -> str:
    """How many are over a margin with certainty enough for all of them, and what it would take if none is."""
    sure = len(standing.failing(margin))
    if sure:
        return f"{sure} with Holm's correction"
    return f"none with Holm's correction, which takes {_enough_for(len(standing.comparisons))} rounds or more"


def _enough_for(blocks: int) -> int:
    """The least rounds in which a block among so many can be found to be over a margin: all of them over it."""
    return math.ceil(math.log2(blocks / (1 - LEVEL)))


def _ratio_words(comparison: Comparison) -> str:
    """``1.50x [1.40..1.60]``."""
    interval = comparison.ratio
    if interval is None:
        return comparison.note or "no ratio"
    middle = times(interval.median) if math.isfinite(interval.median) else "not reached"
    return f"{middle} {spread(interval, 'infinite')}".strip()


def _backing(comparison: Comparison) -> str:
    return f" ({certainty(comparison.ratio)})" if comparison.ratio else ""


def certainty(interval: Interval) -> str:
    """What stands behind an interval, in words."""
    if interval.level is None:
        return f"range of {count(interval.count, 'round')}"
    return f"{100 * interval.level:.1f} % interval of {interval.count} rounds"


def ratio_sentence(comparison: Comparison) -> str:
    """One system against its reference in one block: the ratio with its interval, the verdict if there may be one."""
    subject, reference = comparison.subject.system, comparison.reference.system
    where = f"With {block_words(comparison.block)}"
    if comparison.ratio is None:
        return f"{where}, {subject} has no ratio to {reference}: {comparison.note}."
    if math.isinf(comparison.ratio.median):
        told = f"{where}, {subject} did not arrive in half or more of the rounds: ratio to {reference}"
    else:
        told = f"{where}, {subject} took"
    told = f"{told} {_ratio_words(comparison)}"
    told += "" if math.isinf(comparison.ratio.median) else f" the time of {reference}"
    told += _backing(comparison)
    if comparison.neither:
        told += f"; in {count(comparison.neither, 'more pair')} neither arrived"
    return f"{told}: {verdict_words(comparison)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def verdict_words(comparison: Comparison) -> str:
    """Both verdicts, or why there is none."""
    if comparison.ratio is None or not comparison.judged:
        return f"no verdict, since {comparison.note}" if comparison.note else "no verdict"
    if comparison.ratio.level is None:
        return f"no verdict, since fewer than {ENOUGH} rounds give no interval"
    if comparison.ratio.high < 1:
        return "faster"
    words = {PASS: "within", FAIL: "over", INCONCLUSIVE: "open at"}
    return ", ".join(f"{words[comparison.verdict(margin) or INCONCLUSIVE]} {margin:g}x" for margin in MARGINS)


# --- all of it --------------------------------------------------------------------------------------------------------


def title(told: Told) -> str:
    """The question that the run answers."""
    asked = [answer.standing for answer in answers(told)]
    if not told.measured:
        return "Nothing was measured"
    if not asked:
        systems = list(dict.fromkeys(outcome.cell.system for outcome in told.measured))
        kinds = {outcome.cell.kind for outcome in told.measured}
        if kinds <= {"reliability", "stability"}:
            under = "stress" if "reliability" in kinds else "a long run"
            return f"How {'does' if len(systems) == 1 else 'do'} {_listed(systems)} stand {under}?"
        return f"How fast {'is' if len(systems) == 1 else 'are'} {_listed(systems)}?"
    first = [one for one in asked if one.kind == asked[0].kind]
    subjects = list(dict.fromkeys(one.subject for one in first))
    references = list(dict.fromkeys(one.reference for one in first))
    verb = "Is" if len(subjects) == 1 else "Are"
    named = _listed(subjects) if len(subjects) <= MOST_NAMED else f"{len(subjects)} systems"
    return f"{verb} {named} as fast as {_listed(references)}?"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def findings(told: Told) -> list[str]:
    """What was found, the answers first, then failures, then what stands by itself."""
    found = [f"{answer.question} {answer.word}. {' '.join(answer.sentences)}" for answer in answers(told)]
    found += _by_system(told)
    found += sentences(told)
    found += _some(failure_sentences(told.measured), " with failures")
    found += _some(list(_alone(told)))
    if not told.measured:
        found.append("No round was run, so there is nothing to tell of any system.")
    for status, words in ((ERROR, "ended in an error before its first round"), (SKIPPED, "skipped")):
        chosen = [outcome for outcome in told.found if outcome.status == status]
        found += [f"{cells_words(cells)}: {words}: {why.rstrip('.')}." for why, cells in grouped(chosen).items()]
    return found


def _some(sentences: Sequence[str], which: str = "") -> list[str]:
    """So many that they can be read; the others as a count."""
    more = len(sentences) - MOST_TOLD
    return [*sentences[:MOST_TOLD], *([f"And {count(more, 'more cell')}{which}: see below."] if more > 0 else [])]


def _by_system(told: Told) -> Iterator[str]:
    """How fast each system was, and what it carried beyond the file, from its least to its largest median."""
    for system in told.systems:
        cells = [one for one in told.measured if one.cell.system == system and one.cell.kind == "download"]
        if told.compared:  # or its cells are told one by one
            yield from _span(cells, "download_mb_s", f"{system} reached", "MB/s")
        label = f" ({UNCORRECTED})" if any(UNCORRECTED in one.rounds[0].environment.wire for one in cells) else ""
        yield from _span(cells, "overhead", f"On the wire{label} {system} carried", "% more than the file", 100)


def _span(cells: Iterable[Outcome], metric: str, start: str, unit: str, scale: float = 1) -> Iterator[str]:
    known = [(one.summary.intervals[metric], one) for one in cells if one.summary and metric in one.summary.intervals]
    known.sort(key=lambda pair: pair[0].median)
    ends = [
        f"{number(scale * interval.median)} {spread(scaled(interval, scale))} {unit} with "
        f"{block_words(block_of([outcome.cell]))}"
        for interval, outcome in known[:1] + known[1:][-1:]
    ]
    if ends:
        yield f"{start} {'from ' if len(ends) > 1 else ''}{' to '.join(ends)}."


def failure_sentences(measured: Iterable[Outcome]) -> list[str]:
    """Which cells had rounds that failed: how many, with Wilson's interval, and the first reason."""
    return [_failed(one) for one in measured if one.summary and one.summary.succeeded < one.summary.rounds]


def _failed(outcome: Outcome) -> str:
    summary = outcome.summary
    assert summary is not None  # noqa: S101 - it has rounds
    low, high = summary.reliability
    headline = summary.intervals[summary.headline]
    median = "so the median time is not reached" if math.isinf(headline.median) else "counted as infinite times"
    first = next(round_ for round_ in outcome.rounds if not round_.success)
    return (
        f"{outcome.cell}: {summary.rounds - summary.succeeded} of {count(summary.rounds, 'round')} failed, {median}; "
        f"{100 * summary.succeeded / summary.rounds:.0f} % succeeded (95 % interval {100 * low:.0f} to "
        f"{100 * high:.0f} %). "
        f"The first, round {first.index}: {_shortened(one_line(failure(first) or ''))}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_REASON else f"{text[:MOST_REASON]} ..."


def _alone(told: Told) -> Iterator[str]:
    """Cells that nothing was measured beside: their own figures."""
    for block, group in by_block(told.measured).items():
        if len(group) > 1 or block.kind not in COMPARED:
            continue
        (outcome,) = group
        summary = outcome.summary
        assert summary is not None  # noqa: S101 - it has rounds
        headline = summary.intervals[summary.headline]
        speed = speed_mb_s(summary)
        told_s = f"{number(headline.median)} s" if math.isfinite(headline.median) else number(headline.median)
        parts = [
            f"{told_s} {spread(headline)}".strip(),
            *([f"{number(speed)} MB/s"] if speed is not None else []),
            certainty(headline),
        ]
        yield (
            f"{outcome.cell.system} alone was measured with {block_words(block)}: {', '.join(parts)}; there is nothing "
            "to compare it with."
        )


def limits(told: Told) -> list[str]:
    """What the figures cannot say, and what makes them less than perfect."""
    return [
        *_about_rounds(told),
        *_about_place(told),
        *_about_pairs(told),
        *_about_flags(told),
        *_about_what_lacks(told),
    ]


def _about_rounds(told: Told) -> Iterator[str]:
    few = [one for one in told.measured if len(one.rounds) < ENOUGH]
    if few:
        yield (
            f"{count(len(few), 'cell')} of {len(told.measured)} had fewer than {ENOUGH} rounds: their figures (a..b) "
            "are ranges of what was seen, not intervals, and nothing is claimed from them."
        )
    planned = told.run.get("rounds")
    fewer = [
        one
        for one in told.measured
        # a soak ends when its time does
        if isinstance(planned, int) and len(one.rounds) < planned and one.cell.kind != "stability"
    ]
    if fewer:
        least, most = (f(len(one.rounds) for one in fewer) for f in (min, max))
        some = str(least) if least == most else f"{least} to {most}"
        yield (
            f"{count(len(fewer), 'cell')} of {len(told.measured)} had {some} of the {planned} planned rounds: "
            f"{cells_words([one.cell for one in fewer])}."
        )
    judged = [one.ratio for one in told.compared if one.word and one.ratio]
    if len(judged) > 1:
        wrong = sum(1 - (ratio.level or 0) for ratio in judged)
        yield (
            f"Each verdict is of its own scenario. Of {len(judged)} intervals of ratios, {number(wrong)} are expected "
            "to miss the true ratio by chance."
        )


def _about_place(told: Told) -> Iterator[str]:
    places = [round_.environment for outcome in told.measured for round_ in outcome.rounds]
    together = [one for one in told.measured if any(round_.environment.colocated for round_ in one.rounds)]
    unlimited = [one for one in together if one.cell.shape.link is None]
    if unlimited:
        yield (
            f"{_share_of(unlimited, told.measured)} all nodes shared one machine without limited links, and so its "
            "processor, memory and disk: the times say how much work a system makes for one machine, not what a "
            "network would allow, and how near they are to the least possible time cannot be told. --cb-link limits "
            "the links."
        )
    if limited := [one for one in together if one.cell.shape.link is not None]:
        yield (
            f"{_share_of(limited, told.measured)} all nodes shared one machine: its processor and disk may limit what "
            "the links would allow."
        )
    if any(UNCORRECTED in place.wire for place in places):
        yield (
            f"Bytes on the wire were counted by the interfaces of Pods ({UNCORRECTED}): a packet of many segments "
            "counts with one header, so overhead reads too low, and is never compared with that of local runs."
        )
    if len({(place.backend, place.kernel, place.machine.get("processor")) for place in places}) > 1:
        yield "The rounds were not all run in one environment: the provenance lists each."


def _share_of(some: Sequence[Outcome], every: Sequence[Outcome]) -> str:
    return "In all cells" if len(some) == len(every) else f"In {len(some)} of {len(every)} cells"


def _about_pairs(told: Told) -> Iterator[str]:
    if bare := dict.fromkeys(one.subject.system for one in told.compared if NO_COPY in (one.note or "")):
        yield (
            f"Publishing copies nothing in {_listed(list(bare))}, so its time is no upload: it is shown beside the "
            "others and gets no verdict."
        )
    unpaired = [comparison.subject for comparison in told.compared if not comparison.paired_in_time]
    if unpaired:
        yield (
            "Not measured at the same time as their reference, so that an hour's noise may be in the ratio: "
            f"{cells_words(unpaired)}."
        )
    neither = [comparison.subject for comparison in told.compared if comparison.neither]
    if neither:
        yield f"In some pairs of rounds neither system arrived; the ratios are of the others: {cells_words(neither)}."


def _about_flags(told: Told) -> Iterator[str]:
    if flags := flags_words(told.measured):
        yield f"Flagged rounds are counted: {'; '.join(flags)}. {_without_flagged(told.compared)}".strip()
    if drifting := [outcome.cell for outcome in told.measured if outcome.drifts]:
        yield (
            f"In {count(len(drifting), 'cell')} of {len(told.measured)} the times rise or fall with the round's number "
            f"(|rho| over {MOST_DRIFT:g}): their rounds may not be independent, though of few rounds that is often "
            f"mere chance: {cells_words(drifting)}."
        )


def _without_flagged(compared: Iterable[Comparison]) -> str:
    """What becomes of the verdicts when flagged rounds are left out."""
    both = [(one, one.without_flagged) for one in compared if one.word and one.without_flagged]
    if not both:
        return ""
    few = sum(ratio.level is None for _, ratio in both)
    moved = sum(ratio.level is not None and replace(one, ratio=ratio).word != one.word for one, ratio in both)
    told = f"Without them {moved} of {len(both)} verdicts would be another"
    return f"{told}, and {few} could not be given." if few else f"{told}."


def _about_what_lacks(told: Told) -> Iterator[str]:
    never = [outcome.cell for outcome in told.found if outcome.status == NOT_RUN]
    if never:
        yield f"{count(len(never), 'cell')} had no turn: {cells_words(never)}."
    if told.story.problems:
        yield (
            f"Left out of all figures, since unreadable or there twice: {count(len(told.story.problems), 'line')} of "
            "the journal."
        )


def limited_by(outcome: Outcome) -> str | None:
    """What limited a cell of downloads: how near its slowest leecher came to the least possible time."""
    if outcome.summary is None or outcome.cell.kind != "download":
        return None
    efficiency = outcome.summary.intervals.get("efficiency")
    if efficiency is None:
        return "It cannot be told: no rate is known that is each node's own."
    share = (
        f"the slowest leecher reached {100 * efficiency.median:.0f} % {_in_percent(efficiency)} of the best that the "
        f"links allow ({certainty(efficiency)})."
    )
    if efficiency.level is None:
        return _capital(share)
    if efficiency.low >= NEAR_BOUND:
        return f"The links: {share}"
    return f"Not the links alone: {share}" if efficiency.high < NEAR_BOUND else _capital(share)


def _in_percent(interval: Interval) -> str:
    low, high = 100 * interval.low, 100 * interval.high
    return f"({low:.0f}..{high:.0f})" if interval.level is None else f"[{low:.0f}..{high:.0f}]"
