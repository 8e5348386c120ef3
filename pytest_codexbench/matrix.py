"""What is measured: cells, and the axes they come from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import product
from typing import Any

from pytest_codexbench.disturbances import DISTURBANCES, UNDISTURBED, named
from pytest_codexbench.errors import WrongInput

Settings = tuple[tuple[str, str | int | float | bool], ...]

SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kMGT]i?B|B)\s*$", re.IGNORECASE | re.ASCII)
RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmg])bit(?:/s|ps)?\s*$", re.IGNORECASE | re.ASCII)
VARIANT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")
LEAST_SIZE, MOST_SIZE = 1, 10**13
LEAST_RATE, MOST_RATE = 10**5, 10**11
MOST_NODES = 1000
EXPERIMENTS = ("download", "upload", "reliability", "stability")
"""Every kind of cell: a test's mark takes one of them, a matrix file any."""


def parse_size(text: str) -> int:
    """Bytes in ``text``: ``100MB`` is 10^8 (decimal), ``100MiB`` 100 * 2^20.

    Raises:
        WrongInput: if it is not a whole, positive number of bytes.
    """
    match = SIZE.match(text)
    if match is None:
        raise WrongInput(f"size {text!r} is not understood; write it as 100MB, 1GB or 64MiB")
    unit = match[2].lower()
    power = " kmgt".index(unit[0]) if unit[0] != "b" else 0
    size = Decimal(match[1]) * (1024 if "i" in unit else 1000) ** power
    if not (LEAST_SIZE <= size <= MOST_SIZE) or size != int(size):
        raise WrongInput(f"size {text!r} is not a whole number of bytes between 1 B and 10 TB")
    return int(size)


def size_text(size: int) -> str:
    """The shortest exact way to write ``size`` bytes, as in test ids: ``100MB``, ``1GiB``, ``1500000B``."""
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        for base, infix in ((1000, ""), (1024, "i")):
            if size % base**power == 0:
                return f"{size // base**power}{letter}{infix}B"
    return f"{size}B"


def parse_rate(text: str) -> int:
    """Bits a second in ``text``: ``100mbit`` is 10^8.

    Raises:
        WrongInput: if it is no rate between 100 kbit and 100 Gbit a second.
    """
    match = RATE.match(text)
    if match is None:
        raise WrongInput(f"rate {text!r} is not understood; write it as 10mbit, 100mbit or 1gbit")
    rate = int(Decimal(match[1]) * 1000 ** (" kmg".index(match[2].lower())))
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise WrongInput(f"rate {text!r} is not between 100kbit and 100gbit")
    return rate


def link_word(rate: int | None) -> str:
    """``at100m`` for 10^8, for ids: ``-k 100MB`` would take ``100mbit`` too; empty for no limit."""
    return f"at{rate_text(rate).removesuffix('bit')}" if rate is not None else ""


def rate_text(rate: int | None) -> str:
    """``100mbit`` for 10^8; empty for no limit."""
    if rate is None:
        return ""
    for power, letter in ((3, "g"), (2, "m"), (1, "k")):
        if rate % 1000**power == 0:
            return f"{rate // 1000**power}{letter}bit"
    return f"{Decimal(rate) / 1000:f}kbit"


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A storage system with the settings it runs with: ``bittorrent``, ``codex.new``."""

    name: str
    system: str
    settings: Settings = ()

    def __post_init__(self) -> None:
        if not VARIANT.fullmatch(self.name):
            raise WrongInput(f"system {self.name!r}: a name is a word, or a word, a dot and a word, in lower case")

    def setting(self, key: str, default: str = "") -> str:
        """The value of one setting as text, or ``default``."""
        return str(dict(self.settings).get(key, default))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """A cluster worth keeping over several cells. ``link`` is bits a second of each node, both ways; None: no limit."""

    variant: Variant
    nodes: int
    link: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.nodes <= MOST_NODES:
            raise WrongInput(f"{self.nodes} nodes: a swarm has between 2 and {MOST_NODES}")

    def __str__(self) -> str:
        return "-".join(filter(None, (str(self.variant), f"n{self.nodes:02d}", link_word(self.link))))


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One point of the matrix. ``size`` is in bytes; ``kind`` is the experiment, one of ``EXPERIMENTS``.

    ``disturbance`` is the name of what happens meanwhile, in cells of reliability alone.
    """

    shape: Shape
    seeders: int
    size: int
    kind: str = "download"
    disturbance: str = ""

    def __post_init__(self) -> None:
        if bool(self.disturbance) != (self.kind == "reliability"):
            raise WrongInput(f"a cell of {self.kind} with disturbance {self.disturbance!r}: reliability alone has one")
        if not 0 < self.seeders < self.shape.nodes:
            raise WrongInput(f"{self.shape} with {self.seeders} seeders has nobody to download")
        if not LEAST_SIZE <= self.size <= MOST_SIZE:
            raise WrongInput(f"a file of {self.size} bytes: between 1 B and 10 TB can be measured")

    @property
    def system(self) -> str:
        """The variant's name, as in the id."""
        return self.shape.variant.name

    @property
    def leechers(self) -> int:
        """How many nodes fetch the file."""
        return self.shape.nodes - self.seeders

    @property
    def moves(self) -> str:
        """What its transfers are: ``upload`` or ``download``."""
        return "upload" if self.kind == "upload" else "download"

    @property
    def key(self) -> str:
        """A hash of all in the plan that can change the result: 12 hexadecimal digits."""
        truth = [self.kind, self.shape.variant.system, self.shape.variant.settings, self.shape.nodes]
        more = [self.disturbance] if self.disturbance else []
        return digest_of([*truth, self.shape.link, self.seeders, self.size, *more])[:12]

    def __str__(self) -> str:
        link = link_word(self.shape.link)
        parts = [self.system, f"n{self.shape.nodes:02d}", f"s{self.seeders:02d}", size_text(self.size), link]
        if self.kind == "upload":
            parts = [self.system, size_text(self.size), link]
        if self.kind == "stability":
            parts.append("soak")
        return "-".join(filter(None, (*parts, self.disturbance)))


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Cells that are compared, so measured together, round by round: alike but for the variant."""

    nodes: int
    seeders: int
    size: int
    link: int | None
    variants: tuple[Variant, ...]
    kind: str = "download"
    disturbance: str = ""

    def cell(self, variant: Variant) -> Cell:
        """The cell of one of its variants."""
        shape = Shape(variant, self.nodes, self.link)
        return Cell(shape, self.seeders, self.size, self.kind, self.disturbance)

    @property
    def scenario(self) -> tuple[object, ...]:
        """What blocks share that differ in their disturbance alone: their draws differ in bytes alone; run together."""
        return self.nodes, self.seeders, self.size, self.link or 0, self.kind

    @property
    def cells(self) -> tuple[Cell, ...]:
        """One cell a variant, in the order of the variants."""
        return tuple(self.cell(variant) for variant in self.variants)

    def only(self, cells: frozenset[Cell] | set[Cell]) -> Block:
        """The same block with just the variants whose cells are among ``cells``."""
        kept = tuple(variant for variant in self.variants if self.cell(variant) in cells)
        return replace(self, variants=kept)

    def __str__(self) -> str:
        link = link_word(self.link)
        if self.kind == "upload":
            return "-".join(filter(None, ("upload", size_text(self.size), link)))
        parts = [f"n{self.nodes:02d}", f"s{self.seeders:02d}", size_text(self.size), link]
        if self.kind == "stability":
            parts.append("soak")
        return "-".join(filter(None, (*parts, self.disturbance)))


@dataclass(frozen=True, slots=True)
class Matrix:
    """The axes. Iterating gives every cell that leaves a leecher; ``dropped`` counts the pairs that do not.

    ``experiments`` are the kinds of its cells; ``disturbances`` the names of what happens in those of reliability.
    """

    name: str
    pairs: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    variants: tuple[Variant, ...]
    links: tuple[int | None, ...] = (None,)
    rounds: int = 6
    dropped: int = field(default=0, compare=False)
    experiments: tuple[str, ...] = ("download", "upload")
    disturbances: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs or not self.sizes or not self.variants or not self.links:
            raise WrongInput(f"matrix {self.name!r} has no cell left: a swarm needs fewer seeders than nodes")
        for nodes, seeders in self.pairs:
            if not 0 < seeders < nodes <= MOST_NODES:
                raise WrongInput(
                    f"matrix {self.name!r}: {nodes} nodes with {seeders} seeders: at most {MOST_NODES} nodes, "
                    "and fewer seeders than nodes, can be measured"
                )
        if self.rounds < 1:
            raise WrongInput(f"matrix {self.name!r}: rounds = {self.rounds}; at least 1 is needed")
        for each in self.disturbances:
            if each not in DISTURBANCES:
                raise WrongInput(
                    f"matrix {self.name!r}: disturbances: {each!r} is not known; there are {', '.join(DISTURBANCES)}"
                )
        if "reliability" in self.experiments and not self.disturbances:
            raise WrongInput(
                f"matrix {self.name!r}: reliability needs disturbances; there are {', '.join(DISTURBANCES)}"
            )
        if self.experiments == ("reliability",) and not any(self._happens(*pair) for pair in self.pairs):
            raise WrongInput(f"matrix {self.name!r} has no cell left: {'; '.join(self.impossible())}")

    def blocks(self, kind: str = "download") -> Iterator[Block]:
        """Every block, smallest cluster first; ``upload`` has one a size and link, on the two nodes it needs.

        Of reliability there is one a disturbance that the swarm can have, next to the undisturbed one.
        """
        if kind not in self.experiments:
            return
        pairs = ((2, 1),) if kind == "upload" else self.pairs
        for link, (nodes, seeders), size in product(self.links, sorted(pairs), sorted(self.sizes)):
            for disturbance in self._happens(nodes, seeders) if kind == "reliability" else ("",):
                yield Block(nodes, seeders, size, link, self.variants, kind, disturbance)

    def _happens(self, nodes: int, seeders: int) -> tuple[str, ...]:
        """The disturbances that such a swarm can have, the undisturbed first; none where it can have no other."""
        possible = [
            each for each in self.disturbances if each != UNDISTURBED and not named(each).impossible(nodes, seeders)
        ]
        return (UNDISTURBED, *possible) if possible or self.disturbances == (UNDISTURBED,) else ()

    def impossible(self) -> list[str]:
        """Which disturbances are left out of which swarms, in words."""
        if "reliability" not in self.experiments:
            return []
        return [
            f"{each} is not of {nodes} nodes with {seeders} seeders: {why}"
            for (nodes, seeders), each in product(sorted(self.pairs), self.disturbances)
            if (why := named(each).impossible(nodes, seeders))
        ]

    def __iter__(self) -> Iterator[Cell]:
        return (cell for block in self.every_block() for cell in block.cells if cell.kind != "upload")

    def every_block(self) -> Iterator[Block]:
        """The blocks of all of its experiments."""
        return (block for kind in EXPERIMENTS for block in self.blocks(kind))

    def with_variants(self, variants: tuple[Variant, ...]) -> Matrix:
        """The same axes for other systems."""
        return replace(self, variants=variants)

    def with_links(self, links: tuple[int | None, ...]) -> Matrix:
        """The same axes on other links."""
        return replace(self, links=links)

    def with_rounds(self, rounds: int) -> Matrix:
        """The same axes with another number of rounds."""
        return replace(self, rounds=rounds)

    def ambiguous_sizes(self) -> list[tuple[str, str]]:
        """Pairs of sizes where the first one's text ends the second one's, so that ``-k`` takes both."""
        texts = [size_text(size) for size in sorted(set(self.sizes))]
        return [(a, b) for a in texts for b in texts if a != b and b.endswith(a)]


def digest_of(truth: object) -> str:
    """A hash of plain data, the same on every machine: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(truth, sort_keys=True, default=list).encode()).hexdigest()


PROFILES = ("tuned", "stock", "streaming")
BUILT_IN = {
    **{name: Variant(name, name) for name in ("codex", "http", "ipfs")},
    "bittorrent": Variant("bittorrent", "bittorrent", (("profile", "tuned"),)),
    **{f"bittorrent.{p}": Variant(f"bittorrent.{p}", "bittorrent", (("profile", p),)) for p in PROFILES},
}

FULL_PAIRS = tuple((n, s) for n in (2, 8, 16, 32) for s in (1, 2, 4, 8, 16) if s < n)
PRESETS: Mapping[str, tuple[tuple[tuple[int, int], ...], tuple[str, ...], int]] = {
    "smoke": (((2, 1), (4, 2)), ("10MB", "50MB"), 2),
    "3x3": (((2, 1), (4, 1), (8, 2)), ("25MB", "100MB", "250MB"), 6),
    "full": (FULL_PAIRS, ("100MB", "1GB", "5GB"), 6),
    "stress": (((4, 1), (4, 2)), ("40MB",), 2),
    "soak": (((4, 1),), ("40MB",), 20),
}
# Slow enough for something to happen in the middle of a small file.
SLOW = 100 * 10**6
MORE: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "stress": {
        "experiments": ("reliability",),
        "disturbances": tuple(name for name in DISTURBANCES if name != UNDISTURBED),
        "links": (SLOW,),
    },
    "soak": {"experiments": ("stability",)},
}
"""What else a preset has, by the names of ``Matrix``."""


def variant_named(name: str, known: Mapping[str, Variant]) -> Variant:
    """The variant ``name`` from ``known``; a bare word that is not there may be anybody's system."""
    if name in known:
        return known[name]
    if "." in name:
        variants = ", ".join(sorted(each for each in known if "." in each))
        raise WrongInput(f"system {name!r} is not defined; known variants: {variants}")
    return Variant(name, name)


def preset(name: str, variants: tuple[Variant, ...]) -> Matrix:
    """The matrix of that name.

    Raises:
        WrongInput: if there is none.
    """
    if name not in PRESETS:
        raise WrongInput(
            f"--matrix={name}: no such preset and no such file; presets: {', '.join(PRESETS)}; a file ends in .toml"
        )
    pairs, sizes, rounds = PRESETS[name]
    made = Matrix(name, pairs, tuple(map(parse_size, sizes)), variants, rounds=rounds)
    more: Any = MORE.get(name, {})
    return replace(made, **more)
