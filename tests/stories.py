"""Journals made by hand, of which every figure is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_codexbench.disturbances import UNDISTURBED
from pytest_codexbench.matrix import BUILT_IN, Cell, Shape, Variant
from pytest_codexbench.records import (
    FAILED,
    OK,
    Counters,
    Environment,
    Happened,
    Note,
    Round,
    Story,
    Transfer,
    cell_to_json,
)
from pytest_codexbench.timeline import MIB, NS, Timeline

MB = 10**6
# Six seconds, in no order, whose median is 2.0 and whose 2nd and 5th are far from it.
SIX = (2.1, 1.5, 1.9, 2.4, 1.8, 2.6)
WHY = "codex: no `codex` or `storage` program on PATH; give --cb-codex-bin=PATH"
PLACE = Environment(
    backend="local",
    isolation="namespaces",
    versions={"codexbench": "0.1.0", "libtorrent": "2.1.1"},
    machine={"system": "Linux", "architecture": "x86_64", "processor": "Ryzen", "cores": 8, "memory": 16 * 10**9},
    kernel="6.8.0",
    colocated=True,
    workers=1,
    wire="queues at both ends of each link",
    probe={"wire_mb_s": 1000.0, "disk_mb_s": None},
)


def cell(
    system: str = "bittorrent", nodes: int = 4, seeders: int = 2, size: int = 50 * MB, kind: str = "download"
) -> Cell:
    """One cell; a bare word may be any system."""
    variant = BUILT_IN.get(system) or Variant(system, system.partition(".")[0])
    return Cell(Shape(variant, nodes), seeders, size, kind)


def arrival(size: int, seconds: float, percent: int = 100) -> Timeline:
    """Bytes that come evenly over ``seconds``, the first at a hundredth of it; only ``percent`` of them."""
    marks = [(max(1, size * share // 100), round(seconds * max(share, 1) / 100 * NS)) for share in range(percent + 1)]
    marks = sorted({*marks, (MIB, round(seconds * MIB / size * NS))}) if MIB < size * percent // 100 else marks
    return Timeline(size, tuple(marks), end_ns=round(seconds * NS))


def round_of(
    what: Cell,
    index: int,
    seconds: float,
    flags: Sequence[str] = (),
    error: str | None = None,
    paired: str = "draw and time",
) -> Round:
    """A round in which all leechers take ``seconds``; infinite: the last of them fails at 40 %, the others take 3 s."""
    names = [f"{what.system}-{position}" for position in range(what.shape.nodes)]
    seeders, leechers = names[: what.seeders], names[what.seeders :]
    if what.kind == "upload":
        transfers = _upload(what, names, seconds)
    else:
        transfers = [_download(what, name, 3.0 if math.isinf(seconds) else seconds) for name in leechers]
    if math.isinf(seconds) and what.moves == "download":
        # all but one: the median over leechers is not reached either
        transfers = [transfers[0], *(_lost(what, name) for name in leechers[1:])] if leechers[2:] else [
            _lost(what, name) for name in leechers
        ]  # fmt: skip
    received = {name: round(1.05 * what.size) for name in leechers}
    return Round(
        cell=what,
        index=index,
        seed=1000 + index,
        seeders=tuple(seeders),
        transfers=tuple(transfers),
        nodes={
            name: Counters(received.get(name, 0), what.size, None, what.size, cpu_s=0.5, rss_peak_bytes=60 * MB)
            for name in names
        },
        environment=PLACE,
        started_at="2026-11-23T05:00:00.000+00:00",
        handle="a1b2",
        digest="c3d4",
        deadline_s=110.0,
        seconds={"make_s": 0.1, "seed_s": 0.2, "start_skew_s": 0.004, "round_s": 5.0},
        paired=paired,
        flags=tuple(flags),
        relays=what.shape.variant.system != "http",
        copies=what.shape.variant.system != "bittorrent",
        error=error,
    )


def _download(what: Cell, name: str, seconds: float) -> Transfer:
    views = ("contiguous",) if what.shape.variant.system == "codex" else ("contiguous", "available")
    return Transfer(name, "download", OK, {view: arrival(what.size, seconds) for view in views})


def _lost(what: Cell, name: str) -> Transfer:
    told = f"{name} had 40 % of the file at its deadline, after 110 s; the end of its log: \x1b[31mchoked\x1b[0m <&>"
    return Transfer(name, "download", FAILED, {"available": arrival(what.size, 5.0, percent=40)}, error=told)


def _upload(what: Cell, names: Sequence[str], seconds: float) -> list[Transfer]:
    if math.isinf(seconds):
        return [Transfer(names[0], "upload", FAILED, error="PUT: status 500, expected 201")]
    told = {"publish_s": seconds, "upload_accept_s": seconds / 2}
    proof = Transfer(names[1], "proof", OK, {"available": arrival(what.size, 1.0)})
    return [Transfer(names[0], "upload", OK, seconds=told), proof]


def rounds_of(what: Cell, seconds: Sequence[float], **more: Any) -> list[Round]:
    """A round for each of the seconds."""
    return [round_of(what, index, each, **more) for index, each in enumerate(seconds)]


def story(*groups: Sequence[Round], notes: Sequence[Note] = ()) -> Story:
    """A journal with these rounds."""
    return Story(tuple(round_ for group in groups for round_ in group), tuple(notes), ())


def run_of(*cells: Cell, rounds: int = 6) -> dict[str, Any]:
    """What ``run.json`` says of a run of these cells."""
    return {
        "schema": 1,
        "id": "20261123-050000-smoke-abcdef",
        "matrix": "smoke",
        "plan_hash": "abcdef012345",
        "rounds": rounds,
        "seed": 1,
        "backend": "local",
        "systems": list(dict.fromkeys(each.system for each in cells)),
        "versions": {"bittorrent": "libtorrent 2.1.1"},
        "command": "pytest --matrix=smoke",
        "options": {"matrix": "smoke", "budget_s": None},
        "cells": [cell_to_json(each) for each in cells],
        "environment": PLACE.to_json(),
        "started_at": "2026-11-23T05:00:00+00:00",
    }


Told = tuple[Story, dict[str, Any]]


def normal() -> Told:
    """Two systems, six rounds: http takes 1.5 times bittorrent's seconds in each; one round is flagged."""
    first, second = cell(), cell("http")
    slower = [1.5 * seconds for seconds in SIX]
    group = rounds_of(second, slower)
    group[2] = round_of(second, 2, slower[2], flags=("leechers started up to 212 ms apart",))
    return story(rounds_of(first, SIX), group), run_of(first, second)


def short() -> Told:
    """Two systems, two rounds."""
    first, second = cell(), cell("http")
    return story(rounds_of(first, (1.0, 2.0)), rounds_of(second, (2.0, 3.0))), run_of(first, second, rounds=2)


def failing() -> Told:
    """HTTP never arrives in four of six rounds, so its median is not reached; bittorrent always does."""
    first, second = cell(), cell("http")
    seconds = (2.0, math.inf, math.inf, 2.0, math.inf, math.inf)
    return story(rounds_of(first, SIX), rounds_of(second, seconds)), run_of(first, second)


def single() -> Told:
    """One cell with one leecher."""
    only = cell(nodes=2, seeders=1)
    return story(rounds_of(only, SIX)), run_of(only)


def skipped() -> Told:
    """No round; two cells skipped for one reason, one in error, one that had no turn."""
    cells = [cell("codex"), cell("codex", size=10 * MB), cell("http"), cell()]
    notes = [Note("skipped", cells[0], WHY), Note("skipped", cells[1], WHY)]
    notes.append(Note("error", cells[2], "http-3 did not answer within 120 s"))
    return story(notes=notes), run_of(*cells)


def empty() -> Told:
    """A run that wrote nothing down."""
    return story(), {}


def uploads() -> Told:
    """Three systems publish: codex in 4 s, http in 2 s, bittorrent in 0.5 s."""
    cells = [cell(name, 2, 1, 100 * MB, "upload") for name in ("codex", "bittorrent", "http")]
    groups = [rounds_of(each, [seconds] * 6) for each, seconds in zip(cells, (4.0, 0.5, 2.0), strict=True)]
    return story(*groups), run_of(*cells)


def stressed() -> Told:
    """Two systems, disturbed and not. A swarm's last leecher takes twice its time; http fails; one round is void."""
    names = (UNDISTURBED, "seeder-restarts", "late-leecher")
    cells = {
        (system, name): replace(cell(system, 4, 1), kind="reliability", disturbance=name)
        for system in ("bittorrent", "http")
        for name in names
    }
    groups = []
    for (system, name), each in cells.items():
        lost = system == "http" and name == "seeder-restarts"
        times = [math.inf if lost else 2 * one if name == "seeder-restarts" else one for one in SIX]
        groups.append([upset(each, index, seconds) for index, seconds in enumerate(times)])
    late = groups[2]
    late[3] = replace(late[3], happened=Happened("late-leecher", void="its moment never came"))
    return story(*groups), run_of(*cells.values())


def upset(what: Cell, index: int, seconds: float) -> Round:
    """A round with a disturbance from which bytes came again after 0.5 s, if they ever did; 10 MB came twice."""
    made = round_of(what, index, seconds)
    twice = {name: replace(each, payload_rx_bytes=what.size + 10 * MB) for name, each in made.nodes.items()}
    if what.disturbance == UNDISTURBED:
        return replace(made, nodes={name: replace(each, payload_rx_bytes=what.size) for name, each in twice.items()})
    again = math.inf if math.isinf(seconds) else 0.5
    it = Happened(what.disturbance, made.seeders, 31.0, 1.0, 9.0, 9.5, again, {"dropped_packets": 3.0})
    return replace(made, nodes=twice, happened=it)


def soaked() -> Told:
    """Ten files one after the other: memory of one node grows by 1 MB each, and its program is started anew once.

    Disk of another keeps 2 MB each.
    """
    what = replace(cell("bittorrent", 3, 1), kind="stability")
    rounds = []
    for index in range(10):
        rest = {
            "n00": Counters(rss_bytes=(50 + index) * MB, disk_bytes=MB, started_at_s=1000.0 + 60 * (index > 5)),
            "n01": Counters(rss_bytes=50 * MB, disk_bytes=(1 + 2 * index) * MB, started_at_s=1000.0),
            "n02": Counters(),
        }
        rounds.append(replace(round_of(what, index, 2.0 + 0.1 * (index % 2)), rest=rest))
    return story(rounds), run_of(what, rounds=100_000)


def mixed() -> Told:
    """All of it at once, over two sizes: what a table must stand."""
    told = [normal(), uploads(), skipped()]
    small = [cell(size=10 * MB), cell("http", size=10 * MB), cell("codex.new", size=10 * MB)]
    far = [cell("bittorrent", 16, 4), cell("http", 16, 4)]
    groups = [
        rounds_of(small[0], [each / 10 for each in SIX]),
        rounds_of(small[1], [math.inf if index == 4 else each / 4 for index, each in enumerate(SIX)]),
        rounds_of(small[2], [each / 11 for each in SIX], paired="draw only"),
        rounds_of(far[0], [7.0, 7.1, 7.2, 7.3, 7.4, 7.5]),
        rounds_of(far[1], [math.inf] * 6),
    ]
    rounds = [round_ for each, _ in told for round_ in each.rounds]
    notes = [note for each, _ in told for note in each.notes if str(note.cell) != str(cell("http"))]
    every = [round_.cell for group in groups for round_ in group[:1]]
    cells = dict.fromkeys([*(round_.cell for round_ in rounds), *every, *(note.cell for note in notes)])
    return story(rounds, *groups, notes=notes), run_of(*cells)


STORIES: Mapping[str, Any] = {
    each.__name__: each for each in (stressed, soaked, normal, short, failing, single, skipped, empty, uploads, mixed)
}
