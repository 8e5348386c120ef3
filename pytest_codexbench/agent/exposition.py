"""What an agent tells a scraper of its node, in Prometheus' text form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pytest_codexbench.errors import BenchError
from pytest_codexbench.records import Counters
from pytest_codexbench.restapi import Api

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

OWN, NODES = "/metrics", "/node-metrics"
"""Paths: what the agent tells, and what the node's own program tells."""
PREFIX = "codexbench_"
PROGRAM_S = 5.0


@runtime_checkable
class TellsMetrics(Protocol):
    """A driver whose node's program tells metrics of its own."""

    @property
    def metrics_url(self) -> str | None:
        """Where it does; None while it does not run."""


@dataclass(slots=True)
class Part:
    """What the node is about: the cell and the round that is measured, and what it does in it."""

    cell: str = ""
    round: str = ""
    role: str = ""

    @classmethod
    def parse(cls, request: Mapping[str, Any]) -> Part:
        """As a request tells it."""
        return cls(*(str(request.get(name, "")) for name in cls.__slots__))

    def labels(self) -> dict[str, str]:
        """By name."""
        return {name: str(getattr(self, name)) for name in self.__slots__}


@dataclass(slots=True)
class Progress:
    """How far the node is in the round; written by the transfer, read by whoever scrapes."""

    part: Part = field(default_factory=Part)
    active: bool = False
    size: int = 0
    received: int = 0
    held: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def begin(self, part: Part) -> None:
        """A round begins; what was of the one before is over."""
        self.part, self.active = part, True
        self.size = self.received = self.held = 0

    def end(self) -> None:
        """The round is over; what it came to stays until the next one begins."""
        self.active = False


def text_of(told: Iterable[Metric]) -> bytes:
    """Families of metrics as the text that a scraper reads."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Told(Collector):
        def collect(self) -> Iterable[Metric]:
            return told

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Told())
    return generate_latest(registry)


def families(names: Mapping[str, str], progress: Progress, counters: Counters, running: bool) -> Iterator[Metric]:
    """All of a node: ``names`` are labels of everything. What the place cannot tell is left out, never told as 0."""
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    labels = {**names, **progress.part.labels()}
    keys, values = list(labels), list(labels.values())

    def one(kind: type[Metric], name: str, text: str, value: float | None, **more: str) -> Iterator[Metric]:
        if value is not None:
            family = kind(PREFIX + name, text, labels=[*keys, *more])  # type: ignore[call-arg]  # of its subclasses
            family.add_metric([*values, *more.values()], value)  # type: ignore[attr-defined]  # of its subclasses
            yield family

    up = GaugeMetricFamily(f"{PREFIX}node_up", "Whether the node's program runs.", labels=list(names))
    up.add_metric(list(names.values()), float(running))
    yield up
    yield from one(GaugeMetricFamily, "node_active", "Whether a round is measured on the node.", float(progress.active))
    yield from one(GaugeMetricFamily, "transfer_size_bytes", "Size of the file that it fetches.", progress.size)
    yield from one(GaugeMetricFamily, "transfer_received_bytes", "Bytes received in this fetch.", progress.received)
    yield from one(GaugeMetricFamily, "transfer_held_bytes", "Bytes of the file that it holds.", progress.held)
    outcomes = CounterMetricFamily(f"{PREFIX}transfers", "Fetches by outcome.", labels=[*names, "outcome"])
    for outcome, count in sorted(progress.outcomes.items()):
        outcomes.add_metric([*names.values(), outcome], count)
    yield outcomes
    wire = CounterMetricFamily(f"{PREFIX}wire_bytes", "Bytes on its link, all headers.", labels=[*keys, "direction"])
    for way, seen in (("rx", counters.wire_rx_bytes), ("tx", counters.wire_tx_bytes)):
        if seen is not None:
            wire.add_metric([*values, way], seen)
    yield wire
    yield from one(CounterMetricFamily, "node_cpu_seconds", "Processor time of the node.", counters.cpu_s)
    yield from one(GaugeMetricFamily, "node_memory_peak_bytes", "Peak of its memory.", counters.rss_peak_bytes)


def of_program(driver: object) -> bytes:
    """What the node's own program tells, as it is; empty if it tells nothing, or not now."""
    url = driver.metrics_url if isinstance(driver, TellsMetrics) else None
    if url is None:
        return b""
    with suppress(BenchError):  # one that goes down, or is busy: the next scrape may find it
        return Api(url).ask("GET", "", timeout_s=PROGRAM_S).text.encode()
    return b""
