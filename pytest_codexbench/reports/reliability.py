"""What a report says of disturbed rounds and of soaks: tables of words, and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_codexbench.disturbances import UNDISTURBED, named
from pytest_codexbench.endurance import Endurance, Trend, endurance
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import NOTHING, block_words, count, number, spread, times
from pytest_codexbench.resilience import Resilience, resilience
from pytest_codexbench.stats import Interval

STRESS, SOAK = "Under stress", "Soak"
STRESS_COLUMNS = (
    "disturbance",
    "ok",
    "95 % interval, %",
    "t100 s",
    "t100 ratio",
    "last leecher's ratio",
    "recovery s",
    "beyond the file MB",
    "longest stall s",
    "void",
)
SOAK_COLUMNS = (
    "node",
    "memory first MB",
    "last MB",
    "a round kB",
    "rho",
    "disk first MB",
    "last MB",
    "a round kB",
    "restarts",
)
STRESS_LEGEND = (
    "ratio: t100 over that of the undisturbed round of the same seeders, of the median and of the last leecher; over 1 "
    "is slower. recovery: from the end of the disturbance until new bytes came. beyond the file: payload that leechers "
    "took more than once; swarms do so undisturbed, too. Void rounds, in which it did not happen, are in no other "
    "column."
)
SOAK_LEGEND = (
    "memory and disk after each file's deletion; what they grow a round is Theil and Sen's slope, rho Spearman's rank "
    "correlation with the round's number."
)

Row = Sequence[str]


def stress_tables(told: Told) -> dict[str, list[Row]]:
    """Rows of ``STRESS_COLUMNS`` by the swarm's words: a row a system and disturbance."""
    groups: dict[str, list[Row]] = {}
    for one in resilience(told.story.rounds):
        block = _swarm(one)
        groups.setdefault(f"{block}: {one.cell.system}", []).append(_stress_row(one))
    return groups


def _swarm(one: Resilience | Endurance) -> str:
    from pytest_codexbench.matrix import Block

    cell = one.cell
    return block_words(Block(cell.shape.nodes, cell.seeders, cell.size, cell.shape.link, (cell.shape.variant,)))


def _stress_row(one: Resilience) -> Row:
    low, high = one.chance
    return (
        one.cell.disturbance,
        f"{one.succeeded}/{one.counted}",
        f"{100 * low:.0f} to {100 * high:.0f}" if one.counted else NOTHING,
        _middle(one.figures.get("t100_s")),
        _ratio(one.ratio),
        _ratio(one.last),
        _middle(one.figures.get("recovery_s")),
        _middle(one.figures.get("refetched_bytes"), 1e-6),
        _middle(one.figures.get("longest_stall_s")),
        str(one.void or ""),
    )


def _middle(interval: Interval | None, scale: float = 1) -> str:
    if interval is None:
        return NOTHING
    return number(scale * interval.median) if math.isfinite(interval.median) else "never"


def _ratio(interval: Interval | None) -> str:
    if interval is None:
        return NOTHING
    middle = times(interval.median) if math.isfinite(interval.median) else "never"
    return f"{middle} {spread(interval, 'never')}".strip()


def soak_tables(told: Told) -> dict[str, list[Row]]:
    """Rows of ``SOAK_COLUMNS`` by soak: a row a node."""
    return {
        f"{one.cell.system}, {_swarm(one)}: {count(one.rounds, 'download')}": [
            (
                node.name,
                *_trend(node.memory, rho=True),
                *_trend(node.disk, rho=False),
                str(node.restarts),
            )
            for node in one.nodes
        ]
        for one in endurance(told.story.rounds)
    }


def _trend(one: Trend | None, rho: bool) -> Row:
    if one is None:
        return (NOTHING,) * (4 if rho else 3)
    figures = number(one.first / 1e6), number(one.last / 1e6), f"{one.slope / 1e3:+.1f}"
    return (*figures, f"{one.rho:+.2f}" if one.rho is not None else NOTHING) if rho else figures


# --- sentences --------------------------------------------------------------------------------------------------------


def sentences(told: Told) -> list[str]:
    """What was found of disturbed rounds and of soaks."""
    return [*_under_stress(resilience(told.story.rounds)), *_over_time(endurance(told.story.rounds))]


def _under_stress(every: Sequence[Resilience]) -> Iterator[str]:
    """Each disturbance over all of its swarms: who came through, who did not, at what cost."""
    by_name: dict[str, dict[str, list[Resilience]]] = {}
    for one in every:
        by_name.setdefault(one.cell.disturbance, {}).setdefault(one.cell.system, []).append(one)
    for name, systems in sorted(by_name.items(), key=_through):
        if name == UNDISTURBED:
            continue
        parts = [part for system, found in systems.items() if (part := _system_words(system, found))]
        if parts:
            words = named(name).words
            yield f"{words[0].upper()}{words[1:]} ({name}): {'; '.join(parts)}."
    if void := [one for one in every if one.void]:
        yield (
            f"In {count(sum(one.void for one in void), 'round')} the disturbance did not happen, so they are void: "
            f"{void[0].cell}, {void[0].voids[0]}."
        )


def _through(disturbed: tuple[str, Mapping[str, Sequence[Resilience]]]) -> bool:
    """Whether all got through, which is told last."""
    return all(one.succeeded == one.counted for found in disturbed[1].values() for one in found)


def _system_words(system: str, found: Sequence[Resilience]) -> str:
    counted, succeeded = (sum(getattr(one, name) for one in found) for name in ("counted", "succeeded"))
    if not counted:
        return ""
    from pytest_codexbench.stats import wilson

    low, high = wilson(succeeded, counted)
    told = f"{system} succeeded in {succeeded} of {counted} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    if succeeded and (cost := _cost_words(found)):
        told += f", {cost}"
    return told


def _cost_words(found: Sequence[Resilience]) -> str:
    ratios = [one.last.median for one in found if one.last and math.isfinite(one.last.median)]
    recovery = [
        interval.median
        for one in found
        if (interval := one.figures.get("recovery_s")) and math.isfinite(interval.median)
    ]
    again = [interval.median for one in found if (interval := one.figures.get("refetched_bytes"))]
    parts = []
    if ratios:
        parts.append(f"its last leecher took {_range([times(value) for value in sorted(ratios)])} the undisturbed time")
    if recovery:
        parts.append(f"new bytes came {_range([number(value) for value in sorted(recovery)])} s after its end")
    if again and max(again) > 0.01 * found[0].cell.size:
        parts.append(f"{_range([number(value / 1e6) for value in sorted(again)])} MB came more than once")
    return ", ".join(parts)


def _range(texts: Sequence[str]) -> str:
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def _over_time(every: Sequence[Endurance]) -> Iterator[str]:
    for one in every:
        low, high = one.chance
        told = (
            f"{one.cell.system} spread {count(one.rounds, 'file')} one after the other with {_swarm(one)}: "
            f"{one.succeeded} succeeded (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
        )
        parts = [_speed_words(one.seconds)] if one.seconds else []
        if one.leaking:
            most = max(node.memory.slope for node in one.leaking if node.memory)
            parts.append(f"memory of {count(len(one.leaking), 'node')} rises, by up to {most / 1e3:.0f} kB a file")
        elif one.nodes:
            parts.append("memory of no node rises")
        if one.keeping:
            most = max(node.disk.slope for node in one.keeping if node.disk)
            parts.append(f"{count(len(one.keeping), 'node')} kept up to {most / 1e3:.0f} kB a file after its deletion")
        elif one.nodes:
            parts.append("deletions give the disk back")
        parts.append(f"{one.restarts or 'no'} restart{'s' if one.restarts != 1 else ''} of programs")
        yield f"{told}; {', '.join(parts)}."


def _speed_words(seconds: Trend) -> str:
    if seconds.rho is None:
        return "of their times no drift can be told"
    if seconds.rises:
        return f"times rise by {1000 * seconds.slope:.1f} ms a file (rho {seconds.rho:+.2f})"
    return f"times do not rise (rho {seconds.rho:+.2f})"


# --- plain data -------------------------------------------------------------------------------------------------------


def document(told: Told) -> dict[str, Any]:
    """For ``results.json``: what is named in ``results_model``."""
    return {
        "resilience": [_resilience(one) for one in resilience(told.story.rounds)],
        "endurance": [_endurance(one) for one in endurance(told.story.rounds)],
    }


def _resilience(one: Resilience) -> dict[str, Any]:
    from pytest_codexbench.reports.results import interval_data

    low, high = one.chance
    return {
        "cell": str(one.cell),
        "variant": one.cell.system,
        "disturbance": one.cell.disturbance,
        "rounds": one.rounds,
        "void": one.void,
        "succeeded": one.succeeded,
        "low": low,
        "high": high,
        "ratio": interval_data(one.ratio),
        "last_ratio": interval_data(one.last),
        "figures": {name: interval_data(interval) for name, interval in one.figures.items()},
    }


def _endurance(one: Endurance) -> dict[str, Any]:
    low, high = one.chance
    return {
        "cell": str(one.cell),
        "variant": one.cell.system,
        "rounds": one.rounds,
        "succeeded": one.succeeded,
        "low": low,
        "high": high,
        "seconds": _trend_data(one.seconds),
        "restarts": one.restarts,
        "nodes": [
            {
                "name": node.name,
                "memory": _trend_data(node.memory),
                "disk": _trend_data(node.disk),
                "restarts": node.restarts,
            }
            for node in one.nodes
        ],
    }


def _trend_data(one: Trend | None) -> Mapping[str, Any] | None:
    if one is None:
        return None
    told = {"first": one.first, "last": one.last, "slope": one.slope, "rho": one.rho}
    return {**told, "count": one.count, "rises": one.rises}
