"""One cell of one side against the same cell of the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_codexbench.matrix import Block
from pytest_codexbench.metrics import VIEWS, Figures, Summary, burdens, summarise
from pytest_codexbench.records import Round
from pytest_codexbench.reports.compare.places import refuse_other_counts
from pytest_codexbench.reports.comparisons import NO_COPY
from pytest_codexbench.reports.outcomes import block_of
from pytest_codexbench.stats import (
    Interval,
    chance_over,
    chance_over_unpaired,
    median_interval,
    median_ratio_interval,
    ratio,
    verdict,
)

IN_TIME, IN_DRAW, UNPAIRED = "draw and time", "draw only", "not paired"
PUBLISHING = ("publish_s", "upload_mb_s", "upload_accept_s", "seed_s")


@dataclass(frozen=True, slots=True)
class Contrast:
    """One cell of the subject against its counterpart of the reference, in one metric; over 1 is worse.

    ``subject_values`` and ``reference_values`` are what is divided, a value a round; paired, they are in the order of
    the pairs. ``note`` says why there is no ratio, or no verdict on it. In ``neither`` of that many pairs did any of
    the two arrive. ``clean`` is the ratio without flagged rounds, where there are any.
    """

    subject: Summary
    reference: Summary
    metric: str
    paired: str
    subject_values: tuple[float, ...]
    reference_values: tuple[float, ...]
    ratio: Interval | None
    neither: int = 0
    clean: Interval | None = None
    note: str | None = None

    @property
    def block(self) -> Block:
        """The point of the matrix, whatever the systems."""
        return block_of([self.subject.cell])

    @property
    def judged(self) -> bool:
        """Whether a verdict may be given at all."""
        return self.ratio is not None and self.note is None

    def verdict(self, margin: float) -> str | None:
        """``pass``, ``fail`` or ``inconclusive``; None where none may be given."""
        return verdict(self.ratio, margin) if self.ratio is not None and self.judged else None

    @property
    def leaning(self) -> str:
        """``better`` or ``worse`` if that is sure, else empty."""
        if self.ratio is None or self.ratio.level is None or not self.judged:
            return ""
        return "better" if self.ratio.high < 1 else "worse" if self.ratio.low > 1 else ""

    @property
    def untold(self) -> bool:
        """Whether rounds of either side do not tell the metric, as failed ones no overhead; no time is among these."""
        return self.ratio is not None and any(
            each.get(self.metric) is None
            for summary in (self.subject, self.reference)
            for each in summary.figures.values()
        )

    def chance(self, margin: float) -> float:
        """How likely the ratio looks so far over the margin by chance alone."""
        if self.paired == UNPAIRED:
            return chance_over_unpaired(self.subject_values, self.reference_values, margin)
        return chance_over(_ratios(self.subject_values, self.reference_values), margin)

    @property
    def least_chance(self) -> float:
        """The smallest that so many rounds can give."""
        if self.paired == UNPAIRED:
            return chance_over_unpaired([2.0] * len(self.subject_values), [1.0] * len(self.reference_values), 1)
        return 2.0 ** -len(_ratios(self.subject_values, self.reference_values))


def contrast(ours: Sequence[Round], theirs: Sequence[Round], wanted: str | None, one_run: bool) -> Contrast | None:
    """The subject's rounds of one cell against the reference's; None where the metric is none of such cells.

    Raises:
        WrongInput: if it must not be compared.
    """
    subject, reference = summarise(ours), summarise(theirs)
    metric, note = _found(wanted or subject.headline, subject, reference)
    if metric is None:
        return None
    refuse_other_counts(metric, theirs, ours)
    paired = _paired(ours, theirs, one_run)
    values = _values(subject.figures, reference.figures, metric, paired)
    ratios = _interval(*values, paired)
    flagged = subject.flagged or reference.flagged
    return Contrast(
        subject=subject,
        reference=reference,
        metric=metric,
        paired=paired,
        subject_values=values[0],
        reference_values=values[1],
        ratio=ratios,
        neither=0 if paired == UNPAIRED else len(values[0]) - len(_ratios(*values)),
        clean=_interval(*_values(_clean(ours, subject), _clean(theirs, reference), metric, paired), paired)
        if flagged
        else None,
        note=note or (_nothing(*values) if ratios is None else _unlike(metric, ours, theirs)),
    )


def _clean(rounds: Iterable[Round], summary: Summary) -> dict[int, Figures]:
    """The figures of rounds that are not flagged."""
    return {round_.index: summary.figures[round_.index] for round_ in rounds if not round_.flags}


def _found(wanted: str, subject: Summary, reference: Summary) -> tuple[str | None, str | None]:
    """The metric by its full name, in the view that both tell; and why it cannot be compared, if it cannot."""
    views = VIEWS if subject.cell.shape.variant.system == reference.cell.shape.variant.system else VIEWS[::-1]
    names = (wanted, *(f"{view}.{wanted}" for view in views))
    told = [{name for name in names if name in summary.intervals} for summary in (subject, reference)]
    if common := [name for name in names if name in told[0] & told[1]]:
        return common[0], None
    if not any(told):
        return None, None
    by_system = zip((subject.cell.system, reference.cell.system), told, strict=True)
    known = ", ".join(f"{system} tells {' and '.join(sorted(each)) or 'none'}" for system, each in by_system)
    return wanted, f"not told alike: {known}"


def _paired(ours: Sequence[Round], theirs: Sequence[Round], one_run: bool) -> str:
    """Whether round k of both drew the same bytes and seeders; of one run also whether they ran one after the other."""
    seeds = {round_.index: round_.seed for round_ in theirs}
    shared = [round_ for round_ in ours if round_.index in seeds]
    if not shared or any(round_.seed != seeds[round_.index] for round_ in shared):
        return UNPAIRED
    indices = {round_.index for round_ in shared}
    together = all(round_.paired == IN_TIME for round_ in (*ours, *theirs) if round_.index in indices)
    return IN_TIME if one_run and together else IN_DRAW


def _values(
    ours: Mapping[int, Figures], theirs: Mapping[int, Figures], metric: str, paired: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What is divided; paired, only of rounds that are in both, in their order."""
    subject, reference = burdens(ours, metric), burdens(theirs, metric)
    if paired == UNPAIRED:
        return tuple(subject.values()), tuple(reference.values())
    both = sorted(subject.keys() & reference.keys())
    return tuple(subject[index] for index in both), tuple(reference[index] for index in both)


def _ratios(values: Iterable[float], reference_values: Iterable[float]) -> list[float]:
    """Of the pairs in which any of the two arrived."""
    ratios = (ratio(a, b) for a, b in zip(values, reference_values, strict=True))
    return [value for value in ratios if not math.isnan(value)]


def _interval(values: Sequence[float], reference_values: Sequence[float], paired: str) -> Interval | None:
    if not values or not reference_values:
        return None
    if paired == UNPAIRED:
        interval = median_ratio_interval(values, reference_values)
        return None if math.isnan(interval.median) else interval
    ratios = _ratios(values, reference_values)
    return median_interval(ratios) if ratios else None


def _nothing(values: Sequence[float], reference_values: Sequence[float]) -> str:
    """Why there is no ratio."""
    return "neither of the two arrived" if values and reference_values else "no round of both tells it"


def _unlike(metric: str, ours: Sequence[Round], theirs: Sequence[Round]) -> str | None:
    """Why two systems get no verdict in this metric: it means not the same in both. Builds of one system do."""
    if base_of(ours) == base_of(theirs):
        return None
    cells = ours[0].cell, theirs[0].cell
    if metric in PUBLISHING:
        bare = [rounds[0].cell.system for rounds in (ours, theirs) if not all(round_.copies for round_ in rounds)]
        return f"{bare[0]} {NO_COPY}" if bare else None
    if metric.startswith(f"{VIEWS[0]}."):
        return "bytes in any order are of no use to a reader: systems are compared by contiguous ones"
    in_order = [cell.shape.variant for cell in cells if cell.shape.variant.system == "bittorrent"]
    if metric.startswith(f"{VIEWS[1]}.") and any(variant.setting("profile") != "streaming" for variant in in_order):
        return "BitTorrent fetches in order in its streaming variant alone"
    return "each system counts its payload in its own way" if metric == "seeder_share" else None


def base_of(rounds: Sequence[Round]) -> str:
    """The storage system itself, whatever its variant."""
    return rounds[0].cell.shape.variant.system
