"""How one run, or system, is held against another."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import MB, PLACE, SIX, cell, round_of, rounds_of, run_of

from pytest_codexbench.cli import main
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.records import Counters, Journal, Round
from pytest_codexbench.reports.compare import FORMATS, Match, match
from pytest_codexbench.reports.compare.gate import GATES, shut
from pytest_codexbench.reports.compare.sides import Side, sides
from pytest_codexbench.reports.compare.terminal import render
from pytest_codexbench.reports.compare.words import finding, notes, overall, verdict_words

INF = math.inf
Saved = Callable[..., Path]
EIGHT = (2.1, 1.5, 1.9, 2.4, 1.8, 2.6, 2.0, 2.2)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Writes a run's folder down: rounds, and what else its provenance says."""

    def made(name: str, *groups: Sequence[Round], **more: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        journal = Journal(folder)
        rounds = [round_ for group in groups for round_ in group]
        for round_ in rounds:
            journal.add(round_)
        cells = dict.fromkeys(round_.cell for round_ in rounds)
        provenance = {**run_of(*cells), "ended_at": "2026-11-23T06:00:00+00:00", **more, "id": name}
        (folder / "run.json").write_text(json.dumps(provenance), encoding="utf-8")
        return folder

    return made


def drawn(rounds: Sequence[Round], seed: int) -> list[Round]:
    """The same rounds of another plan: other bytes, other seeders."""
    return [replace(round_, seed=round_.seed + 1000 * seed) for round_ in rounds]


def elsewhere(rounds: Sequence[Round], **more: Any) -> list[Round]:
    """The same rounds, measured in another place."""
    return [replace(round_, environment=replace(PLACE, **more)) for round_ in rounds]


def side(name: str, *groups: Sequence[Round], system: str | None = None) -> Side:
    """A side without a folder on disk."""
    return Side(
        Path(name), system, {"id": name, "ended_at": "2026"}, tuple(round_ for group in groups for round_ in group)
    )


def against(reference: Sequence[Sequence[Round]], subject: Sequence[Sequence[Round]], **more: Any) -> Match:
    """B against A, as two runs."""
    return match(side("a", *reference), side("b", *subject), **more)


def times(factor: float, seconds: Sequence[float] = SIX) -> list[float]:
    """All of them that much longer."""
    return [factor * each for each in seconds]


def page(told: Match, width: int = 120) -> str:
    """What a terminal of that width shows."""
    from rich.console import Console

    shown = io.StringIO()
    render(told, Console(file=shown, width=width, no_color=True))
    return shown.getvalue()


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_rounds_of_the_same_plan_are_paired_in_draw() -> None:
    """Round k against round k: the ratio is 1.1 in each, however much the rounds themselves differ."""
    (one,) = against([rounds_of(cell(), SIX)], [rounds_of(cell(), times(1.1))]).contrasts

    assert one.ratio is not None
    assert ("draw only", 6) == (one.paired, one.ratio.count)
    assert [1.1] * 3 == pytest.approx([one.ratio.median, one.ratio.low, one.ratio.high])


def test_systems_of_one_run_are_paired_in_time_too() -> None:
    """They ran one after the other, so an hour's noise hits both."""
    rounds = [*rounds_of(cell(), SIX), *rounds_of(cell("http"), times(1.1))]

    (one,) = match(side("a", rounds, system="bittorrent"), side("a", rounds, system="http")).contrasts

    assert "draw and time" == one.paired


def test_systems_of_one_run_that_ran_apart_are_not() -> None:
    """Where memory forbade to hold both clusters, the rounds say so."""
    rounds = [*rounds_of(cell(), SIX), *rounds_of(cell("http"), SIX, paired="draw only")]

    (one,) = match(side("a", rounds, system="bittorrent"), side("a", rounds, system="http")).contrasts

    assert "draw only" == one.paired


def test_rounds_of_another_seed_are_not_paired() -> None:
    """They drew other bytes and seeders: medians are divided, with the wider interval that this takes."""
    (one,) = against([rounds_of(cell(), EIGHT)], [drawn(rounds_of(cell(), times(1.1, EIGHT)), 2)]).contrasts

    assert one.ratio is not None
    assert "not paired" == one.paired
    assert [1.1, 1.1 * 1.5 / 2.6, 1.1 * 2.6 / 1.5] == pytest.approx([one.ratio.median, one.ratio.low, one.ratio.high])


def test_one_round_of_another_seed_unpairs_them() -> None:
    """Rounds that only look alike by their number are no pairs."""
    others = rounds_of(cell(), SIX)
    others[3] = replace(others[3], seed=7)

    (one,) = against([rounds_of(cell(), SIX)], [others]).contrasts

    assert "not paired" == one.paired


def test_only_rounds_of_both_are_pairs() -> None:
    """A run of ten rounds against one of six of the same plan: six pairs."""
    (one,) = against([rounds_of(cell(), [1.0] * 10)], [rounds_of(cell(), SIX)]).contrasts

    assert one.ratio is not None
    assert 6 == one.ratio.count


# --- what is compared -------------------------------------------------------------------------------------------------


def test_cells_that_just_one_has_are_named() -> None:
    """They are not compared, and nobody must find that out by counting."""
    both, here, there = cell(), cell(size=10 * MB), cell("http")

    told = against([rounds_of(both, SIX), rounds_of(there, SIX)], [rounds_of(both, SIX), rounds_of(here, SIX)])

    assert [both] == [one.subject.cell for one in told.contrasts]
    assert "not measured in B, so not compared: http-n04-s02-50MB" in list(notes(told))
    assert "not measured in A, so not compared: bittorrent-n04-s02-10MB" in list(notes(told))


def test_a_variant_against_another_ones_name(saved: Saved) -> None:
    """Two builds of two runs under two names: FOLDER:SYSTEM says which is which."""
    old, new = saved("old", rounds_of(cell("codex.old"), SIX)), saved("new", rounds_of(cell("codex.new"), SIX))

    told = match(*sides([f"{old}:codex.old", str(new)]))

    assert ["n04-s02-50MB"] == [str(one.block) for one in told.contrasts]
    assert ("old:codex.old", "new:codex.new") == (told.reference.label, told.subject.label)


@pytest.mark.parametrize("metric", ["t50_s", "available.t50_s", "contiguous.ttfb_s", "overhead", "cpu_s", "stalls"])
def test_any_metric_of_one_system(metric: str) -> None:
    """Two builds of one system are judged by whatever both tell; a bare name is of the view that both have."""
    (one,) = against([rounds_of(cell(), SIX)], [rounds_of(cell(), SIX)], metric=metric).contrasts

    assert one.metric.endswith(metric)
    assert "pass" == one.verdict(1.2)


@pytest.mark.parametrize(
    "subject, metric, note",
    [
        ("http", "t100_s", None),
        ("http", "t50_s", "BitTorrent fetches in order in its streaming variant alone"),
        ("http", "available.t50_s", "bytes in any order are of no use to a reader"),
        ("http", "seeder_share", "each system counts its payload in its own way"),
        ("http", "seed_s", "bittorrent copies nothing when it publishes"),
        ("codex", "t50_s", "BitTorrent fetches in order"),
        ("codex", "available.t50_s", "not told alike: codex tells none, bittorrent tells available.t50_s"),
        ("bittorrent.stock", "t50_s", None),
    ],
)
def test_what_means_not_the_same_in_two_systems_gets_no_verdict(subject: str, metric: str, note: str | None) -> None:
    """It is shown with the reason; t100 is judged always, and so is all of two variants of one system."""
    rounds = [*rounds_of(cell(), SIX), *rounds_of(cell(subject), SIX)]

    (one,) = match(side("a", rounds, system="bittorrent"), side("a", rounds, system=subject), metric).contrasts

    assert (note or "") in (one.note or "")
    assert (note is None) == one.judged == (one.verdict(1.2) is not None)


def test_the_streaming_variant_is_judged_by_bytes_in_order() -> None:
    """BitTorrent that fetches in order may be held against a stream."""
    rounds = [*rounds_of(cell("bittorrent.streaming"), SIX), *rounds_of(cell("codex"), SIX)]

    (one,) = match(
        side("a", rounds, system="bittorrent.streaming"), side("a", rounds, system="codex"), "t90_s"
    ).contrasts

    assert ("contiguous.t90_s", "pass") == (one.metric, one.verdict(1.2))


def test_more_of_a_speed_is_better() -> None:
    """Half the speed is a ratio of 2: over 1 is worse, whatever the metric."""
    (one,) = against([rounds_of(cell(), SIX)], [rounds_of(cell(), times(2))], metric="download_mb_s").contrasts

    assert one.ratio is not None
    assert "fail" == one.verdict(1.2)
    assert 2.0 == pytest.approx(one.ratio.median)


def test_what_is_sure_beside_the_verdict() -> None:
    """Better, or worse though within the margin; what fails is worse anyway. A speed's ratio is said to be turned."""
    factors = {"pass, better": 0.5, "pass, worse": 1.1, "fail": 2.0, "pass": 1.0}
    groups = [rounds_of(cell(size=size * MB), SIX) for size in range(1, 5)]
    others = [rounds_of(cell(size=size * MB), times(factor)) for size, factor in enumerate(factors.values(), 1)]

    told = against(groups, others, metric="download_mb_s")

    assert list(factors) == [verdict_words(one, told.margin) for one in told.contrasts]
    assert "(turned over, as more of it is better)" in page(told)


def test_uploads_are_compared_by_their_own_time() -> None:
    """Without --metric each cell is compared by what its kind is judged by; with one, those that have it."""
    download, upload = rounds_of(cell(), SIX), rounds_of(cell("http", 2, 1, kind="upload"), SIX)

    both, timed = (against([download, upload], [download, upload], metric=metric) for metric in (None, "t100_s"))

    assert ["t100_s", "publish_s"] == [one.metric for one in both.contrasts]
    assert ["t100_s"] == [one.metric for one in timed.contrasts]


def test_wire_counts_of_pods_and_of_queues_are_never_compared() -> None:
    """The error names both ways of counting, and what can be compared."""
    pods = elsewhere(rounds_of(cell(), SIX), wire="counters of the Pods' interfaces (gso: uncorrected)")

    for metric in ("overhead", "wire_rx_bytes", "wire_tx_bytes"):
        with pytest.raises(WrongInput, match=r"two ways \(queues .* \| counters of the Pods.*t100_s"):
            against([rounds_of(cell(), SIX)], [pods], metric=metric)
    (one,) = against([rounds_of(cell(), SIX)], [pods], metric="t100_s").contrasts
    assert one.judged


def test_a_share_by_the_wire_is_not_compared_either() -> None:
    """Where nodes do not tell their payload, the seeders' share is of wire bytes."""

    def mute(rounds: Sequence[Round]) -> list[Round]:
        return [replace(each, nodes={name: Counters(10, 10) for name in each.nodes}) for each in rounds]

    ours, pods = rounds_of(cell(), SIX), elsewhere(rounds_of(cell(), SIX), wire="Pods")

    assert against([ours], [pods], metric="seeder_share").contrasts
    with pytest.raises(WrongInput, match="two ways"):
        against([mute(ours)], [mute(pods)], metric="seeder_share")


# --- where they differ ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, told",
    [
        ({"backend": "kubernetes"}, "backend: local | kubernetes"),
        ({"kernel": "6.9.1"}, "kernel: 6.8.0 | 6.9.1"),
        ({"colocated": False}, "colocated: yes | no"),
        ({"workers": 4}, "workers: 1 | 4"),
        ({"wire": "Pods"}, "wire: queues at both ends of each link | Pods"),
        ({"machine": {**PLACE.machine, "processor": "EPYC"}}, "machine.processor: Ryzen | EPYC"),
        ({"versions": {"codexbench": "0.1.0", "libtorrent": "2.2"}}, "versions.libtorrent: 2.1.1 | 2.2"),
        ({"versions": {"codexbench": "0.1.0"}}, "versions.libtorrent: 2.1.1 | -"),
        ({"probe": {"wire_mb_s": 600.0}}, "probe.wire_mb_s: 1000 | 600"),
    ],
)
def test_where_they_differ_is_said(more: Mapping[str, Any], told: str) -> None:
    """Each thing once, with what either side says."""
    (one,) = against([rounds_of(cell(), SIX)], [elsewhere(rounds_of(cell(), SIX), **more)]).differences

    assert told == str(one)


def test_a_run_that_was_resumed_elsewhere_is_two_places() -> None:
    """Both are named."""
    mixed = [*rounds_of(cell(), SIX)[:3], *elsewhere(rounds_of(cell(), SIX)[3:], kernel="6.9.1")]

    (one,) = against([rounds_of(cell(), SIX)], [mixed]).differences

    assert "kernel: 6.8.0 | 6.8.0 and 6.9.1" == str(one)


def test_the_programs_of_two_systems_are_no_difference() -> None:
    """That one runs libtorrent and the other something else is what is compared."""
    other = elsewhere(rounds_of(cell("http"), SIX), versions={"codexbench": "0.1.0", "http": "1"})
    rounds = [*rounds_of(cell(), SIX), *other]

    assert () == match(side("a", rounds, system="bittorrent"), side("a", rounds, system="http")).differences


# --- verdicts, and gates ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(6, 12), st.floats(0.5, 3), st.integers(0, 1000))
def test_a_confirmed_cell_is_one_that_fails(cells: int, rounds: int, factor: float, seed: int) -> None:
    """All cells pass, or some fail for sure, or it is not decided; what Holm names has failed on its own."""
    chance = random.Random(seed)
    noise = [[chance.lognormvariate(0, 0.2) for _ in range(rounds)] for _ in range(cells)]
    steady = [rounds_of(cell(size=index + 1), each) for index, each in enumerate(noise)]
    slower = [rounds_of(cell(size=index + 1), times(factor, each[::-1])) for index, each in enumerate(noise)]

    told = against(steady, slower)

    verdicts = [one.verdict(told.margin) for one in told.contrasts]
    assert all("fail" == one.verdict(told.margin) for one in told.confirmed)
    assert {"pass": verdicts == ["pass"] * cells, "fail": bool(told.confirmed)}.get(told.every_cell, True)
    assert len(told.confirmed) <= verdicts.count("fail")


GATED = {
    # each side's seconds by round; which of the gates are shut
    "the same": (SIX, times(1.0), ()),
    "twice as slow": (SIX, times(2.0), ("confirmed", "regression", "inconclusive")),
    "faster": (SIX, times(0.5), ()),
    "worse, but within": (SIX, times(1.1), ()),
    "not sure": (SIX, (2.0, 2.0, 2.0, 2.0, 2.0, 2.0), ("inconclusive",)),
    "B never arrives": (SIX, [INF] * 6, ("confirmed", "regression", "inconclusive")),
    "A never arrives": ([INF] * 6, SIX, ()),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", GATED)
def test_when_a_gate_is_shut(name: str, gate: str) -> None:
    """`regression` by a cell that is over the margin for sure, `inconclusive` by any that is not within it for sure."""
    reference, subject, gates = GATED[name]

    told = against([rounds_of(cell(), reference)], [rounds_of(cell(), subject)])

    assert (gate in gates) == shut(told, gate)


def test_a_cell_that_only_the_reference_has_shuts_the_strictest_gate() -> None:
    """A build that does not even start in one cell is no pass there."""
    told = against([rounds_of(cell(), SIX), rounds_of(cell("http"), SIX)], [rounds_of(cell(), SIX)])

    assert not shut(told, "regression")
    assert shut(told, "inconclusive")


def test_a_cell_in_which_nobody_arrives_is_inconclusive() -> None:
    """It never did before either: no regression, and nothing to be sure of."""
    fine = rounds_of(cell("http"), SIX)
    lost = rounds_of(cell(), [INF] * 6)

    told = against([lost, fine], [lost, fine])

    assert not shut(told, "regression")
    assert shut(told, "inconclusive")
    assert "no verdict, as neither of the two arrived: bittorrent-n04-s02-50MB" in list(notes(told))


def test_what_is_only_shown_is_not_among_every_cell() -> None:
    """The claim is of the cells that are judged, and says so; a gate that judges nothing is shut."""
    downloads = [*rounds_of(cell(), SIX), *rounds_of(cell("http"), SIX)]
    uploads = [round_ for name in ("bittorrent", "http") for round_ in rounds_of(cell(name, 2, 1, kind="upload"), SIX)]

    def http_against_bittorrent(rounds: Sequence[Round]) -> Match:
        return match(side("a", rounds, system="bittorrent"), side("a", rounds, system="http"))

    both, bare = http_against_bittorrent([*downloads, *uploads]), http_against_bittorrent(uploads)

    assert "every cell that is judged is within 1.2x (1 of 1), with 95 %" == finding(both)
    assert not shut(both, "inconclusive")
    assert "no verdict may be given on any of these cells" == finding(bare)
    assert shut(bare, "inconclusive")


def test_downloads_and_uploads_have_a_mean_each() -> None:
    """Never one of both; and never without the worst cell."""
    cells = [cell("http", 2, 1, size * MB, kind) for size in (1, 2) for kind in ("download", "upload")]
    slower = [rounds_of(each, times(factor)) for each, factor in zip(cells, (1, 2, 4, 8), strict=True)]

    told = list(overall(against([rounds_of(each, SIX) for each in cells], slower)))

    assert [
        "t100_s over 2 cells: geometric mean 2.00x, worst 4.00x in http-n02-s01-2MB",
        "publish_s over 2 cells: geometric mean 4.00x, worst 8.00x in http-2MB",
    ] == told


def test_rounds_that_do_not_tell_a_metric_are_named() -> None:
    """A failed round has no overhead: what is compared is of the others, and that is said. A time is never left out."""
    some = [rounds_of(cell(), [2.0] * 6 + [INF])]

    overhead, t100 = (list(notes(against(some, some, metric=metric))) for metric in ("overhead", "t50_s"))

    said = "not every round tells it, and those that do not are in no ratio: bittorrent-n04-s02-50MB"
    assert said in overhead
    assert said not in t100


def test_a_few_pages_of_memory_are_no_difference() -> None:
    """Two machines of one kind never have the same bytes free of the kernel."""
    other = {**PLACE.machine, "memory": PLACE.machine["memory"] + 4096}

    assert () == against([rounds_of(cell(), SIX)], [elsewhere(rounds_of(cell(), SIX), machine=other)]).differences


@pytest.mark.parametrize("gate", ["confirmed", "regression"])
def test_a_gate_that_can_never_shut_is_refused(gate: str) -> None:
    """Two rounds decide nothing: an open gate would look like an answer."""
    told = against([rounds_of(cell(), (1.0, 2.0))], [rounds_of(cell(), (9.0, 9.0))])

    with pytest.raises(WrongInput, match="nothing could ever fail"):
        shut(told, gate)
    assert shut(told, "inconclusive")


def test_one_of_many_cells_takes_more_rounds_to_confirm() -> None:
    """Six rounds of nine cells can never name one of them with 95 % for all together: eight would do."""
    groups = [rounds_of(cell(size=size), SIX) for size in range(1, 10)]
    told = against(groups, [rounds_of(cell(size=size), times(2.0)) for size in range(1, 10)])

    with pytest.raises(WrongInput, match=r"9 cells .* \(8 where they are paired\)"):
        shut(told, "confirmed")
    assert shut(told, "regression")


@pytest.mark.parametrize(
    "factors, said",
    [
        ((1.0, 1.0), "every cell is within 1.2x (2 of 2), with 95 %"),
        (
            (1.0, 2.0),
            "1 of 2 cells within 1.2x for sure; over it, with 95 % for all of them together: bittorrent-n04-s02-2B",
        ),
        (
            (2.0,) * 9,
            "0 of 9 cells within 1.2x for sure; over it on their own, but not when all 9 are looked at together",
        ),
    ],
)
def test_the_finding_says_no_more_than_the_rounds_do(factors: Sequence[float], said: str) -> None:
    """Over it for sure, over it on its own, or nothing."""
    groups = [rounds_of(cell(size=size), SIX) for size, _ in enumerate(factors, 1)]

    told = finding(against(groups, [rounds_of(cell(size=size), times(each)) for size, each in enumerate(factors, 1)]))

    assert told.startswith(said)


def test_a_verdict_that_hangs_on_flagged_rounds_is_told() -> None:
    """They are counted; without them too few are left for the same verdict."""
    flagged = rounds_of(cell(), times(2.0))
    flagged[0] = replace(flagged[0], flags=("leechers started up to 212 ms apart",))

    told = list(notes(against([rounds_of(cell(), SIX)], [flagged])))

    assert "flagged rounds are counted (1); without them the verdict is another one: bittorrent-n04-s02-50MB" in told


# --- what people see --------------------------------------------------------------------------------------------------


def many() -> Match:
    """Two runs over two blocks: one system slower, one never there, one the same."""
    names, sizes = ("bittorrent.streaming", "http"), (50 * MB, 10 * MB)
    cells = [cell(name, size=size) for size in sizes for name in names]
    reference = [rounds_of(each, SIX) for each in cells]
    subject = [rounds_of(each, seconds) for each, seconds in zip(cells, (times(2), SIX, [INF] * 6, SIX), strict=True)]
    return against(reference, [elsewhere(group, kernel="6.9.1") for group in subject])


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Ratio and verdict stay however narrow it is."""
    lines = page(many(), width).splitlines()

    assert width >= max(map(len, lines))
    assert any("ratio" in line and ("verdict" in line or width < 60) for line in lines)
    assert any("2.00x" in line for line in lines)


def test_the_table() -> None:
    """A line a cell below its block; with what differs above it, and what it takes to read it below."""
    lines = page(many()).splitlines()

    assert "  kernel: 6.8.0 | 6.9.1" in lines
    assert "n04-s02-50MB  4 nodes, 2 seeders, 50 MB" in lines
    assert ["bittorrent.streaming", "6/6", "6/6", "2.00", "4.00", "2.00x", "[2.00..2.00]", "fail"] in [
        line.split() for line in lines
    ]
    assert ["bittorrent.streaming", "6/6", "0/6", "2.00", "not", "reached", "infinite", "fail"] in [
        line.split() for line in lines
    ]
    assert any(line.startswith("paired in draw, not in time") for line in lines)


def test_colours_only_on_a_terminal(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe the table is plain."""
    one, other = saved("a", rounds_of(cell(), SIX)), saved("b", rounds_of(cell(), times(2)))

    assert 0 == main(["compare", str(one), str(other)])

    assert "\x1b" not in capsys.readouterr().out


GOLDEN = """\
### 1 of 2 cells within 1.2x for sure; over it, with 95 % for all of them together: codex-n02-s01-4B

- **A** codexbench a: no provenance
- **B** codexbench b: no provenance
- ratio: t100_s (s) of B / of A, over 1 is worse; margin 1.2
- t100_s over 2 cells: geometric mean 1.41x, worst 2.00x in codex-n02-s01-4B

| cell | ok A | ok B | A | B | ratio | verdict |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
| codex-n02-s01-2B | 6/6 | 6/6 | 2.00 | 2.00 | 1.00x [1.00..1.00] | ✅ pass |
| codex-n02-s01-4B | 6/6 | 6/6 | 2.00 | 4.00 | 2.00x [2.00..2.00] | ❌ fail |

| where they differ | A | B |
| --- | --- | --- |
| kernel | 6.8.0 | 6&lt;9\\|1 |

- paired in draw, not in time: round k of both drew the same bytes and seeders, measured apart; what differs from day \
to day or place to place is in the ratio, and not in its interval
- [a..b] is the interval that holds with at least 95 %; the verdict is of the whole of it
"""


def test_the_same_as_markdown() -> None:
    """Letter by letter; nothing that a record says can break the table."""
    from pytest_codexbench.reports.compare.markdown import document

    small = [cell("codex", 2, 1, size) for size in (2, 4)]
    slower = [elsewhere(rounds_of(each, times(each.size / 2)), kernel="6<9|1") for each in small]

    assert GOLDEN == document(against([rounds_of(each, SIX) for each in small], slower))


def test_the_same_as_json() -> None:
    """Finite numbers only: what was not reached is null, and said."""
    from pytest_codexbench.reports.compare.data import document

    told = json.loads(document(many()), parse_constant=pytest.fail)

    lost = next(row for row in told["cells"] if row["subject_succeeded"] == 0)
    assert (None, False, "fail", False) == (lost["ratio"], lost["reached"], lost["verdict"], lost["confirmed"])
    assert [{"what": "kernel", "reference": "6.8.0", "subject": "6.9.1", "place": True}] == told["differences"]
    assert ("inconclusive", 1.2) == (told["every_cell"], told["margin"])
    assert 4 == len(told["cells"])


def test_the_same_as_csv() -> None:
    """A row a cell, that any reader takes; infinity is a number there."""
    from pytest_codexbench.reports.compare.sheet import document

    told = list(csv.DictReader(io.StringIO(document(many()))))

    assert [INF, 2.0] == sorted((float(row["ratio"]) for row in told), reverse=True)[:2]
    assert {"pass", "fail"} == {row["verdict"] for row in told}


def test_the_same_for_a_trend_page() -> None:
    """Ratios by name; what was not reached has no entry."""
    from pytest_codexbench.reports.compare.trend import document

    told = json.loads(document(many()))

    assert [2.0, 1.0, 1.0] == pytest.approx(sorted((each["value"] for each in told), reverse=True))
    assert {"name", "unit", "value", "range", "extra"} == set(told[0])


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_by_the_command(form: str, saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed, and the exit status is that of the gate, in each."""
    one, other = saved("a", rounds_of(cell(), SIX)), saved("b", rounds_of(cell(), times(2)))

    assert 1 == main(["compare", str(one), str(other), f"--format={form}", "--fail-on=regression"])
    assert 0 == main(["compare", str(other), str(one), f"--format={form}", "--fail-on=regression"])

    said = capsys.readouterr()
    assert said.out
    assert "--fail-on=regression: 0 of 1 cell within 1.2x for sure" in said.err


def test_two_systems_of_one_run_by_the_command(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    """A run and two names, or FOLDER:SYSTEM twice: the same, the first is the reference."""
    run = saved("a", rounds_of(cell(), SIX), rounds_of(cell("http"), times(1.5)))

    said = []
    for words in ([str(run), "bittorrent", "http"], [f"{run}:bittorrent", f"{run}:http"]):
        assert 0 == main(["compare", *words, "--format=csv"])
        said.append(capsys.readouterr().out)

    assert said[0] == said[1]
    (row,) = csv.DictReader(io.StringIO(said[0]))
    assert ("draw and time", "fail") == (row["paired"], row["verdict"])
    assert 1.5 == pytest.approx(float(row["ratio"]))


def test_the_margin_decides(saved: Saved) -> None:
    """Half as slow again is over 1.2 and within 2."""
    one, other = saved("a", rounds_of(cell(), SIX)), saved("b", rounds_of(cell(), times(1.5)))

    assert [1, 0] == [
        main(["compare", str(one), str(other), f"--margin={margin}", "--fail-on=regression"]) for margin in (1.2, 2)
    ]


WRONG = {
    "nothing": ([], "required"),
    "one word": (["{a}"], "compare takes two runs"),
    "four words": (["{a}", "x", "y", "z"], "compare takes two runs"),
    "no such folder": (["{a}", "{a}x"], "ax: no such folder; give two runs"),
    "a folder of runs": (["{a}", "{parent}"], "no records.jsonl in it; give one of the runs in it: a, b"),
    "an empty folder": (["{a}", "{empty}"], "no records.jsonl in it; give the folder of a run"),
    "no rounds": (["{a}", "{idle}"], "no round was measured in it"),
    "itself": (["{a}", "{a}"], "against itself says nothing; two systems of one run: codexbench compare"),
    "the same system": (["{a}", "http", "http"], "against itself says nothing"),
    "no such system": (["{a}", "http", "ipsf"], "no round of 'ipsf' in a; it has bittorrent, http"),
    "no such system there": (["{a}:http", "{b}:ipsf"], "no round of 'ipsf' in b"),
    "which system": (["{a}", "{c}:codex"], "no round of 'codex' in it, and several of others; say which, as a:"),
    "no cell in common": (["{a}", "{c}"], "have no cell in common"),
    "no such metric": (
        ["{a}", "{b}", "--metric=t99_s"],
        "--metric=t99_s: nobody measured that in these cells; there are",
    ),
    "margin of words": (["{a}", "{b}", "--margin=much"], "'much' is no ratio"),
    "margin of nothing": (["{a}", "{b}", "--margin=0"], "'0' is no ratio"),
    "margin of nan": (["{a}", "{b}", "--margin=nan"], "'nan' is no ratio"),
    "no such format": (["{a}", "{b}", "--format=xml"], "invalid choice: 'xml'"),
    "no such gate": (["{a}", "{b}", "--fail-on=slow"], "invalid choice: 'slow'"),
    "another place": (["{a}", "{b}", "--same-place"], "not measured in the same place: kernel: 6.8.0 | 6.9.1"),
    "wire of pods": (["{a}", "{d}", "--metric=overhead"], "such counts are never compared"),
    "a gate for too few": (["{c}", "{c2}", "--fail-on=regression"], "nothing could ever fail"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name: str, saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, an error that says what would be right, and nothing printed before."""
    both = rounds_of(cell(), SIX), rounds_of(cell("http"), SIX)
    few = rounds_of(cell("codex"), (1.0, 2.0))
    saved("a", *both)
    saved("b", *(elsewhere(group, kernel="6.9.1") for group in both))
    saved("c", few)
    saved("c2", few)
    saved("d", *(elsewhere(group, wire="counters of the Pods' interfaces (gso: uncorrected)") for group in both))
    saved("idle", [round_of(cell(), -1, 1.0)])
    (tmp_path / "empty").mkdir()
    places = {path.name: path for path in tmp_path.iterdir()}
    words, message = WRONG[name]

    try:
        status: object = main(["compare", *(word.format(parent=tmp_path, **places) for word in words)])
    except SystemExit as stop:  # argparse's own
        status = stop.code

    said = capsys.readouterr()
    assert (2, "") == (status, said.out)
    assert message in " ".join(said.err.split())
    assert "Traceback" not in said.err


def test_a_damaged_run_is_compared_as_far_as_it_can_be_read(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    """A half line, a doubled round, an unknown schema and a lost run.json are said; the rest counts."""
    one, other = saved("a", rounds_of(cell(), SIX)), saved("b", rounds_of(cell(), SIX))
    with (other / "records.jsonl").open("a", encoding="utf-8") as file:
        first = (other / "records.jsonl").read_text(encoding="utf-8").splitlines()[0]
        file.write(f'{first}\n{{"schema": 99}}\n{first[:100]}')
    (other / "run.json").unlink()

    assert 0 == main(["compare", str(one), str(other)])

    out = " ".join(capsys.readouterr().out.split())
    for told in ("is there already", "schema 99 is not known here", "not readable, left out", "its provenance is lost"):
        assert told in out


def test_the_command_as_a_process(saved: Saved) -> None:
    """As a shell sees it: 80 columns without a terminal, the finding on standard error, exit status 1."""
    one, other = saved("a", rounds_of(cell(), SIX)), saved("b", rounds_of(cell(), times(2)))
    argv = [sys.executable, "-m", "pytest_codexbench.cli", "compare", str(one), str(other), "--fail-on=confirmed"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}

    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)

    assert 1 == done.returncode
    assert 80 >= max(len(line) for line in done.stdout.splitlines())
    assert "fail" in done.stdout
    assert done.stderr.startswith("codexbench: --fail-on=confirmed: 0 of 1 cell within 1.2x")
