"""In which order the rounds run, with what draw, at what cost."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from pytest_codexbench.disturbances import named
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Block, Cell, Matrix, Variant, digest_of

# A fresh cluster of a few nodes with its warm-up takes about so long.
ANEW_S = 8.0
WARM_UP = -1
WARM_UP_SIZE = 10**7
TIME = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?\s*$", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Draw:
    """What one round of a block draws, the same in every system: positions are indices of nodes."""

    index: int
    seed: int
    seeders: tuple[int, ...]
    leechers: tuple[int, ...]
    order: tuple[Variant, ...]


def draw(block: Block, index: int, seed: int) -> Draw:
    """Round ``index`` of ``block``: the same for the same ``seed`` on every machine.

    Bytes, seeders and the order of the leechers do not depend on which systems take part; who goes first does. On the
    disturbance the bytes alone depend: a disturbed round has the seeders of the undisturbed one that it is held
    against, but a node that has fetched and deleted a file may fetch it otherwise the next time.
    """
    truth = f"{seed} {index} {block.kind} {block.nodes} {block.seeders} {block.size} {block.link}"
    chance = random.Random(_number(truth))  # noqa: S311 - a plan is to be repeated, not to be secret
    nodes = list(range(block.nodes))
    chance.shuffle(nodes)
    order = list(block.variants)
    random.Random(_number(truth + " order")).shuffle(order)  # noqa: S311 - as above
    bytes_seed = _number(f"{truth} bytes{block.disturbance}")
    return Draw(index, bytes_seed, tuple(nodes[: block.seeders]), tuple(nodes[block.seeders :]), tuple(order))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run sets out to do; ``blocks`` in the order in which they run."""

    matrix: str
    blocks: tuple[Block, ...]
    rounds: int
    seed: int
    backend: str = "local"
    deadline_s: float | None = None

    @property
    def hash(self) -> str:
        """The same for two runs that would measure the same: 12 hexadecimal digits."""
        cells = sorted((str(cell), cell.key) for cell in self.cells)
        return digest_of([cells, self.rounds, self.seed, self.backend, self.deadline_s])[:12]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of every block."""
        return tuple(cell for block in self.blocks for cell in block.cells)


def blocks_of(matrix: Matrix) -> tuple[Block, ...]:
    """Every block of every experiment, in the order of a plan."""
    return tuple(matrix.every_block())


def by_cluster(blocks: Iterable[Block]) -> Iterator[tuple[tuple[int, int | None], list[Block]]]:
    """Blocks that share their clusters, together: keyed by nodes and link."""
    ordered = sorted(blocks, key=lambda block: (block.nodes, block.link or 0))
    for key, group in groupby(ordered, key=lambda block: (block.nodes, block.link)):
        yield key, list(group)


def visits(blocks: Iterable[Block], rounds: int, budgeted: bool, seed: int = 1) -> Iterator[tuple[Block, int]]:
    """Which block runs which round, in order; blocks of one scenario in turn, in the order that ``seed`` draws.

    Without a budget each cluster size is finished before the next one. With one it is round-robin: every block has
    ``k`` rounds before any has ``k + 1``, and there are no more than ``rounds``.
    """
    ordered = [block for _, group in by_cluster(blocks) for block in group]
    scenarios: dict[tuple[object, ...], list[Block]] = {}
    for block in ordered:
        scenarios.setdefault(block.scenario, []).append(block)
    if budgeted:
        turns = ((each, index) for index in range(rounds) for each in scenarios.values())
    else:
        turns = ((each, index) for each in scenarios.values() for index in range(rounds))
    yield from ((block, index) for each, index in turns for block in _shuffled(each, index, seed))


def _shuffled(blocks: list[Block], index: int, seed: int) -> list[Block]:
    """The blocks of one scenario, in the order of one round."""
    some = list(blocks)
    if len(some) > 1:
        chance = _number(f"{seed} {index} {blocks[0].scenario} order of disturbances")
        random.Random(chance).shuffle(some)  # noqa: S311 - a plan is to be repeated, not to be secret
    return some


@dataclass(frozen=True, slots=True)
class Needs:
    """What one node of a system takes while a file of b bytes is spread.

    ``seeder_copies`` and ``leecher_copies`` are files of b bytes on disk, ``memory`` is bytes resident at the peak
    (node and agent), ``mb_per_s`` is what all leechers of one machine got together when it was last measured.
    ``relays`` says that leechers pass on what they have; without it the seeders alone send.
    """

    seeder_copies: float
    leecher_copies: float
    memory: int
    mb_per_s: float
    relays: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """What one round of one cell takes: bytes over the links, bytes on disk, bytes of memory, seconds."""

    moved: int
    disk: int
    memory: int
    seconds: float


def cost(cell: Cell, needs: Needs, mb_per_s: float | None = None, setup_s: float = 1.5) -> Cost:
    """The cost of one round on one machine.

    ``mb_per_s`` is the measured rate of all leechers together in 10^6 B/s, from an earlier run; else the system's
    own figure. A link sets a floor under the time: no leecher is faster than its link, nor all than the seeders'.
    ``setup_s`` is what a round spends on making, publishing, checking and deleting.
    """
    moved = cell.size * (cell.leechers if cell.moves == "download" else 1)
    disk = cell.size * (needs.seeder_copies * cell.seeders + needs.leecher_copies * cell.leechers)
    seconds = moved / ((mb_per_s or needs.mb_per_s) * 1e6)
    if cell.shape.link is not None and cell.moves == "download":
        seconds = max(seconds, fluid_bound_s(cell, cell.shape.link / 8, cell.shape.link / 8, needs.relays))
    making = cell.size * cell.seeders / 500e6
    happens = named(cell.disturbance) if cell.disturbance else None
    # a cluster whose programs were killed is replaced
    more = happens.extra_s + (ANEW_S if happens.kills else 0) if happens else 0.0
    return Cost(moved, int(disk), needs.memory * cell.shape.nodes, seconds + making + setup_s + more)


def fluid_bound_s(cell: Cell, up: float, down: float, relays: bool) -> float:
    """The least possible seconds until the last of equal leechers has the file, for ``up`` and ``down`` B/s a node.

    For a swarm ``max(b / (s u), b / d, (n - s) b / (n u))``: Kumar & Ross, "Peer-assisted file distribution: the
    minimum distribution time", 2006. Where seeders alone send: ``max(b / d, (n - s) b / (s u))``.
    """
    n, s, b = cell.shape.nodes, cell.seeders, cell.size
    if not relays:
        return max(b / down, (n - s) * b / (s * up))
    return max(b / (s * up), b / down, (n - s) * b / (n * up))


def parse_time(text: str) -> float:
    """Seconds in ``text``: ``90``, ``90s``, ``10m``, ``8h``, ``1d``.

    Raises:
        WrongInput: if it is none of these or not over 0.
    """
    match = TIME.match(text)
    units: Mapping[str, int] = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    seconds = float(match[1]) * units[(match[2] or "s").lower()] if match else 0.0
    if not 0 < seconds <= 366 * 86400:
        raise WrongInput(f"time {text!r} is not understood; write it as 90s, 10m or 8h")
    return seconds


def deadline_s(size: int, given: float | None) -> float:
    """How long a transfer of ``size`` bytes may take: as given, else 60 s and a second for each 10^6 bytes."""
    return given if given is not None else 60 + size / 1e6
