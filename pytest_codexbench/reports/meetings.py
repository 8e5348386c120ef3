"""Tests with several deployments in a report: how often they held, and what was measured of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_codexbench.records import Meeting
from pytest_codexbench.reports.wording import count, number, percent, spread
from pytest_codexbench.stats import Interval, median_interval, wilson

WORDS = {
    "delivery_ratio": "messages delivered, of those sent",
    "extra_copies": "copies beyond the first",
    "latency_s": "latency of a message, median of a round, s",
    "latency_max_s": "latency of a message, longest of a round, s",
    "mesh_s": "until every node hears every other, s",
    "wire_bytes": "bytes that all links sent",
    "message_to_file_s": "from the message to the last whole file, s",
    "alone_t100_s": "time to 100 % alone, s",
    "together_t100_s": "time to 100 % beside the other, s",
    "slowdown": "how much longer beside the other, times",
}
"""What measures are called; of one that begins with a deployment's name, what follows that."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one test over its rounds."""

    name: str
    words: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Gathering:
    """All rounds of one test."""

    test: str
    meetings: Sequence[Meeting]

    @property
    def succeeded(self) -> int:
        """Rounds in which all was as it should be."""
        return sum(meeting.success for meeting in self.meetings)

    @property
    def who(self) -> str:
        """Its deployments in words."""
        one = self.meetings[0].deployments
        return ", ".join(f"{count(each['nodes'], 'node')} of {each['variant']}" + _meets(each) for each in one)

    @property
    def reliability(self) -> str:
        """Rounds succeeded of those attempted, with Wilson's interval."""
        low, high = wilson(self.succeeded, len(self.meetings))
        return f"{self.succeeded} of {len(self.meetings)} ({percent(low)} to {percent(high)} %)"

    @property
    def measured(self) -> list[Measured]:
        """Its figures: medians over the rounds that have them."""
        names = dict.fromkeys(name for meeting in self.meetings for name in meeting.measures)
        found = {name: [m.measures[name] for m in self.meetings if name in m.measures] for name in names}
        return [Measured(name, words_of(name), median_interval(values)) for name, values in found.items()]

    @property
    def failures(self) -> list[str]:
        """What went wrong in which round."""
        return [f"round {meeting.index + 1}: {meeting.error}" for meeting in self.meetings if meeting.error]


def _meets(deployment: Mapping[str, Any]) -> str:
    return f" that meet {deployment['meets']}" if deployment.get("meets") else ""


def words_of(name: str) -> str:
    """What a measure is, in words."""
    of, _, what = name.rpartition(".")
    told = WORDS.get(what, what)
    return f"{of}: {told}" if of else told


def gatherings(meetings: Iterable[Meeting]) -> list[Gathering]:
    """By test, in the order in which they came; the rounds in theirs."""
    found: dict[str, list[Meeting]] = {}
    for meeting in meetings:
        found.setdefault(meeting.test, []).append(meeting)
    return [Gathering(test, sorted(all_, key=lambda one: one.index)) for test, all_ in found.items()]


def value_of(one: Measured) -> str:
    """The median with its interval or range."""
    return f"{number(one.interval.median)}  {spread(one.interval)}".rstrip()
