"""Journals of runs that never were, to look at their reports and to time them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_codexbench.matrix import BUILT_IN, Block, Cell, Matrix, Variant, parse_rate, parse_size, variant_named
from pytest_codexbench.plan import Plan, deadline_s, draw, fluid_bound_s
from pytest_codexbench.records import FAILED, OK, Counters, Environment, Journal, Note, Round, Transfer
from pytest_codexbench.run import PROVENANCE, plan_to_json
from pytest_codexbench.timeline import MIB, NS, Timeline

SEED = 1
PAYLOAD_TO_WIRE = 1.0456
MANIFEST_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Character:
    """How a made-up system behaves. ``slower`` is over the least possible time; ``ttfb_s`` is its first byte.

    ``bend`` is the power of the time by which bytes come, ``disorder`` times it of those in order. ``moment`` is a
    duration of its own that it tells, at 60 % of its first byte.
    """

    slower: float
    noise: float
    ttfb_s: float
    overhead: float
    bend: float = 1.0
    views: tuple[str, ...] = ("available", "contiguous")
    disorder: float = 1.0
    moment: str = ""


CHARACTERS: Mapping[str, Character] = {
    "bittorrent": Character(1.06, 0.03, 0.06, 0.012, disorder=6.0, moment="first_block_s"),
    "bittorrent.stock": Character(1.32, 0.08, 0.35, 0.015, bend=1.2, disorder=6.0, moment="first_block_s"),
    "bittorrent.streaming": Character(1.15, 0.05, 0.07, 0.012, disorder=1.1, moment="first_block_s"),
    "http": Character(1.02, 0.01, 0.004, 0.0),
    "ipfs": Character(1.55, 0.12, 0.12, 0.08, bend=0.9, views=("contiguous",)),
    "codex": Character(2.6, 0.15, 0.45, 0.06, bend=1.1, views=("contiguous",), moment="manifest_s"),
}


def place(link: int | None, colocated: bool = True) -> Environment:
    """An environment that nobody can take for a real one."""
    return Environment(
        backend="local",
        isolation="namespaces",
        versions={"codexbench": "made up", "tcp": "cubic"},
        machine={"system": "Linux", "architecture": "none", "processor": "made up", "cores": 8, "memory": 32 * 10**9},
        kernel="0.0",
        colocated=colocated,
        workers=1,
        wire="queues at both ends of each link",
        probe={"wire_mb_s": link / 8e6 if link else 900.0, "disk_mb_s": 420.0},
    )


def made_up(matrix: Matrix, unreliable: Callable[[Cell, int], bool] = lambda cell, index: False) -> Iterator[Round]:
    """All rounds of a matrix, downloads then uploads. ``unreliable`` tells of a round whether it fails."""
    for kind in ("download", "upload"):
        for block in matrix.blocks(kind):
            for index in range(matrix.rounds):
                for variant in block.variants:
                    yield _round(block, block.cell(variant), index, unreliable)


def _round(block: Block, cell: Cell, index: int, unreliable: Callable[[Cell, int], bool]) -> Round:
    drawn = draw(block, index, SEED)
    chance = random.Random(f"{cell} {index}")
    hour = 1 + 0.05 * random.Random(f"{block} {index}").random()  # an hour's noise hits all systems of a block
    like = CHARACTERS[cell.system]
    names = [f"n{position:02d}" for position in range(cell.shape.nodes)]
    seeders = [names[position] for position in drawn.seeders]
    bad = unreliable(cell, index)
    make = _downloads if cell.kind == "download" else _uploads
    transfers = make(cell, like, [names[position] for position in drawn.leechers], seeders, chance, hour, bad)
    apart = chance.random() < 0.03
    return Round(
        cell=cell,
        index=index,
        seed=drawn.seed,
        seeders=tuple(seeders),
        transfers=tuple(transfers),
        nodes=dict(_counters(cell, like, names, seeders, chance)),
        environment=place(cell.shape.link),
        started_at=f"2000-01-01T{index:02d}:00:00.000+00:00",
        handle=f"{chance.getrandbits(64):016x}",
        digest=f"{chance.getrandbits(256):064x}",
        deadline_s=deadline_s(cell.size, None),
        seconds={"make_s": 0.1, "seed_s": 0.2, "start_skew_s": 0.003, "round_s": 9.0},
        flags=("leechers may have started too far apart (start_skew_s)",) if apart else (),
        relays=cell.shape.variant.system != "http",
        copies=cell.shape.variant.system != "bittorrent",
    )


def _downloads(
    cell: Cell,
    like: Character,
    leechers: Sequence[str],
    seeders: Sequence[str],
    chance: random.Random,
    hour: float,
    bad: bool,
) -> Iterator[Transfer]:
    rate = (cell.shape.link or 4 * 10**9) / 8 / PAYLOAD_TO_WIRE
    least = fluid_bound_s(cell, rate, rate, like is not CHARACTERS["http"])
    for name in leechers:
        seconds = least * like.slower * hour * math.exp(chance.gauss(0, like.noise)) + like.ttfb_s
        first = like.ttfb_s * math.exp(chance.gauss(0, 0.2))
        lost = bad and chance.random() < 0.7
        upto = chance.uniform(0.2, 0.9) if lost else 1.0
        timelines = {
            view: arrival(cell.size, seconds, first, like.bend * (like.disorder if view == "contiguous" else 1), upto)
            for view in like.views
        }
        moments = {like.moment: MANIFEST_SHARE * first} if like.moment else {}
        error, tail = (_complaint(name, upto), "I peer choked us\nW no progress for 60 s\n") if lost else (None, None)
        yield Transfer(name, "download", FAILED if lost else OK, timelines, moments, error, tail)


def _complaint(name: str, upto: float) -> str:
    return f"{name} had {upto:.0%} of the file at its deadline; the end of its log: W no progress for 60 s"


def _uploads(
    cell: Cell,
    like: Character,
    leechers: Sequence[str],
    seeders: Sequence[str],
    chance: random.Random,
    hour: float,
    bad: bool,
) -> Iterator[Transfer]:
    seconds = hour * like.slower * cell.size / 400e6 * math.exp(chance.gauss(0, like.noise))
    if bad:
        yield Transfer(seeders[0], "upload", FAILED, error="POST /data: status 500, expected 200")
        return
    yield Transfer(seeders[0], "upload", OK, seconds={"publish_s": seconds, "upload_accept_s": seconds * 0.7})
    yield Transfer(leechers[0], "proof", OK, {"contiguous": arrival(cell.size, 1.0, 0.1, 1.0, 1.0)})


def arrival(size: int, seconds: float, first_s: float, bend: float, upto: float) -> Timeline:
    """Bytes that come over ``seconds``, along a power of the time; only the share ``upto`` of them."""
    last, span = round(size * upto), max(1e-3, seconds - first_s)
    counts = {1, *(size * share // 100 for share in range(1, 101)), min(MIB, size), last}
    marks = [(held, round((first_s + span * (held / size) ** (1 / bend)) * NS)) for held in sorted(counts)]
    marks = [(held, t_ns) for held, t_ns in marks if 0 < held <= last]
    end_s = marks[-1][1] / NS
    received = [
        min(last, round(size * max(0.0, (second - first_s) / span) ** bend)) for second in range(1, 1 + int(end_s))
    ]
    return Timeline(size, tuple(marks), tuple(received), end_ns=marks[-1][1])


def _counters(
    cell: Cell, like: Character, names: Sequence[str], seeders: Sequence[str], chance: random.Random
) -> Iterator[tuple[str, Counters]]:
    moved = cell.size * cell.leechers * (1 + like.overhead)
    relayed = 0.0 if like is CHARACTERS["http"] else min(0.9, 0.6 * cell.leechers / cell.shape.nodes)
    for name in names:
        seeds = name in seeders
        sent = moved * (1 - relayed) / len(seeders) if seeds else moved * relayed / cell.leechers
        received = 0 if seeds else cell.size * (1 + like.overhead * chance.uniform(0.8, 1.2))
        yield (
            name,
            Counters(
                wire_rx_bytes=round(received * PAYLOAD_TO_WIRE),
                wire_tx_bytes=round(sent * PAYLOAD_TO_WIRE),
                payload_rx_bytes=round(received),
                payload_tx_bytes=round(sent),
                cpu_s=cell.size / 250e6,
                rss_peak_bytes=70 * 10**6,
            ),
        )


def _variants(*names: str) -> tuple[Variant, ...]:
    return tuple(variant_named(name, BUILT_IN) for name in names)


FIVE = _variants("bittorrent", "bittorrent.stock", "bittorrent.streaming", "http", "ipfs")
LINK = parse_rate("100mbit")
SMALL = tuple(map(parse_size, ("25MB", "100MB", "250MB")))
SHAPES = ((2, 1), (4, 1), (8, 2))


def _often(cell: Cell, index: int) -> bool:
    """One system fails in most rounds of the larger swarms, another once in a while."""
    if cell.system == "codex":
        return cell.shape.nodes > 2 and index % 3 != 0
    return cell.system == "ipfs" and index == 4


RUNS: Mapping[str, Callable[[], tuple[Matrix, Callable[[Cell, int], bool] | None]]] = {
    "3x3": lambda: (Matrix("3x3", SHAPES, SMALL, FIVE, (LINK,), rounds=10), None),
    "failures": lambda: (
        Matrix("failures", SHAPES, SMALL[:2], _variants("bittorrent", "codex", "ipfs"), (LINK,), rounds=6),
        _often,
    ),
    "one": lambda: (Matrix("one", ((4, 1),), SMALL[:1], _variants("codex"), (None,), rounds=6), None),
    "many": lambda: (
        Matrix(
            "many",
            ((2, 1), (4, 1), (4, 2), (8, 1), (8, 2), (8, 4), (16, 1), (16, 2)),
            tuple(map(parse_size, ("10MB", "50MB", "250MB", "1GB", "5GB"))),
            FIVE,
            (LINK,),
            rounds=6,
        ),
        None,
    ),
    "large": lambda: (
        Matrix(
            "large",
            ((32, 1),),
            tuple(parse_size(f"{megabytes}MB") for megabytes in range(100, 1400, 100)),
            _variants("bittorrent", "http"),
            tuple(map(parse_rate, ("500mbit", "1gbit", "2gbit"))),
            rounds=10,
        ),
        None,
    ),
    "few": lambda: (Matrix("few", SHAPES[1:], SMALL[:2], _variants("bittorrent", "http"), (None,), rounds=2), None),
    "skipped": lambda: (Matrix("skipped", SHAPES[:1], SMALL[:1], _variants("codex"), (None,), rounds=6), None),
}


def write(name: str, folder: Path) -> Path:
    """The run of that name, as a folder that ``codexbench report`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix, unreliable = RUNS[name]()
    journal = Journal(folder)
    if name == "skipped":
        for cell in matrix:
            journal.add(
                Note("skipped", cell, "codex: no `codex` or `storage` program on PATH; give --cb-codex-bin=PATH")
            )
    else:
        lines = (json.dumps(each.to_json()) + "\n" for each in made_up(matrix, *([unreliable] if unreliable else [])))
        with journal.path.open("w", encoding="utf-8") as file:  # not a line at a time with its fsync
            file.writelines(lines)
    (folder / PROVENANCE).write_text(json.dumps(_provenance(name, matrix)), encoding="utf-8")
    return folder


def _provenance(name: str, matrix: Matrix) -> dict[str, Any]:
    blocks = tuple(block for kind in ("download", "upload") for block in matrix.blocks(kind))
    plan = Plan(name, blocks, matrix.rounds, SEED)
    options = {"matrix": name, "deadline_s": None, "budget_s": None, "called": "pytest"}
    told = plan_to_json(plan, f"pytest --matrix={name}", options, {each.name: "made up" for each in matrix.variants})
    return {
        "schema": 1,
        "id": f"20000101-000000-{name}-{plan.hash[:6]}",
        **told,
        "environment": place(None).to_json(),
        "started_at": "2000-01-01T00:00:00+00:00",
    }
