"""Plots and tables over the whole matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from pytest_codexbench.endurance import endurance
from pytest_codexbench.matrix import Block, rate_text, size_text
from pytest_codexbench.metrics import Summary, figures_of
from pytest_codexbench.records import OK
from pytest_codexbench.reports.arrivals import in_order
from pytest_codexbench.reports.findings import UNCORRECTED
from pytest_codexbench.reports.html.look import Look, anchor
from pytest_codexbench.reports.html.markup import Content, Markup, element, joined
from pytest_codexbench.reports.html.plot import Axis, Line, Mark, axis, bar, differ_much, key, logarithmic, plot
from pytest_codexbench.reports.html.table import Column, figure, measured, table
from pytest_codexbench.reports.outcomes import Outcome
from pytest_codexbench.reports.reliability import Row
from pytest_codexbench.reports.wording import block_words, count, number, percent, scaled, speed_mb_s, spread
from pytest_codexbench.stats import Interval

Group = Sequence[Outcome]
Where = Callable[[Block], float]


def by_size(look: Look, kind: str, metric: str, title: str) -> Markup | None:
    """A metric against the size of the file, a plot for each swarm."""
    panels: dict[str, dict[Block, Group]] = {}
    for block, group in look.of_kind(kind).items():
        shape = _swarm_words(block) if kind == "download" else f"2 nodes{_link_words(block)}"
        panels.setdefault(shape, {})[block] = group
    marks = {float(block.size): size_text(block.size) for block in look.of_kind(kind)}
    if len(marks) < 2:
        return None
    x = logarithmic("size of the file", _thinned(sorted(marks.items())))
    return _panels(look, panels, f"{metric}-size", metric, title, x, lambda block: float(block.size))


def by_swarm(look: Look, metric: str, title: str, only_largest: bool = False) -> Markup | None:
    """A metric against the nodes of the swarm, a plot for each size and, where a swarm had several, seeders."""
    blocks = look.of_kind("download")
    if only_largest and blocks:
        largest = max(block.size for block in blocks)
        blocks = {block: group for block, group in blocks.items() if block.size == largest}
    several = _several_seeders(blocks)
    panels: dict[str, dict[Block, Group]] = {}
    for block, group in blocks.items():
        seeders = f", {count(block.seeders, 'seeder')}" if several else ""
        panels.setdefault(f"{size_text(block.size)}{seeders}{_link_words(block)}", {})[block] = group
    panels = {name: panel for name, panel in panels.items() if len({block.nodes for block in panel}) > 1}
    if not panels:
        return None
    marks = {
        float(block.nodes): f"{block.nodes}" if several else f"{block.nodes} ({block.seeders})"
        for block in chain(*panels.values())
    }
    x = logarithmic("nodes" if several else "nodes (seeders among them)", sorted(marks.items()))
    return _panels(look, panels, f"{metric}-swarm", metric, title, x, lambda block: float(block.nodes))


def _several_seeders(blocks: Iterable[Block]) -> bool:
    shapes = {(block.nodes, block.seeders) for block in blocks}
    return len(shapes) > len({nodes for nodes, _ in shapes})


def _swarm_words(block: Block) -> str:
    return f"{block.nodes} nodes, {count(block.seeders, 'seeder')}{_link_words(block)}"


def _link_words(block: Block) -> str:
    return f", {rate_text(block.link)}/s" if block.link else ""


def _thinned(marks: Sequence[tuple[float, str]], most: int = 5) -> list[tuple[float, str]]:
    """So few marks that they can be read, the outer ones among them."""
    if len(marks) <= most:
        return list(marks)
    return [marks[round(index * (len(marks) - 1) / (most - 1))] for index in range(most)]


def _panels(
    look: Look,
    panels: Mapping[str, Mapping[Block, Group]],
    name: str,
    metric: str,
    title: str,
    x: Axis,
    where: Where,
) -> Markup | None:
    """Plots side by side below their key, each with a scale of its own."""
    scale = 100.0 if metric in SHARES else 1.0
    systems = [system for system in look.styles if any(_of(panel, system, metric) for panel in panels.values())]
    if not systems:
        return None
    limits = {caption: _limits(panel, metric, scale) for caption, panel in panels.items()}
    by_decades = metric not in SHARES and any(map(differ_much, limits.values()))
    plots = []
    for index, (caption, panel) in enumerate(panels.items()):
        y = axis(title, limits[caption], by_decades)
        lines = [
            Line(system, look.styles[system], tuple(_marks(panel, system, metric, where, scale))) for system in systems
        ]
        told_of = f"{title} of {', '.join(systems)} against {x.title}; the numbers are in the table below."
        drawn = plot(f"{name}-{index}", f"{title}, {caption}", told_of, x, y, [line for line in lines if line.marks])
        plots.append(element("figure", element("figcaption", caption), drawn))
    return joined(key([(system, look.styles[system]) for system in systems]), element("div", plots, class_="plots"))


SHARES = frozenset({"overhead", "seeder_share"})


def _points(panel: Mapping[Block, Group], metric: str) -> Iterable[tuple[Block, str, Interval]]:
    for block, group in panel.items():
        for outcome in group:
            if outcome.summary and (interval := outcome.summary.intervals.get(metric)):
                yield block, outcome.cell.system, interval


def _limits(panel: Mapping[Block, Group], metric: str, scale: float) -> list[float]:
    """All that an axis must have room for."""
    told = [interval for _, _, interval in _points(panel, metric)]
    return [scale * value for interval in told for value in (interval.median, interval.low, interval.high)]


def _of(panel: Mapping[Block, Group], system: str, metric: str) -> list[tuple[Block, Interval]]:
    return [(block, interval) for block, name, interval in _points(panel, metric) if name == system]


def _marks(panel: Mapping[Block, Group], system: str, metric: str, where: Where, scale: float) -> Iterable[Mark]:
    for block, interval in sorted(_of(panel, system, metric), key=lambda each: where(each[0])):
        shown = scaled(interval, scale)
        text = f"{system}, {block_words(block)}: {number(shown.median)} {spread(shown)}"
        yield Mark(where(block), shown.median, shown.low, shown.high, interval.level is not None, text)


# --- tables -----------------------------------------------------------------------------------------------------------


def grouped(look: Look, kind: str) -> dict[Markup | None, list[Outcome]]:
    """Cells below a link to their block."""
    verb = "publish " if kind == "upload" else ""
    return {
        element("a", verb, block_words(block), href=f"#{anchor(block)}"): list(group)
        for block, group in look.of_kind(kind).items()
    }


def of(outcome: Outcome, metric: str) -> Interval | None:
    """What was measured of one metric."""
    return outcome.summary.intervals.get(metric) if outcome.summary else None


def system_column(look: Look) -> Column[Outcome]:
    """The first column: the system, as a link to its cell."""
    return Column("system", lambda one: look.link(one.cell, look.system(one.cell.system)), words=True)


def publish_table(look: Look) -> Markup:
    """What publishing took."""
    columns = [
        system_column(look),
        Column("publish, s", lambda one: measured(of(one, "publish_s"))),
        Column("MB/s", _speed),
        Column("accepted, s", lambda one: measured(of(one, "upload_accept_s"))),
        Column("hashed, s", lambda one: measured(of(one, "hash_s"))),
        Column("announced, s", lambda one: measured(of(one, "announce_s"))),
        Column("copies the file", _copies, words=True),
    ]
    return table("From a file on the disk to a handle that another node can fetch", columns, grouped(look, "upload"))


def _copies(outcome: Outcome) -> str:
    return "yes" if all(round_.copies for round_ in outcome.rounds) else "no"


def _speed(outcome: Outcome) -> Content:
    return figure(speed_mb_s(outcome.summary)) if outcome.summary else None


def first_byte_table(look: Look) -> Markup:
    """Where the time to the first byte goes."""
    columns = [
        system_column(look),
        Column("manifest, s", lambda one: measured(of(one, "manifest_s"))),
        Column("first block, not yet verified, s", lambda one: measured(of(one, "first_block_s"))),
        Column("first byte in any order, s", lambda one: measured(of(one, "available.ttfb_s"))),
        Column("1 MiB in any order, s", lambda one: measured(of(one, "available.t1mib_s"))),
        Column("first byte in order, s", lambda one: _ordered(one, "ttfb_s")),
        Column("1 MiB in order, s", lambda one: _ordered(one, "t1mib_s")),
        Column("of it before manifest or block", lambda one: _before(look, one)),
    ]
    return table("Time to the first bytes, medians over the rounds", columns, grouped(look, "download"))


def _ordered(outcome: Outcome, metric: str) -> Content:
    """In order, of systems that fetch so; of others it says nothing."""
    return measured(of(outcome, f"contiguous.{metric}")) if in_order(outcome.cell.shape.variant) else None


def _before(look: Look, outcome: Outcome) -> Content:
    """A bar of how much of the time to the first byte passed before the system's own moment."""
    moment = of(outcome, "manifest_s") or of(outcome, "first_block_s")
    whole = of(outcome, "available.ttfb_s") or of(outcome, "contiguous.ttfb_s")
    if moment is None or whole is None or not 0 < whole.median < math.inf or math.isinf(moment.median):
        return None
    share = moment.median / whole.median
    return joined(bar(share, look.styles[outcome.cell.system]), f" {percent(min(share, 1.0))} %")


def carried_table(look: Look) -> Markup:
    """Who carried the bytes, and how many more than the file there were."""
    counted = {outcome.rounds[0].environment.wire for outcome in look.told.measured}
    label = f"; counted by {', '.join(sorted(counted))}" if counted else ""
    if any(UNCORRECTED in wire for wire in counted):
        label += ", which is too low where packets of many segments count with one header"
    columns = [
        system_column(look),
        Column("overhead, %", lambda one: measured(of(one, "overhead"), 100)),
        Column("seeders' share, %", lambda one: measured(of(one, "seeder_share"), 100)),
        Column("least possible, %", lambda one: percent(1 / one.cell.leechers) if of(one, "seeder_share") else None),
        Column(
            "equal load, %",
            lambda one: percent(one.cell.seeders / one.cell.shape.nodes) if of(one, "seeder_share") else None,
        ),
        Column("processor, s", lambda one: measured(of(one, "cpu_s"))),
        Column("memory at the peak, MB", lambda one: measured(of(one, "rss_peak_bytes"), 1e-6)),
    ]
    return table(f"Bytes on the wire over the file's own, and who sent them{label}", columns, grouped(look, "download"))


def stability_table(look: Look) -> Markup:
    """How evenly a file arrives."""
    columns = [
        system_column(look),
        Column("stalls", lambda one: measured(of(one, "stalls"))),
        Column("longest stall, s", lambda one: measured(of(one, "longest_stall_s"))),
        Column("throughput's variation", lambda one: measured(of(one, "throughput_cv"))),
        Column("fairness", lambda one: measured(of(one, "fairness"))),
        Column("straggler", lambda one: measured(of(one, "straggler"))),
        Column("efficiency, %", lambda one: measured(of(one, "efficiency"), 100)),
        Column("drift", _drift),
    ]
    return table("Stability: medians over the rounds", columns, grouped(look, "download"))


def _drift(outcome: Outcome) -> Content:
    if outcome.summary is None or outcome.summary.drift is None:
        return None
    told = f"{outcome.summary.drift:+.2f}"
    return element("strong", told, " drifts") if outcome.drifts else told


def reliability_table(look: Look) -> Markup:
    """How often it worked."""
    columns = [
        system_column(look),
        Column("rounds that succeeded", lambda one: _succeeded(one.summary)),
        Column("95 % interval of their share, %", lambda one: _wilson(one.summary)),
        Column("transfers that succeeded", _transfers),
        Column[Outcome]("flagged rounds", lambda one: str(one.summary.flagged) if one.summary else None),
    ]
    groups = {**grouped(look, "download"), **grouped(look, "upload")}
    return table("Reliability: Wilson's interval of the share of rounds", columns, groups)


def _succeeded(summary: Summary | None) -> Content:
    if summary is None:
        return None
    told = f"{summary.succeeded} of {summary.rounds}"
    return told if summary.succeeded == summary.rounds else element("strong", told)


def _wilson(summary: Summary | None) -> Content:
    return "{:.0f} to {:.0f}".format(*(100 * limit for limit in summary.reliability)) if summary else None


def _transfers(outcome: Outcome) -> Content:
    kind = outcome.cell.moves
    wanted = (outcome.cell.leechers if kind == "download" else 1) * len(outcome.rounds)
    good = sum(each.outcome == OK and each.kind == kind for round_ in outcome.rounds for each in round_.transfers)
    return f"{good} of {wanted}"


def text_table(caption: str, names: Sequence[str], groups: Mapping[str, Sequence[Row]]) -> Markup:
    """A table of words: ``names`` of its columns, rows below their group's heading."""
    columns = [Column(name, _nth(index), words=index == 0) for index, name in enumerate(names)]
    return table(caption, columns, {element("span", name): list(rows) for name, rows in groups.items()})


def _nth(index: int) -> Callable[[Row], Content]:
    return lambda row: row[index]


def over_time(look: Look) -> Iterator[Markup]:
    """Memory and disk of every node against the number of the file, for each soak; and the time of each file."""
    for one in endurance(look.told.story.rounds):
        rounds = sorted(
            (round_ for round_ in look.told.story.measured() if round_.cell == one.cell), key=lambda each: each.index
        )
        times = [(float(index), each["t100_s"] or 0.0) for index, each in figures_of(rounds).items()]
        curves = {
            "t100, s": {one.cell.system: [point for point in times if math.isfinite(point[1])]},
            "memory, MB": {
                node.name: [(float(i), m / 1e6) for i, m, _ in node.points if m is not None] for node in one.nodes
            },
            "disk, MB": {
                node.name: [(float(i), d / 1e6) for i, _, d in node.points if d is not None] for node in one.nodes
            },
        }
        drawn = [
            _course(f"soak-{one.cell}-{index}", title, lines) for index, (title, lines) in enumerate(curves.items())
        ]
        yield element("h3", str(one.cell))
        yield key([(node.name, style) for style, node in enumerate(one.nodes)])
        yield element("div", [each for each in drawn if each is not None], class_="plots")


def _course(name: str, title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Markup | None:
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return None
    x = axis("file", [place for place, _ in points])
    y = axis(title, [value for _, value in points])
    lines = [Line(label, style, curve=tuple(curve)) for style, (label, curve) in enumerate(curves.items())]
    told = f"{title} against the number of the file; the table below has the figures."
    return element("figure", element("figcaption", title), plot(name, f"{title}, {name}", told, x, y, lines))
