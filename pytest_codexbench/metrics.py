"""What follows from the records: every figure that is shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_codexbench.disturbances import UNDISTURBED
from pytest_codexbench.matrix import Cell
from pytest_codexbench.plan import fluid_bound_s
from pytest_codexbench.records import FAILED, OK, Round, Transfer
from pytest_codexbench.stats import Interval, jain, median, median_interval, ratio, spearman, wilson
from pytest_codexbench.timeline import MIB, Timeline

MOST_DRIFT = 0.6
VIEWS = ("available", "contiguous")
PERCENTS = {"t50_s": 50, "t90_s": 90, "t100_s": 100}
HEADLINE = {"download": "t100_s", "upload": "publish_s", "reliability": "t100_s", "stability": "t100_s"}
"""What cells of each kind are compared by."""
MORE_IS_BETTER = frozenset({"download_mb_s", "upload_mb_s", "efficiency", "fairness"})
SPEEDS = {"download_mb_s": "t100_s", "upload_mb_s": "publish_s"}
UNITS = (("mb_s", "MB/s"), ("_s", "s"), ("_bytes", "B"))

Figures = Mapping[str, float | None]
"""Value by metric, as ``docs/metrics.md`` names and defines them. Infinite: not reached. None: nobody can tell."""


def unit_of(metric: str) -> str:
    """The unit of a metric, by the end of its name."""
    return next((unit for end, unit in UNITS if metric.endswith(end)), "" if metric == "stalls" else "ratio")


def of_timeline(timeline: Timeline) -> Figures:
    """The times of one view of one transfer, in seconds; infinite where it did not get that far."""
    return {
        "ttfb_s": timeline.seconds_to(0),
        "t1mib_s": timeline.seconds_to_bytes(MIB),
        **{name: timeline.seconds_to(percent) for name, percent in PERCENTS.items()},
    }


def of_transfer(transfer: Transfer, views: Iterable[str] = ()) -> dict[str, float | None]:
    """The figures of one leecher; those that depend on the view are named ``available.t50_s``.

    ``views`` are those that its system tells: a failed transfer may have a timeline of none of them.

    A transfer that did not end well has no time to 100 %, even if all bytes came: they were not the right ones.
    """
    figures: dict[str, float | None] = dict(transfer.seconds)
    if transfer.outcome != OK:  # what was never seen was not reached, in whatever view
        figures |= {f"{view}.{name}": math.inf for view in views for name in of_timeline(Timeline(1))}
    for view, timeline in transfer.timelines.items():
        figures |= {f"{view}.{name}": value for name, value in of_timeline(timeline).items()}
    any_view = next(iter(transfer.timelines.values()), None)
    t100_s = any_view.seconds_to(100) if any_view and transfer.outcome == OK else math.inf
    figures["t100_s"] = t100_s
    if any_view:
        figures["download_mb_s"] = any_view.total / t100_s / 1e6
        figures["stalls"] = len(any_view.gaps)
        figures["longest_stall_s"] = any_view.longest_stall_s
        figures["throughput_cv"] = any_view.throughput_cv
    return figures


def of_round(round_: Round, views: Iterable[str] = ()) -> Figures:
    """The figures of one round: of those that each leecher has, the median; then those of the swarm as a whole.

    ``views`` are those seen in other rounds of the cell.
    """
    kind = round_.cell.moves
    transfers = [transfer for transfer in round_.transfers if transfer.kind == kind]
    if round_.error is not None or round_.void is not None:  # what spoils a round spoils each of its transfers
        transfers = [replace(transfer, outcome=FAILED) for transfer in transfers]
    if kind == "upload":
        return {**_publishing(round_, transfers), **_used(round_)}
    # a round that broke off before its fetches counts as one in which nobody got anything
    lost = [Transfer("", kind, FAILED)] * (round_.cell.leechers - len(transfers))
    told = {*views, *views_of([round_])}
    each: list[dict[str, float | None]] = [of_transfer(transfer, told) for transfer in (*transfers, *lost)]
    moments = {name for transfer in transfers for name in transfer.seconds}
    for transfer, figures in zip((*transfers, *lost), each, strict=True):
        if transfer.outcome != OK:
            figures.update(dict.fromkeys(moments - set(figures), math.inf))
    times = [figures["t100_s"] or 0.0 for figures in each]
    figures = {name: _middle([one.get(name) for one in each]) for name in dict.fromkeys(n for one in each for n in one)}
    t100_s = median(times)
    spread: Figures = {
        "t100_s": t100_s,
        "t100_min_s": min(times),
        "t100_max_s": max(times),
        "download_mb_s": round_.cell.size / t100_s / 1e6,
        "fairness": jain([1 / seconds for seconds in times]),
        "straggler": None if math.isinf(max(times)) else max(times) / t100_s,
        "efficiency": _efficiency(round_, max(times)),
    }
    return {
        **figures,
        **spread,
        **_shares(round_),
        **_used(round_),
        **_upset(round_),
        **_rest(round_),
        **round_.seconds,
    }


def _upset(round_: Round) -> Figures:
    """What a disturbance cost: bytes that leechers fetched beyond the file, and the time until they went on."""
    if round_.cell.kind != "reliability":
        return {}
    leechers = [counters for name, counters in round_.nodes.items() if name not in round_.seeders]
    beyond = [
        None if each.payload_rx_bytes is None else max(0, each.payload_rx_bytes - round_.cell.size) for each in leechers
    ]
    again: Figures = {"refetched_bytes": _sum(beyond)}
    happened = round_.happened
    if happened is None or happened.void is not None:
        return again
    return {**again, "recovery_s": happened.recovery_s, "begun_percent": happened.percent}


def _rest(round_: Round) -> Figures:
    """What nodes hold once the file is deleted: the largest memory, and all of the disk."""
    if not round_.rest:
        return {}
    memory = max((each.rss_bytes for each in round_.rest.values() if each.rss_bytes is not None), default=None)
    return {"rss_rest_bytes": memory, "disk_rest_bytes": _sum(each.disk_bytes for each in round_.rest.values())}


def views_of(rounds: Iterable[Round]) -> set[str]:
    """The views in which any transfer of these rounds was seen."""
    return {view for round_ in rounds for transfer in round_.transfers for view in transfer.timelines}


def figures_of(rounds: Sequence[Round]) -> dict[int, Figures]:
    """The figures of a cell's rounds by index. What others of them tell a time of, a failed one did not reach."""
    views = views_of(rounds)
    moments = {
        name
        for round_ in rounds
        for transfer in round_.transfers
        if transfer.kind == round_.cell.moves
        for name in transfer.seconds
    }
    return {
        round_.index: {**({} if round_.success else dict.fromkeys(moments, math.inf)), **of_round(round_, views)}
        for round_ in rounds
    }


def _publishing(round_: Round, transfers: Sequence[Transfer]) -> Figures:
    good = round_.success and len(transfers) == 1
    publish_s = transfers[0].seconds.get("publish_s", math.inf) if good else math.inf
    more = dict(transfers[0].seconds) if transfers else {}
    return {**more, "publish_s": publish_s, "upload_mb_s": round_.cell.size / publish_s / 1e6}


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _shares(round_: Round) -> Figures:
    """Who carried the bytes: overhead on the leechers' wires, and the seeders' part of what was sent."""
    cell = round_.cell
    leechers = [counters for name, counters in round_.nodes.items() if name not in round_.seeders]
    seeders = [counters for name, counters in round_.nodes.items() if name in round_.seeders]
    received = _sum(counters.wire_rx_bytes for counters in leechers)
    overhead = received / (cell.size * cell.leechers) - 1 if received is not None and round_.success else None
    # payload where all nodes tell it, else what went out on the wire: never some of each
    told = all(counters.payload_tx_bytes is not None for counters in round_.nodes.values())
    sent, by_seeders = (
        _sum(each.payload_tx_bytes if told else each.wire_tx_bytes for each in some)
        for some in (round_.nodes.values(), seeders)
    )
    share = by_seeders / sent if cell.leechers > 1 and sent and by_seeders is not None else None
    return {"overhead": overhead, "seeder_share": share}


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or any(value is None for value in known) else math.fsum(v for v in known if v is not None)


def _used(round_: Round) -> Figures:
    """What the nodes took: sums over the nodes, and the largest peak of memory."""
    nodes = list(round_.nodes.values())
    return {
        "wire_rx_bytes": _sum(each.wire_rx_bytes for each in nodes),
        "wire_tx_bytes": _sum(each.wire_tx_bytes for each in nodes),
        "cpu_s": _sum(each.cpu_s for each in nodes),
        "rss_peak_bytes": max((each.rss_peak_bytes for each in nodes if each.rss_peak_bytes), default=None),
    }


def _efficiency(round_: Round, slowest_s: float) -> float | None:
    """The least possible time over the slowest leecher's; None where a node's own rate is not known."""
    rate = round_.environment.probe.get("wire_mb_s")
    if rate is None or (round_.environment.colocated and round_.cell.shape.link is None):
        return None
    return fluid_bound_s(round_.cell, rate * 1e6, rate * 1e6, round_.relays) / slowest_s


@dataclass(frozen=True, slots=True)
class Summary:
    """What all rounds of one cell say.

    ``figures`` are those of each round, by its index; ``intervals`` those of their medians, by metric.
    """

    cell: Cell
    rounds: int
    succeeded: int
    flagged: int
    figures: Mapping[int, Figures]
    intervals: Mapping[str, Interval]
    reliability: tuple[float, float]
    drift: float | None
    failures: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The metric that cells of its kind are compared by."""
        return HEADLINE[self.cell.kind]

    @property
    def drifts(self) -> bool:
        """Whether times grow or shrink with the round's index; of fewer rounds than give an interval it is chance."""
        enough = self.intervals[self.headline].level is not None
        return enough and self.drift is not None and abs(self.drift) > MOST_DRIFT

    def centre(self, metric: str) -> float | None:
        """The median of one metric; None if it was not measured."""
        interval = self.intervals.get(metric)
        return interval.median if interval else None


def summarise(rounds: Sequence[Round]) -> Summary:
    """The summary of one cell's rounds.

    Raises:
        ValueError: without rounds, or of more than one cell.
    """
    ordered = sorted(rounds, key=lambda round_: round_.index)
    return summary_of(ordered, figures_of(ordered))


def summary_of(ordered: Sequence[Round], figures: Mapping[int, Figures]) -> Summary:
    """The same, of rounds in order whose figures are known."""
    (cell,) = {round_.cell for round_ in ordered}
    intervals = {}
    for name in dict.fromkeys(name for each in figures.values() for name in each):
        values = [value for each in figures.values() if (value := each.get(name)) is not None]
        if values:
            intervals[name] = median_interval(values)
    for name, seconds in SPEEDS.items():
        if name in intervals:
            intervals[name] = _speed(cell.size, intervals[seconds])
    succeeded = sum(round_.success for round_ in ordered)
    headline = [each[HEADLINE[cell.kind]] or 0.0 for each in figures.values()]
    return Summary(
        cell=cell,
        rounds=len(ordered),
        succeeded=succeeded,
        flagged=sum(bool(round_.flags) for round_ in ordered),
        figures=figures,
        intervals=intervals,
        reliability=wilson(succeeded, len(ordered)),
        drift=spearman(list(figures), headline),
        failures=tuple(f"round {round_.index}: {round_.failure}" for round_ in ordered if round_.failure),
    )


def _speed(size: int, seconds: Interval) -> Interval:
    """The speed of a cell comes from its times: of an even count a median of speeds would be another one."""
    middle, low, high = (size / value / 1e6 for value in (seconds.median, seconds.high, seconds.low))
    return Interval(middle, low, high, seconds.level, seconds.count)


def by_cell(rounds: Iterable[Round]) -> dict[Cell, list[Round]]:
    """Measured rounds of each cell, cells in the order of the matrix."""
    found: dict[Cell, list[Round]] = {}
    for round_ in rounds:
        if not round_.warmup:
            found.setdefault(round_.cell, []).append(round_)
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _place(cell: Cell) -> tuple[object, ...]:
    size = cell.shape.link or 0, cell.shape.nodes, cell.seeders, cell.size
    return cell.kind, *size, cell.disturbance != UNDISTURBED, cell.disturbance, cell.system


def burdens(figures: Mapping[int, Figures], metric: str) -> dict[int, float]:
    """What one metric says of each round that tells it, by index: more is worse, so speeds are turned over."""
    told = {index: value for index, each in figures.items() if (value := each.get(metric)) is not None}
    if metric not in MORE_IS_BETTER:
        return told
    return {index: 1 / value if value else math.inf for index, value in told.items()}


def paired_ratios(subject: Mapping[int, Figures], reference: Mapping[int, Figures], metric: str) -> list[float]:
    """Subject / reference of every round that is in both; over 1 is worse.

    Pairs in which neither arrived say nothing of a ratio and are left out.
    """
    ours, theirs = burdens(subject, metric), burdens(reference, metric)
    ratios = [ratio(value, theirs[index]) for index, value in ours.items() if index in theirs]
    return [value for value in ratios if not math.isnan(value)]


def paired_ratio(subject: Sequence[Round], reference: Sequence[Round], metric: str) -> Interval | None:
    """The median over rounds of subject / reference, round by round; None where no round is in both."""
    told = paired_ratios(figures_of(subject), figures_of(reference), metric)
    return median_interval(told) if told else None
