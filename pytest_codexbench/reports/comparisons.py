"""How each system does against the reference of its block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_codexbench.matrix import Block, Cell
from pytest_codexbench.metrics import HEADLINE, Figures, paired_ratios
from pytest_codexbench.reports.outcomes import Outcome, by_block
from pytest_codexbench.stats import LEVEL, Interval, chance_over, geometric_mean, holm, median_interval, verdict

MARGINS = (1.2, 2.0)
# Named here, not asked of the system: documents are made from a run's files, on machines that may not have it.
NO_COPY = "copies nothing when it publishes, so its time is no upload"
COMPARED = ("download", "upload")
PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system against the reference, round by round; over 1 is slower than the reference.

    ``pairs`` are rounds that both have; in ``neither`` of them did any of the two arrive. ``ratios`` are those of the
    rest, and ``ratio`` is their median.
    ``note`` says why there is no ratio, or no verdict on it.
    """

    block: Block
    subject: Cell
    reference: Cell
    ratio: Interval | None
    without_flagged: Interval | None
    pairs: int
    neither: int
    paired_in_time: bool
    note: str | None = None
    ratios: tuple[float, ...] = ()

    @property
    def metric(self) -> str:
        """What is compared."""
        return HEADLINE[self.subject.kind]

    @property
    def judged(self) -> bool:
        """Whether a verdict may be given at all."""
        return self.ratio is not None and self.note is None

    def verdict(self, margin: float) -> str | None:
        """``pass``, ``fail`` or ``inconclusive``; None where none may be given."""
        return verdict(self.ratio, margin) if self.ratio is not None and self.judged else None

    @property
    def word(self) -> str:
        """All verdicts in a word or two; empty where none may be given or too few rounds were run for any."""
        if self.ratio is None or self.ratio.level is None or not self.judged:
            return ""
        if self.ratio.high < 1:
            return "faster"
        passed = [margin for margin in MARGINS if self.verdict(margin) == PASS]
        failed = [margin for margin in MARGINS if self.verdict(margin) == FAIL]
        if passed:
            return f"within {min(passed):g}x"
        return f"over {max(failed):g}x" if failed else "inconclusive"


@dataclass(frozen=True, slots=True)
class Standing:
    """One system against one reference over all blocks of a kind: never a mean without the worst beside it."""

    subject: str
    reference: str
    kind: str
    comparisons: tuple[Comparison, ...]

    @property
    def geometric_mean(self) -> float | None:
        """Of the blocks' median ratios; None if some are 0 and some infinite."""
        mean = geometric_mean([comparison.ratio.median for comparison in self.comparisons if comparison.ratio])
        return None if math.isnan(mean) else mean

    @property
    def worst(self) -> Comparison:
        """The block with the largest median ratio."""
        return max(self.comparisons, key=lambda comparison: comparison.ratio.median if comparison.ratio else 0)

    def count(self, margin: float, wanted: str) -> int:
        """In how many blocks the verdict is ``wanted``."""
        return sum(comparison.verdict(margin) == wanted for comparison in self.comparisons)

    def failing(self, margin: float) -> tuple[Comparison, ...]:
        """Blocks that fail though all are looked at together (Holm): with 95 % none of them is named in error."""
        chances = holm([chance_over(comparison.ratios, margin) for comparison in self.comparisons])
        return tuple(
            comparison
            for comparison, chance in zip(self.comparisons, chances, strict=True)
            if comparison.verdict(margin) == FAIL and chance <= 1 - LEVEL
        )


def comparisons(found: Iterable[Outcome]) -> list[Comparison]:
    """Every system with rounds against its block's reference, the reference itself left out."""
    told = []
    for block, group in by_block(found).items():
        if block.kind not in COMPARED:
            continue  # those are held against themselves, see ``resilience`` and ``endurance``
        measured = [outcome for outcome in group if outcome.rounds]
        if len(measured) > 1:
            reference = _reference(measured)
            told += [_compared(block, outcome, reference) for outcome in measured if outcome is not reference]
    return told


def no_copy_notes(compared: Iterable[Comparison]) -> list[str]:
    """Which systems publish without copying anything, a sentence each."""
    return sorted({comparison.note for comparison in compared if comparison.note and NO_COPY in comparison.note})


def standings(compared: Iterable[Comparison]) -> list[Standing]:
    """One for each system and reference that got a verdict anywhere."""
    groups: dict[tuple[str, str, str], list[Comparison]] = {}
    for comparison in compared:
        if comparison.judged:
            subject, reference = comparison.subject, comparison.reference
            groups.setdefault((subject.system, reference.system, subject.kind), []).append(comparison)
    return [Standing(*key, tuple(group)) for key, group in groups.items()]


def _reference(measured: Sequence[Outcome]) -> Outcome:
    """BitTorrent, else http, else the first; for uploads BitTorrent only where there is nothing else."""
    cell = measured[0].cell
    wanted = ["bittorrent", "http"] if cell.kind == "download" else ["http"]
    for name in wanted:
        named = [one for one in measured if one.cell.system == name]
        # the plain name before a variant of it
        if found := named or [one for one in measured if one.cell.shape.variant.system == name]:
            return found[0]
    return next((one for one in measured if not _copies_nothing(one)), measured[0])


def _copies_nothing(outcome: Outcome) -> bool:
    return outcome.cell.kind == "upload" and not all(round_.copies for round_ in outcome.rounds)


def _compared(block: Block, subject: Outcome, reference: Outcome) -> Comparison:
    metric = HEADLINE[block.kind]
    both = {round_.index for round_ in subject.rounds} & {round_.index for round_ in reference.rounds}
    rounds = [round_ for round_ in (*subject.rounds, *reference.rounds) if round_.index in both]
    ours, theirs = _figures(subject), _figures(reference)
    ratios = paired_ratios(ours, theirs, metric)
    ratio = median_interval(ratios) if ratios else None
    flagged = {round_.index for round_ in rounds if round_.flags}
    clean = paired_ratios({index: each for index, each in ours.items() if index not in flagged}, theirs, metric)
    note = None
    if not both:
        note = "no round was run in both"
    elif ratio is None:
        note = "neither of the two arrived in any round"
    elif bare := next((one for one in (subject, reference) if _copies_nothing(one)), None):
        note = f"{bare.cell.system} {NO_COPY}"
    return Comparison(
        block=block,
        subject=subject.cell,
        reference=reference.cell,
        ratio=ratio,
        without_flagged=median_interval(clean) if flagged and clean else None,
        pairs=len(both),
        neither=len(both) - (ratio.count if ratio else 0),
        paired_in_time=all(round_.paired == "draw and time" for round_ in rounds),
        note=note,
        ratios=tuple(ratios),
    )


def _figures(outcome: Outcome) -> Mapping[int, Figures]:
    return outcome.summary.figures if outcome.summary else {}
