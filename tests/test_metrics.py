"""What follows from the records: every figure that is shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pytest_codexbench.matrix import BUILT_IN, Cell, Shape, Variant
from pytest_codexbench.metrics import (
    by_cell,
    figures_of,
    of_round,
    of_timeline,
    of_transfer,
    paired_ratio,
    paired_ratios,
    summarise,
    unit_of,
)
from pytest_codexbench.plan import WARM_UP
from pytest_codexbench.records import CORRUPT, FAILED, LATE, OK, Counters, Environment, Round, Transfer
from pytest_codexbench.stats import Interval, wilson
from pytest_codexbench.timeline import NS, Timeline

INF = math.inf
MB = 10**6
SIZE = 100 * MB
HTTP, CODEX = BUILT_IN["http"], BUILT_IN["codex"]

PLACE = Environment(
    backend="local",
    isolation="namespaces",
    versions={},
    machine={},
    kernel="6.1",
    colocated=True,
    workers=1,
    wire="queues",
)


def cell(nodes: int = 4, seeders: int = 1, variant: Variant = CODEX, link: int | None = None) -> Cell:
    """A dissemination of 100 MB."""
    return Cell(Shape(variant, nodes, link), seeders, SIZE)


def timeline(t100_s: float, share: float = 1.0) -> Timeline:
    """A steady transfer that would take ``t100_s``, of which ``share`` came."""
    marks = tuple((SIZE * step // 100, round(t100_s * NS) * step // 100) for step in range(1, round(100 * share) + 1))
    return Timeline(SIZE, ((1, round(t100_s * NS) // 1000), *marks), end_ns=marks[-1][1])


def transfer(node: int, t100_s: float, outcome: str = OK, share: float = 1.0) -> Transfer:
    """What one leecher says; a failed one says why."""
    error = None if outcome == OK else f"n{node:02d} {outcome}"
    views = {view: timeline(t100_s, share) for view in ("available", "contiguous")}
    return Transfer(f"n{node:02d}", "download", outcome, views, {"first_block_s": t100_s / 50}, error)


def failed(node: int) -> Transfer:
    """A leecher that was lost before it told anything."""
    return Transfer(f"n{node:02d}", "download", FAILED, error=f"the agent of n{node:02d} was lost")


def a_round(
    transfers: Sequence[Transfer],
    it: Cell | None = None,
    index: int = 0,
    nodes: Mapping[str, Counters] | None = None,
    **more: object,
) -> Round:
    """A round in which the first nodes seed."""
    chosen = it or cell()
    facts: dict[str, object] = {"environment": PLACE, **more}
    return Round(
        cell=chosen,
        index=index,
        seed=1,
        seeders=tuple(f"n{node:02d}" for node in range(chosen.seeders)),
        transfers=tuple(transfers),
        nodes=nodes or {},
        started_at="2026-01-01T00:00:00+00:00",
        **facts,  # type: ignore[arg-type]  # any field of a round, by name
    )


def three(*times_s: float) -> list[Transfer]:
    """Leechers n01, n02, ..., with their times; an infinite one failed half way."""
    return [
        transfer(node, seconds) if seconds < INF else transfer(node, 10.0, FAILED, 0.5)
        for node, seconds in enumerate(times_s, 1)
    ]


# --- one transfer ---


def test_a_timeline_has_its_five_times() -> None:
    """First byte, 1 MiB, 50, 90 and 100 percent."""
    expected = {"ttfb_s": 0.01, "t1mib_s": 0.2, "t50_s": 5.0, "t90_s": 9.0, "t100_s": 10.0}

    assert expected == of_timeline(timeline(10.0))


def test_a_partial_timeline_has_times_as_far_as_it_got() -> None:
    """Of a failed transfer, what came is known, the rest was not reached."""
    assert {"ttfb_s": 0.01, "t1mib_s": 0.2, "t50_s": 5.0, "t90_s": INF, "t100_s": INF} == of_timeline(timeline(10, 0.6))


def test_a_transfer_has_its_speed_and_each_views_times() -> None:
    """The views are never mixed: each time carries its name; t100 is the same in both."""
    figures = of_transfer(transfer(1, 10.0))

    assert 10.0 == figures["t100_s"]
    assert 10.0 == figures["download_mb_s"]
    assert 5.0 == figures["available.t50_s"] == figures["contiguous.t50_s"]
    assert "t50_s" not in figures
    assert 0.2 == figures["first_block_s"]


def test_stalls_come_from_the_timeline() -> None:
    """How many pauses over a second, the longest of them, and the spread of the seconds."""
    halting = replace(timeline(10.0), gaps=((NS, 2 * NS), (4 * NS, 3 * NS)), received=(30, 60, 90))
    figures = of_transfer(Transfer("n01", "download", OK, {"available": halting}))

    assert 2 == figures["stalls"]
    assert 3.0 == figures["longest_stall_s"]
    assert 0.0 == figures["throughput_cv"]


@pytest.mark.parametrize("outcome", [CORRUPT, LATE, FAILED])
def test_a_transfer_that_did_not_end_well_never_arrived(outcome: str) -> None:
    """All bytes came, but they were wrong or too late: no time to 100 %, and no speed."""
    figures = of_transfer(transfer(1, 10.0, outcome))

    assert INF == figures["t100_s"]
    assert 0.0 == figures["download_mb_s"]


def test_a_transfer_that_told_nothing_never_arrived() -> None:
    """A lost agent leaves no timeline."""
    assert INF == of_transfer(failed(1))["t100_s"]


# --- one round ---


def test_a_round_is_the_median_over_its_leechers() -> None:
    """Leechers of one round share seeders, network and time: they are one observation, with its least and most."""
    figures = of_round(a_round(three(10.0, 30.0, 20.0)))

    assert 20.0 == figures["t100_s"]
    assert 10.0 == figures["t100_min_s"]
    assert 30.0 == figures["t100_max_s"]
    assert 1.5 == figures["straggler"]
    assert 5.0 == figures["download_mb_s"]
    assert 10.0 == figures["available.t50_s"]
    assert pytest.approx(0.4) == figures["first_block_s"]


def test_a_failed_leecher_is_slow_without_end_and_not_dropped() -> None:
    """One of three: the median is the slower of those that arrived. Two of three: not reached."""
    one, two = of_round(a_round(three(10.0, INF, 20.0))), of_round(a_round(three(INF, INF, 20.0)))

    assert (20.0, 10.0, INF) == (one["t100_s"], one["t100_min_s"], one["t100_max_s"])
    assert one["straggler"] is None
    assert (INF, 20.0, INF) == (two["t100_s"], two["t100_min_s"], two["t100_max_s"])
    assert 0.0 == two["download_mb_s"]


def test_a_corrupt_transfer_counts_as_never_arrived() -> None:
    """Fast but wrong is not fast."""
    figures = of_round(a_round([transfer(1, 1.0, CORRUPT), transfer(2, 2.0, CORRUPT), transfer(3, 20.0)]))

    assert INF == figures["t100_s"]
    assert 20.0 == figures["t100_min_s"]


def test_a_leecher_that_is_missing_altogether_counts_as_never_arrived() -> None:
    """What was to be measured and was not is no better than a failure."""
    figures = of_round(a_round([transfer(1, 10.0)]))

    assert INF == figures["t100_s"]
    assert 10.0 == figures["t100_min_s"]


def test_a_leecher_that_told_nothing_is_not_dropped_from_earlier_times() -> None:
    """Two of three were lost before their first byte: half of the file was not reached, in the median, either."""
    lost = of_round(a_round([transfer(1, 10.0), failed(2), failed(3)]))
    missing = of_round(a_round([transfer(1, 10.0)]))

    for figures in (lost, missing):
        assert INF == figures["t100_s"]
        assert INF == figures["available.t50_s"]
        assert INF == figures["contiguous.ttfb_s"]


def test_a_round_without_any_transfer_has_figures() -> None:
    """A cluster that died before the start: nothing was reached, nothing breaks."""
    figures = of_round(a_round([], error="the seeders disagree"))

    assert INF == figures["t100_s"] == figures["t100_min_s"] == figures["t100_max_s"]
    assert 0.0 == figures["download_mb_s"] == figures["fairness"]
    assert figures["straggler"] is None
    assert figures["overhead"] is None


def test_a_seeders_publishing_is_no_leechers_download() -> None:
    """Transfers of another kind in the record count in no download's figure."""
    publishing = Transfer("n00", "upload", OK, {}, {"publish_s": 1.0})
    figures = of_round(a_round([publishing, *three(10.0, 20.0, 30.0)], seconds={"seed_s": 1.0, "round_s": 40.0}))

    assert 20.0 == figures["t100_s"]
    assert "publish_s" not in figures
    assert 1.0 == figures["seed_s"]
    assert 40.0 == figures["round_s"]


def test_fairness_is_over_the_speeds_of_all_leechers() -> None:
    """Equal speeds are fair; with one of three failed two thirds are left."""
    assert pytest.approx(1.0) == of_round(a_round(three(10.0, 10.0, 10.0)))["fairness"]
    assert pytest.approx(2 / 3) == of_round(a_round(three(10.0, INF, 10.0)))["fairness"]
    assert pytest.approx(1 / 3) == of_round(a_round([transfer(1, 10.0), failed(2)]))["fairness"]


# --- who carried the bytes ---


def counters(rx: int | None = None, tx: int | None = None, payload_tx: int | None = None) -> Counters:
    """What one node counted."""
    return Counters(wire_rx_bytes=rx, wire_tx_bytes=tx, payload_tx_bytes=payload_tx)


def test_overhead_is_what_the_leechers_wires_carried_over_the_files() -> None:
    """3 leechers of 100 MB with 315 MB on their wires: 5 %. What seeders receive is no overhead."""
    nodes = {"n00": counters(99 * MB), "n01": counters(100 * MB), "n02": counters(105 * MB), "n03": counters(110 * MB)}

    assert pytest.approx(0.05) == of_round(a_round(three(1, 1, 1), nodes=nodes))["overhead"]


@pytest.mark.parametrize(
    "transfers, nodes",
    [
        (three(1, 1, INF), {f"n0{n}": counters(100 * MB) for n in range(4)}),
        (three(1, 1, 1), {"n00": counters(1), "n01": counters(100 * MB), "n02": counters(), "n03": counters(1)}),
        (three(1, 1, 1), {}),
    ],
    ids=["failed", "one node cannot tell", "no node can tell"],
)
def test_overhead_is_not_told_where_it_would_mislead(transfers: list[Transfer], nodes: dict[str, Counters]) -> None:
    """Not for a round that failed, since fewer bytes came, nor where a leecher's wire was not counted."""
    assert of_round(a_round(transfers, nodes=nodes))["overhead"] is None


def test_the_seeders_share_is_their_part_of_the_payload_sent() -> None:
    """The seeder sent 120 MB of 300: 0.4. The wire says something else, and is not asked."""
    sent = (120, 60, 60, 60)
    nodes = {f"n0{n}": counters(tx=7 * MB, payload_tx=amount * MB) for n, amount in enumerate(sent)}

    assert pytest.approx(0.4) == of_round(a_round(three(1, 1, 1), nodes=nodes))["seeder_share"]


def test_the_seeders_share_of_origins_is_one() -> None:
    """Client and server: nobody else sends."""
    nodes = {f"n0{n}": counters(payload_tx=300 * MB if n == 0 else 0) for n in range(4)}

    assert 1.0 == of_round(a_round(three(1, 1, 1), cell(variant=HTTP), nodes=nodes))["seeder_share"]


def test_the_seeders_share_falls_back_to_the_wire() -> None:
    """Where nodes do not tell payload: what went out of the seeders' links over what went out of all."""
    nodes = {f"n0{n}": counters(tx=(150 if n == 0 else 50) * MB) for n in range(4)}

    assert 0.5 == of_round(a_round(three(1, 1, 1), nodes=nodes))["seeder_share"]


def test_the_seeders_share_never_mixes_payload_and_wire() -> None:
    """If one node cannot tell its payload, all are taken by their wires."""
    nodes = {f"n0{n}": counters(tx=(150 if n == 0 else 50) * MB) for n in range(4)}
    nodes["n00"] = counters(tx=150 * MB, payload_tx=60 * MB)

    assert 0.5 == of_round(a_round(three(1, 1, 1), nodes=nodes))["seeder_share"]


def test_the_seeders_share_is_not_told_of_one_leecher() -> None:
    """Nobody but the seeders could send; nor is it told where nothing was counted, or sent."""
    nodes = {"n00": counters(tx=100 * MB), "n01": counters(tx=1)}
    silent = {f"n0{n}": counters(tx=0) for n in range(4)}

    assert of_round(a_round(three(1), cell(2, 1), nodes=nodes))["seeder_share"] is None
    assert of_round(a_round(three(1, 1, 1)))["seeder_share"] is None
    assert of_round(a_round(three(1, 1, 1), nodes=silent))["seeder_share"] is None


def test_what_nodes_took_is_added_up() -> None:
    """Bytes and processor seconds are summed, memory is the largest peak; a sum with an unknown part is unknown."""
    nodes = {
        "n00": Counters(wire_rx_bytes=1, wire_tx_bytes=10, cpu_s=0.5, rss_peak_bytes=7),
        "n01": Counters(wire_rx_bytes=2, wire_tx_bytes=None, cpu_s=1.0, rss_peak_bytes=None),
    }
    figures = of_round(a_round(three(1), cell(2, 1), nodes=nodes))

    assert 3 == figures["wire_rx_bytes"]
    assert figures["wire_tx_bytes"] is None
    assert 1.5 == figures["cpu_s"]
    assert 7 == figures["rss_peak_bytes"]


def probed(colocated: bool, wire_mb_s: float | None = 10.0) -> Environment:
    """A place whose links were measured."""
    return replace(PLACE, colocated=colocated, probe={"wire_mb_s": wire_mb_s})


def test_efficiency_is_the_least_possible_time_over_the_slowest() -> None:
    """100 MB from one seeder at 10 MB/s take 10 s at best, 30 s for three leechers where it alone sends."""
    swarm = of_round(a_round(three(11.0, 12.0, 20.0), environment=probed(colocated=False)))
    alone = replace(a_round(three(30.0, 30.0, 60.0), environment=probed(colocated=False)), relays=False)
    origin = of_round(alone)

    assert pytest.approx(0.5) == swarm["efficiency"]
    assert pytest.approx(0.5) == origin["efficiency"]


def test_efficiency_of_a_failed_round_is_zero() -> None:
    """The slowest never arrived."""
    assert 0.0 == of_round(a_round(three(11.0, INF, 20.0), environment=probed(colocated=False)))["efficiency"]


def test_efficiency_is_not_told_where_a_nodes_own_rate_is_unknown() -> None:
    """Nodes that share a host and are not limited share its rate; with limited links each has its own."""
    shaped = cell(link=80 * MB)

    assert of_round(a_round(three(1, 1, 1), environment=probed(colocated=True)))["efficiency"] is None
    assert of_round(a_round(three(1, 1, 1), environment=probed(False, None)))["efficiency"] is None
    assert of_round(a_round(three(1, 1, 1), environment=PLACE))["efficiency"] is None
    assert pytest.approx(0.5) == of_round(a_round(three(9, 9, 20), shaped, environment=probed(True)))["efficiency"]


# --- publishing ---


def published(outcome: str = OK, publish_s: float = 4.0, index: int = 0) -> Round:
    """A round in which one node published 100 MB."""
    told = Transfer(
        "n00", "upload", outcome, {}, {"publish_s": publish_s, "upload_accept_s": 1.0}, None if outcome == OK else "no"
    )
    return a_round([told], Cell(Shape(CODEX, 2), 1, SIZE, "upload"), index)


def test_publishing_has_its_time_and_speed() -> None:
    """From the file on disk to a handle that another node can fetch."""
    figures = of_round(published())

    assert 4.0 == figures["publish_s"]
    assert 25.0 == figures["upload_mb_s"]
    assert 1.0 == figures["upload_accept_s"]
    assert "t100_s" not in figures


def test_publishing_that_failed_was_never_done() -> None:
    """Whatever time it told; so it is where it told nothing."""
    nothing = a_round([], Cell(Shape(CODEX, 2), 1, SIZE, "upload"), error="lost")

    for figures in (of_round(published(FAILED)), of_round(nothing)):
        assert INF == figures["publish_s"]
        assert 0.0 == figures["upload_mb_s"]


# --- a cell ---


def rounds(*times_s: float, variant: Variant = CODEX) -> list[Round]:
    """Rounds 0, 1, ... of one cell with one leecher, by its time; an infinite one failed."""
    return [a_round(three(seconds), cell(2, 1, variant), index) for index, seconds in enumerate(times_s)]


def test_a_summary_has_the_median_of_the_rounds() -> None:
    """Six rounds: their median, from the least to the most with 96.9 %."""
    summary = summarise(rounds(6.0, 2.0, 4.0, 3.0, 1.0, 5.0))

    assert Interval(3.5, 1.0, 6.0, 1 - 2 / 64, 6) == summary.intervals["t100_s"]
    assert 3.5 == summary.centre("t100_s")
    assert summary.centre("overhead") is None
    assert "t100_s" == summary.headline
    assert (6, 6, 0) == (summary.rounds, summary.succeeded, summary.flagged)
    assert wilson(6, 6) == summary.reliability
    assert () == summary.failures


def test_a_summary_keeps_failures() -> None:
    """A failed round has a time without end, lowers the reliability, and says why, in the order of the rounds."""
    summary = summarise(rounds(1.0, 2.0, INF, 3.0, INF, 4.0)[::-1])

    assert Interval(3.5, 1.0, INF, 1 - 2 / 64, 6) == summary.intervals["t100_s"]
    assert 4 == summary.succeeded
    assert wilson(4, 6) == summary.reliability
    assert ("round 2: n01 failed", "round 4: n01 failed") == summary.failures


def test_a_summary_of_a_cell_that_mostly_failed_was_not_reached() -> None:
    """A median of infinity is told as such."""
    assert INF == summarise(rounds(1.0, INF, INF)).centre("t100_s")


def test_a_view_that_a_system_does_not_tell_is_not_said_to_be_unreached() -> None:
    """Where no transfer tells what a reader could have consumed, a failed round does not tell it either."""
    some = rounds(1.0, 2.0, INF)
    told = [replace(each.transfers[0], timelines={"available": timeline(1.0)}) for each in some]
    summary = summarise([replace(one, transfers=(only,)) for one, only in zip(some, told, strict=True)])

    assert summary.centre("available.t50_s") is not None
    assert summary.centre("contiguous.t50_s") is None


def test_the_speed_of_a_cell_comes_from_its_times() -> None:
    """The file over the median time: 100 MB in 10 and 30 s are 5 MB/s, and not the mean of 10 and 3.3."""
    speed = summarise(rounds(10.0, 30.0)).intervals["download_mb_s"]
    never = summarise(rounds(10.0, INF)).intervals["download_mb_s"]
    publish = summarise([published(publish_s=float(seconds), index=seconds) for seconds in (1, 3)])

    assert Interval(5.0, 100 / 30, 10.0, None, 2) == speed
    assert (0.0, 0.0, 10.0) == (never.median, never.low, never.high)
    assert 50.0 == publish.centre("upload_mb_s")


def test_drift_is_told_in_the_order_of_the_rounds() -> None:
    """Rounds that get slower and slower have rho = 1, in whatever order they were written down."""
    slower = rounds(1.0, 2.0, 3.0, 4.0, 5.0, INF)

    assert pytest.approx(1.0) == summarise(slower).drift
    assert pytest.approx(1.0) == summarise(slower[::-1]).drift
    assert pytest.approx(-1.0) == summarise(rounds(5.0, 4.0, 3.0)).drift
    assert summarise(rounds(1.0, 1.0, 1.0)).drift is None
    assert summarise(rounds(1.0)).drift is None


def test_flagged_rounds_are_counted_and_stay_in() -> None:
    """They are marked, not dropped."""
    some = rounds(1.0, 2.0, 3.0)
    some[1] = replace(some[1], flags=("start skew", "something else ran"))
    summary = summarise(some)

    assert 1 == summary.flagged
    assert 3 == summary.intervals["t100_s"].count


def test_publishing_is_summarised_by_its_own_time() -> None:
    """Drift and headline are of `publish_s`."""
    summary = summarise([published(publish_s=float(index + 1), index=index) for index in range(6)])

    assert "publish_s" == summary.headline
    assert 3.5 == summary.centre("publish_s")
    assert pytest.approx(1.0) == summary.drift


def test_a_summary_is_of_one_cell() -> None:
    """Rounds of two cells, or none, are a mistake."""
    with pytest.raises(ValueError, match="unpack"):
        summarise([*rounds(1.0), *rounds(1.0, variant=HTTP)])
    with pytest.raises(ValueError, match="unpack"):
        summarise([])


def test_warm_ups_are_in_no_statistics() -> None:
    """Rounds are gathered by cell, in the order of the matrix, without those that only warmed up."""
    warmup = replace(rounds(1.0)[0], index=WARM_UP)
    big = a_round(three(1, 1, 1), cell(4))
    small, other = rounds(1.0, 2.0), rounds(1.0, variant=HTTP)
    found = by_cell([big, warmup, *small, *other])

    assert [cell(2), cell(2, variant=HTTP), cell(4)] == list(found)
    assert [small, other, [big]] == list(found.values())


# --- pairs ---


def test_ratios_are_of_rounds_with_the_same_index() -> None:
    """Round k of one system against round k of the other, whatever the order of the records."""
    subject, reference = rounds(2.0, 9.0, 40.0), rounds(1.0, 3.0, 10.0, variant=HTTP)

    assert Interval(3.0, 2.0, 4.0, None, 3) == paired_ratio(subject, reference[::-1], "t100_s")


def test_rounds_without_a_partner_are_in_no_ratio() -> None:
    """A run that was stopped has more rounds of one system than of the other."""
    subject, reference = rounds(2.0, 9.0, 40.0, 5.0), rounds(1.0, 3.0, variant=HTTP)

    assert Interval(2.5, 2.0, 3.0, None, 2) == paired_ratio(subject, reference, "t100_s")
    assert paired_ratio(subject[2:], reference, "t100_s") is None
    assert paired_ratio(subject, reference, "unheard_of") is None


def test_a_failure_on_one_side_is_a_ratio() -> None:
    """It never arrived: infinitely slower, or infinitely faster where the reference failed; nothing where both did."""
    subject, reference = rounds(INF, 2.0, INF, 4.0), rounds(1.0, INF, INF, 2.0, variant=HTTP)

    assert Interval(2.0, 0.0, INF, None, 3) == paired_ratio(subject, reference, "t100_s")


def test_speeds_are_turned_over() -> None:
    """Over 1 is always worse: half the speed is 2, and a speed of nothing is infinitely worse."""
    subject, reference = (figures_of(some) for some in (rounds(20.0, INF, 4.0), rounds(10.0, 3.0, INF, variant=HTTP)))
    ratios = {metric: paired_ratios(subject, reference, metric) for metric in ("t100_s", "download_mb_s")}

    assert [2.0, INF, 0.0] == pytest.approx(ratios["download_mb_s"])
    assert ratios["t100_s"] == ratios["download_mb_s"]


@pytest.mark.parametrize("metric", ["available.t50_s", "first_block_s"])
def test_a_round_that_told_nothing_did_not_get_there(metric: str) -> None:
    """A time that other rounds of the cell tell is infinite where every leecher was lost: it is not left out."""
    lost = replace(rounds(1.0)[0], index=1, transfers=(failed(1),))
    subject, reference = [*rounds(2.0), lost], rounds(1.0, 1.0, variant=HTTP)

    assert [2.0, INF] == pytest.approx(paired_ratios(figures_of(subject), figures_of(reference), metric))
    assert INF == summarise(subject).centre(metric)


@pytest.mark.parametrize(
    "metric, unit",
    [
        ("contiguous.t50_s", "s"),
        ("download_mb_s", "MB/s"),
        ("wire_rx_bytes", "B"),
        ("stalls", ""),
        ("overhead", "ratio"),
    ],
)
def test_a_name_tells_its_unit(metric: str, unit: str) -> None:
    """By its end, whatever the view."""
    assert unit == unit_of(metric)
