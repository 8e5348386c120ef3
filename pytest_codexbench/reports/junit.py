"""The run as ``junit.xml``: a test case a cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pytest_codexbench.metrics import Summary
from pytest_codexbench.reports.outcomes import ERROR, FAILED, PASSED, Outcome, viewed
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import CONTROL, number, percent, speed_mb_s, spread
from pytest_codexbench.resilience import Resilience, resilience
from pytest_codexbench.stats import Interval

MAIN = {
    "download": ("t100_s", "t90_s", "t50_s", "ttfb_s", "overhead", "seeder_share", "fairness", "straggler"),
    "upload": ("publish_s", "upload_accept_s"),
    "reliability": ("t100_s", "t100_max_s", "recovery_s", "refetched_bytes", "stalls", "longest_stall_s"),
    "stability": ("t100_s", "rss_rest_bytes", "disk_rest_bytes"),
}
RESOURCES = ("cpu_s", "rss_peak_bytes")
# By status: the element that says so, as pytest writes it.
ELEMENTS = {FAILED: "failure", ERROR: "error"}


def document(told: Told) -> str:
    """The text of ``junit.xml``, in the shape that pytest calls xunit2."""
    found, run = told.found, told.run
    kinds = Counter(_element(outcome) for outcome in found)
    seconds = sum(_seconds(outcome) for outcome in found)
    suite = Element(
        "testsuite",
        name="codexbench",
        errors=str(kinds["error"]),
        failures=str(kinds["failure"]),
        skipped=str(kinds["skipped"]),
        tests=str(len(found)),
        time=f"{seconds:.3f}",
    )
    if run.get("started_at"):
        suite.set("timestamp", str(run["started_at"]))
    _add_properties(
        suite, [(f"codexbench.{key}", run[key]) for key in ("id", "matrix", "seed", "backend") if key in run]
    )
    upset = {one.cell: one for one in resilience(told.story.rounds)}
    for outcome in found:
        _add_case(suite, outcome, _beside(upset.get(outcome.cell)))
    suites = Element("testsuites", name="codexbench")
    suites.append(suite)
    indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def properties(summary: Summary) -> list[tuple[str, str | float]]:
    """The main numbers by name, seconds and 10^6 B/s, for a test's JUnit properties."""
    cell = summary.cell
    told: list[tuple[str, str | float]] = [
        ("codexbench.system", cell.system),
        ("codexbench.nodes", cell.shape.nodes),
        ("codexbench.seeders", cell.seeders),
        ("codexbench.size", cell.size),
        *([("codexbench.disturbance", cell.disturbance)] if cell.disturbance else []),
        ("codexbench.rounds", summary.rounds),
        ("codexbench.rounds_failed", summary.rounds - summary.succeeded),
        ("codexbench.rounds_flagged", summary.flagged),
    ]
    if (speed := speed_mb_s(summary)) is not None:
        told.append(("codexbench.mb_s", speed))
    for name, interval in _main(summary).items():
        limits = {"median": interval.median, "low": interval.low, "high": interval.high}
        told += [(f"codexbench.{name}.{key}", _said(value)) for key, value in limits.items()]
        told.append((f"codexbench.{name}.level", interval.level if interval.level is not None else "range"))
    return told


def text(summary: Summary) -> str:
    """The same numbers for people: not every viewer of JUnit files shows properties."""
    low, high = summary.reliability
    share = f"95 % interval of the share: {percent(low)} to {percent(high)} %"
    lines = [f"{summary.cell}: {summary.succeeded} of {summary.rounds} rounds succeeded ({share})"]
    if (speed := speed_mb_s(summary)) is not None:
        lines.append(f"  {'speed':<22}{number(speed):>12} MB/s")
    for name, interval in _main(summary).items():
        level = "range" if interval.level is None else f"{interval.level:.1%} interval"
        limits = f"  {spread(interval)} {level}" if spread(interval) else ""
        lines.append(f"  {name:<22}{number(interval.median):>12}{limits}")
    if summary.flagged:
        lines.append(f"  {summary.flagged} of the rounds are flagged, and counted")
    lines += [f"  failed: {failure}" for failure in summary.failures]
    return "\n".join(lines) + "\n"


def _main(summary: Summary) -> dict[str, Interval]:
    """What is worth a property, by full name; what nobody could tell is left out."""
    found = {}
    for metric in (*MAIN[summary.cell.kind], *RESOURCES):
        if metric in summary.intervals:
            found[metric] = summary.intervals[metric]
        elif one := viewed(summary, metric):
            found[one[0]] = one[1]
    return found


def _said(value: float) -> str | float:
    return value if math.isfinite(value) else "not reached"


def _element(outcome: Outcome) -> str:
    return "" if outcome.status == PASSED else ELEMENTS.get(outcome.status, "skipped")


def _seconds(outcome: Outcome) -> float:
    return sum(round_.seconds.get("round_s", 0.0) for round_ in outcome.rounds)


def _beside(one: Resilience | None) -> list[tuple[str, str | float]]:
    """What a disturbed cell says beside the undisturbed one, for its properties."""
    if one is None:
        return []
    ratios = {"ratio_to_undisturbed": one.ratio, "last_ratio_to_undisturbed": one.last}
    told = [(f"codexbench.{name}.median", _said(ratio.median)) for name, ratio in ratios.items() if ratio is not None]
    return [("codexbench.rounds_void", one.void), *told]


def _add_case(suite: Element, outcome: Outcome, more: Sequence[tuple[str, str | float]] = ()) -> None:
    kind, cell = outcome.cell.kind, outcome.cell
    name, seconds = f"test_{kind}[{cell}]", f"{_seconds(outcome):.3f}"
    case = SubElement(suite, "testcase", classname=f"codexbench.{kind}", name=name, time=seconds)
    if outcome.summary:
        _add_properties(case, [*properties(outcome.summary), *more])
    if element := _element(outcome):
        reason = clean(f"{outcome.status}: {outcome.reason}")
        told = SubElement(case, element, message=reason.splitlines()[0])
        told.text = reason
        if element == "skipped":
            told.set("type", "pytest.skip")
    if outcome.summary:
        SubElement(case, "system-out").text = clean(text(outcome.summary))


def _add_properties(parent: Element, told: list[tuple[str, Any]]) -> None:
    if told:
        inside = SubElement(parent, "properties")
        for name, value in told:
            SubElement(inside, "property", name=name, value=clean(str(value)))


def clean(words: str) -> str:
    """The words with control characters spelt out, as pytest does: XML can hold none of them."""
    spelt = CONTROL.sub(lambda match: f"#x{ord(match[0]):02X}", words)
    return "".join(
        letter if letter <= "\ud7ff" or "\ue000" <= letter not in "\ufffe\uffff" else "?" for letter in spelt
    )
