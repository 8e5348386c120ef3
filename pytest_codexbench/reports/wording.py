"""Figures as people read them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_codexbench.matrix import Block, Cell, rate_text, size_text
from pytest_codexbench.metrics import Summary
from pytest_codexbench.records import Environment
from pytest_codexbench.reports.outcomes import Outcome
from pytest_codexbench.stats import Interval

NOTHING = "-"
MOST_DECIMALS = 4
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
LOOSE = re.compile(r"\d+(?:\.\d+)?")


def number(value: float | None) -> str:
    """Three digits that count, at most four behind the point; a dash where nothing is known."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not reached"
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), MOST_DECIMALS)}f}"


def percent(share: float | None) -> str:
    """A share as a figure in percent, without the sign."""
    if share is None or not math.isfinite(share):
        return NOTHING
    return f"{100 * share:.1f}" if abs(share) < 1 else f"{100 * share:.0f}"


def times(ratio: float | None) -> str:
    """``1.31x``; a dash where there is none."""
    if ratio is None:
        return NOTHING
    return f"{ratio:.2f}x" if math.isfinite(ratio) else "infinite"


def spread(interval: Interval | None, infinite: str = "never") -> str:
    """``[0.48..0.60]`` for an interval, ``(0.48..0.60)`` for a mere range; ``infinite`` is said of such a limit."""
    if interval is None or math.isinf(interval.low):
        return ""
    high = infinite if math.isinf(interval.high) else number(interval.high)
    text = f"{number(interval.low)}..{high}"
    return f"({text})" if interval.level is None else f"[{text}]"


def scaled(interval: Interval, scale: float) -> Interval:
    """The same in another unit."""
    return replace(interval, median=scale * interval.median, low=scale * interval.low, high=scale * interval.high)


def spread_title(intervals: Iterable[Interval]) -> str:
    """What ``spread`` shows of these: the title of their column."""
    levels = {interval.level is None for interval in intervals}
    return "range" if levels == {True} else "interval"


def speed_mb_s(summary: Summary) -> float | None:
    """10^6 B/s of the median time; None where it was not reached."""
    median = summary.centre(summary.headline)
    return summary.cell.size / median / 1e6 if median and math.isfinite(median) else None


def count(amount: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def block_words(block: Block) -> str:
    """The block in words: nodes, seeders, size, link."""
    size = re.sub(r"(\d)([a-zA-Z])", r"\1 \2", size_text(block.size))
    parts = [size] if block.kind == "upload" else [count(block.nodes, "node"), count(block.seeders, "seeder"), size]
    happens = [block.disturbance] if block.disturbance else ["soak"] if block.kind == "stability" else []
    return ", ".join(parts + ([f"{rate_text(block.link)}/s links"] if block.link else []) + happens)


def one_line(text: str) -> str:
    """The same words on one line, without control characters or what a log was coloured with."""
    return " ".join(CONTROL.sub("", COLOURS.sub("", text)).split())


def escaped(text: str) -> str:
    """One line of Markdown that can neither end a cell of a table nor open a tag."""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def grouped(found: Iterable[Outcome]) -> dict[str, list[Cell]]:
    """Cells by their reason."""
    groups: dict[str, list[Cell]] = {}
    for outcome in found:
        groups.setdefault(one_line(outcome.reason or "no reason was given"), []).append(outcome.cell)
    return groups


def cells_words(cells: Sequence[Cell], most: int = 4) -> str:
    """A few cells by their ids; more as a count by system."""
    if len(cells) <= most:
        return ", ".join(str(cell) for cell in cells)
    systems = dict.fromkeys(cell.system for cell in cells)
    return f"{count(len(cells), 'cell')} of {', '.join(systems)}"


def flags_words(found: Iterable[Outcome]) -> list[str]:
    """Kinds of flags with how often each was given; the figures inside a flag do not make it another kind."""
    flags = (flag for outcome in found for round_ in outcome.rounds for flag in round_.flags)
    kinds = Counter(LOOSE.sub("..", one_line(flag)) for flag in flags)
    return [f"{kind} ({amount} x)" for kind, amount in kinds.items()]


def run_words(run: Mapping[str, Any]) -> str:
    """What was run, in a line: id, matrix, rounds, seed, backend."""
    parts = [f"matrix {run['matrix']}" if isinstance(run.get("matrix"), str) else ""]
    parts += [count(run["rounds"], "round") if isinstance(run.get("rounds"), int) else ""]
    parts += [f"{name} {run[name]}" for name in ("seed", "backend") if run.get(name) is not None]
    return f"codexbench {run.get('id') or ''}".strip() + ": " + (", ".join(filter(None, parts)) or "no provenance")


def environment_words(found: Iterable[Outcome]) -> list[str]:
    """Where it was measured, a line for each different place."""
    places = (round_.environment for outcome in found for round_ in outcome.rounds)
    return list(dict.fromkeys(_place_words(place) for place in places))


def _place_words(place: Environment) -> str:
    machine = place.machine
    memory = machine.get("memory")
    parts = [
        str(machine.get("processor") or machine.get("architecture") or ""),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{memory / 1e9:.3g} GB of memory" if isinstance(memory, int | float) else "",
        f"{machine.get('system') or 'kernel'} {place.kernel}",
        f"isolation {place.isolation}",
        "all nodes on one machine" if place.colocated else "",
    ]
    return one_line(", ".join(filter(None, parts)))
