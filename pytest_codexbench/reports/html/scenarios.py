"""Every scenario with its cells: curves, numbers, rounds, failures, what limited them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pytest_codexbench.matrix import Block, Cell
from pytest_codexbench.metrics import HEADLINE, VIEWS, Figures, Summary
from pytest_codexbench.records import OK, Round, Transfer
from pytest_codexbench.reports.arrivals import PERCENTS, Arrival, arrival, in_order
from pytest_codexbench.reports.findings import limited_by, ratio_sentence
from pytest_codexbench.reports.html.across import of
from pytest_codexbench.reports.html.look import Look, anchor
from pytest_codexbench.reports.html.markup import Content, Markup, element, joined
from pytest_codexbench.reports.html.overview import sign_of
from pytest_codexbench.reports.html.plot import Axis, Line, axis, key, plot
from pytest_codexbench.reports.html.table import Column, figure, measured, table
from pytest_codexbench.reports.outcomes import FAILED, Outcome, failure
from pytest_codexbench.reports.wording import (
    NOTHING,
    block_words,
    count,
    number,
    one_line,
    scaled,
    speed_mb_s,
    spread,
    times,
)
from pytest_codexbench.stats import Interval

VIEW_WORDS = {"available": "in any order", "contiguous": "in order"}
SHARE = Axis("% of the file", 0.0, 100.0, tuple((float(share), str(share)) for share in (0, 25, 50, 75, 100)))
# What failed transfers said: the first ones of a cell, and so much of a log's end.
MOST_TRANSFERS, MOST_TAIL = 6, 1500
# A soak may have thousands.
MOST_ROUNDS = 500
UNITS = {"_mb_s": (1.0, "MB/s"), "_bytes": (1e-6, "MB"), "_s": (1.0, "s")}

Arrivals = Mapping[Cell, Mapping[str, Arrival]]


def scenario(look: Look, block: Block, group: Sequence[Outcome]) -> Markup:
    """One block: its systems beside each other, then each cell."""
    alone = len(group) == len(look.of_kind(block.kind)) == 1
    arrivals = {outcome.cell: _arrivals(outcome) for outcome in group if block.kind != "upload"}
    return element(
        "section",
        element("h3", "Publish " if block.kind == "upload" else "", block_words(block)),
        _curves(look, block, group, arrivals) if arrivals else None,
        _beside(look, block, group),
        [_cell(look, outcome, arrivals.get(outcome.cell, {}), alone=alone) for outcome in group],
        id=anchor(block),
        class_="scenario",
    )


def _arrivals(outcome: Outcome) -> dict[str, Arrival]:
    found = ((view, arrival(outcome.rounds, view)) for view in VIEWS)
    return {view: told for view, told in found if told is not None}


# --- curves -----------------------------------------------------------------------------------------------------------


def _curves(look: Look, block: Block, group: Sequence[Outcome], arrivals: Arrivals) -> Markup | None:
    """A plot for each view, of the systems that tell it; never two views in one."""
    plots = []
    for view in VIEWS:
        cells = [
            outcome.cell
            for outcome in group
            if view in arrivals[outcome.cell] and (view == VIEWS[0] or in_order(outcome.cell.shape.variant))
        ]
        if cells:
            told = [(cell.system, look.styles[cell.system], arrivals[cell][view]) for cell in cells]
            plots.append(_arrival_plot(f"{anchor(block)}-{view}", f"Bytes held {VIEW_WORDS[view]}", told))
    if not plots:
        return None
    systems = [(outcome.cell.system, look.styles[outcome.cell.system]) for outcome in group]
    return joined(key(systems), element("div", plots, class_="plots"))


def _arrival_plot(name: str, caption: str, told: Sequence[tuple[str, int, Arrival]]) -> Markup:
    """How much of the file the median leecher held, by time; the band is the middle 80 % of all transfers."""
    ends = [seconds for _, _, one in told for seconds in (*one.late, *one.middle) if math.isfinite(seconds)]
    x = axis("seconds from the request", ends)
    systems = ", ".join(system for system, _, _ in told)
    words = (
        f"Share of the file that the median leecher held, of {systems}, against seconds; bands: the middle 80 % of all "
        "transfers."
    )
    drawn = plot(name, caption, words, x, SHARE, [_line(system, style, one, x) for system, style, one in told])
    return element("figure", element("figcaption", caption), drawn)


def _line(system: str, style: int, told: Arrival, x: Axis) -> Line:
    curve = [(seconds, float(share)) for seconds, share in zip(told.middle, PERCENTS, strict=True)]
    early, late = (
        tuple((min(seconds, x.high), float(share)) for seconds, share in zip(side, PERCENTS, strict=True))
        for side in (told.early, told.late)
    )
    return Line(system, style, curve=tuple(point for point in curve if math.isfinite(point[0])), band=(early, late))


# --- the systems of a block -------------------------------------------------------------------------------------------


def _beside(look: Look, block: Block, group: Sequence[Outcome]) -> Markup:
    headline = HEADLINE[block.kind]
    time = "publish, s" if block.kind == "upload" else "until all is there, s"
    columns = [
        Column[Outcome]("system", lambda one: look.link(one.cell, look.system(one.cell.system)), words=True),
        Column[Outcome]("rounds", lambda one: f"{one.summary.succeeded}/{one.summary.rounds}" if one.summary else None),
        Column(time, lambda one: measured(of(one, headline))),
        Column[Outcome]("MB/s", lambda one: figure(speed_mb_s(one.summary)) if one.summary else None),
        Column("ratio", lambda one: _ratio(look, one)),
        Column("verdict", lambda one: _word(look, one), words=True),
        Column("efficiency, %", lambda one: measured(of(one, "efficiency"), 100)),
    ]
    return table(f"{block_words(block)}: medians over the rounds", columns, {None: list(group)})


def _ratio(look: Look, outcome: Outcome) -> Content:
    if outcome.cell in look.references:
        return "reference"
    comparison = look.compared.get(outcome.cell)
    if comparison is None or comparison.ratio is None:
        return None
    ratio = comparison.ratio
    middle = times(ratio.median) if math.isfinite(ratio.median) else "not reached"
    return joined(figure(ratio.median, middle), " ", element("small", spread(ratio, "infinite")))


def _word(look: Look, outcome: Outcome) -> Content:
    comparison = look.compared.get(outcome.cell)
    if comparison is None or not comparison.word:
        return None
    return element("span", comparison.word, class_=sign_of(comparison)[1])


# --- one cell ---------------------------------------------------------------------------------------------------------


def _cell(look: Look, outcome: Outcome, arrivals: Mapping[str, Arrival], alone: bool) -> Markup:
    """A cell, folded unless it failed or is the only one."""
    summary = outcome.summary
    assert summary is not None  # noqa: S101 - it was measured
    headline = summary.intervals[summary.headline]
    unit = " s" if math.isfinite(headline.median) else ""
    comparison = look.compared.get(outcome.cell)
    return element(
        "details",
        element(
            "summary",
            element("h4", look.system(outcome.cell.system), " ", element("code", str(outcome.cell))),
            element("span", f"{number(headline.median)}{unit} {spread(headline)}", class_="quiet"),
            element("span", outcome.reason, class_="fail") if outcome.status == FAILED else None,
        ),
        element("p", ratio_sentence(comparison)) if comparison else None,
        element("p", element("strong", "What limited it. "), limited_by(outcome)) if limited_by(outcome) else None,
        _own_curves(look, outcome.cell, arrivals),
        _rounds(outcome),
        _failures(outcome),
        _numbers(summary),
        id=look.anchors[outcome.cell],
        class_="cell",
        open=outcome.status == FAILED or alone,
    )


def _own_curves(look: Look, cell: Cell, arrivals: Mapping[str, Arrival]) -> Markup | None:
    plots = []
    for view, told in arrivals.items():
        aside = "" if view == VIEWS[0] or in_order(cell.shape.variant) else ", though it fetches in any order"
        name = f"{look.anchors[cell]}-{view}"
        style = look.styles[cell.system]
        plots.append(_arrival_plot(name, f"Bytes held {VIEW_WORDS[view]}{aside}", [(cell.system, style, told)]))
    return element("div", plots, class_="plots") if plots else None


def _rounds(outcome: Outcome) -> Markup:
    """Each round with its median, fastest and slowest leecher."""
    assert outcome.summary is not None  # noqa: S101 - it was measured
    told = [(round_, outcome.summary.figures[round_.index]) for round_ in outcome.rounds[-MOST_ROUNDS:]]
    shown = {"download": DOWNLOAD_ROUND, "upload": UPLOAD_ROUND}[outcome.cell.moves]
    columns = [
        Column[tuple[Round, Figures]]("round", lambda one: str(one[0].index)),
        Column[tuple[Round, Figures]]("started", lambda one: one[0].started_at[:19].replace("T", " ")),
        *(Column(title, _shower(metric)) for metric, title in shown.items()),
        Column("ok", lambda one: "yes" if one[0].success else element("strong", "no"), words=True),
        Column("flags", lambda one: "; ".join(map(one_line, one[0].flags)), words=True),
    ]
    left_out = len(outcome.rounds) - len(told)
    which = f"each round, but for the first {left_out}, which are in records.jsonl" if left_out else "each round"
    return table(f"{outcome.cell}: {which}", columns, {None: told})


DOWNLOAD_ROUND = {
    "t100_s": "median leecher, s",
    "t100_min_s": "fastest, s",
    "t100_max_s": "slowest, s",
    "start_skew_s": "starts apart by, s",
}
UPLOAD_ROUND = {"publish_s": "publish, s", "upload_accept_s": "accepted, s"}


def _shower(metric: str) -> Callable[[tuple[Round, Figures]], Content]:
    return lambda one: figure(one[1].get(metric)) if one[1].get(metric) is not None else None


def _failures(outcome: Outcome) -> Markup | None:
    """Every round that failed with its reason, and what the first failed nodes said."""
    failed = [round_ for round_ in outcome.rounds if not round_.success]
    if not failed:
        return None
    reasons = [
        element("li", f"Round {round_.index}: {one_line(failure(round_) or '')}", class_="fail") for round_ in failed
    ]
    bad = list(_bad_transfers(failed))
    logs = [_log(round_, transfer) for round_, transfer in bad[:MOST_TRANSFERS]]
    more = len(bad) - MOST_TRANSFERS
    return joined(
        element("h5", "Failures"),
        element("ul", reasons),
        logs,
        element("p", f"And {count(more, 'more failed transfer')}: see results.json and logs/.") if more > 0 else None,
    )


def _bad_transfers(rounds: Iterable[Round]) -> Iterator[tuple[Round, Transfer]]:
    return ((round_, each) for round_ in rounds for each in round_.transfers if each.outcome != OK)


def _log(round_: Round, transfer: Transfer) -> Markup:
    said = transfer.log_tail or transfer.error or ""
    return element(
        "figure",
        element("figcaption", f"{transfer.node}, round {round_.index}: {transfer.outcome}"),
        element("pre", said[-MOST_TAIL:], tabindex=0),
    )


def _numbers(summary: Summary) -> Markup:
    """All that was measured of a cell."""
    columns = [
        Column[tuple[str, Interval]]("metric", lambda one: element("code", one[0]), words=True),
        Column("median", lambda one: _in_unit(*one)),
        Column("interval or range", lambda one: _limits(*one)),
        Column("unit", lambda one: _unit(one[0])[1], words=True),
        Column("rounds", lambda one: str(one[1].count)),
    ]
    return table(f"{summary.cell}: all figures", columns, {None: list(summary.intervals.items())})


def _unit(metric: str) -> tuple[float, str]:
    """The factor to what is shown, and its unit."""
    return next((unit for end, unit in UNITS.items() if metric.endswith(end)), (1.0, ""))


def _in_unit(metric: str, interval: Interval) -> Markup:
    return figure(interval.median, number(_unit(metric)[0] * interval.median))


def _limits(metric: str, interval: Interval) -> str:
    return spread(scaled(interval, _unit(metric)[0])) or NOTHING
