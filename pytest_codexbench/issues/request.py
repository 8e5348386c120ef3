"""What is asked for, within what limits, at what cost."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.forecast import Experience, Forecast, bytes_text, duration_text, forecast
from pytest_codexbench.matrix import BUILT_IN, Cell, Matrix, Variant, rate_text, size_text, variant_named
from pytest_codexbench.plan import blocks_of
from pytest_codexbench.systems import needs_of

SHA = re.compile("[0-9a-f]{64}")
# What a cluster usually takes to come up, in seconds: the longer one of both backends.
CLUSTER_S = 20.0
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an issue may ask for; sizes in bytes, links in bits a second, ``moved`` in bytes over all links."""

    systems: tuple[str, ...] = tuple(sorted(BUILT_IN))
    values: int = 6
    nodes: int = 32
    size: int = 5 * 10**9
    rounds: int = 20
    least_link: int = 10**6
    link: int = 10**10
    cells: int = 60
    moved: int = 2 * 10**12
    seconds: int = 8 * 3600


def read_limits(path: Path) -> Limits:
    """The limits in a TOML file; what it does not name is as built in.

    Raises:
        WrongInput: naming the file, the key and what would be right.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WrongInput(f"limits {path}: {error}") from error
    known = {field.name for field in fields(Limits)}
    for key, value in document.items():
        if key not in known:
            raise WrongInput(f"limits {path}: unknown key {key!r}; known ones: {', '.join(sorted(known))}")
        if key == "systems":
            if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
                raise WrongInput(f'limits {path}: systems = {value!r}; a list of names is needed, as in ["http"]')
            document[key] = tuple(variant_named(name, BUILT_IN).name for name in value)
        elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise WrongInput(f"limits {path}: {key} = {value!r}; a whole number from 1 on is needed")
    return Limits(**document)


@dataclass(frozen=True, slots=True)
class Request:
    """A matrix that an issue asks for. ``sha`` is of the issue's text, ``issue`` its number; 0 where there is none."""

    issue: int
    sha: str
    matrix: Matrix

    def __post_init__(self) -> None:
        if not SHA.fullmatch(self.sha) or self.issue < 0:
            raise WrongInput(f"a request of issue {self.issue} with the hash {self.sha!r}: that is none")

    @property
    def cells(self) -> list[Cell]:
        """All that the suite measures of it."""
        return [cell for block in blocks_of(self.matrix) for cell in block.cells]

    def cost(self) -> Forecast:
        """What it takes, by the systems' own figures: this machine is not the one that measures."""
        cells = self.cells
        return forecast(
            cells, self.matrix.rounds, lambda cell: needs_of(cell.shape), _runs, Experience({}, {}), CLUSTER_S
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it."""
        matrix = self.matrix
        return {
            "schema": SCHEMA,
            "issue": self.issue,
            "sha": self.sha,
            "matrix": matrix.name,
            "systems": [variant.name for variant in matrix.variants],
            "shapes": [list(pair) for pair in matrix.pairs],
            "sizes": list(matrix.sizes),
            "links": [link for link in matrix.links if link is not None],
            "rounds": matrix.rounds,
        }

    def matrix_file(self) -> str:
        """The matrix as a file for ``--matrix``: numbers and known names, whatever the issue says."""
        matrix = self.matrix
        lines = [
            f"name = {json.dumps(matrix.name)}",
            f"shapes = {[list(pair) for pair in matrix.pairs]}",
            f"sizes = {json.dumps([size_text(size) for size in matrix.sizes])}",
        ]
        if links := [rate_text(link) for link in matrix.links if link is not None]:
            lines.append(f"links = {json.dumps(links)}")
        lines += [f"rounds = {matrix.rounds}", *(f'[systems."{variant.name}"]' for variant in matrix.variants)]
        return "\n".join(lines) + "\n"


def _runs(_: Cell) -> None:
    """Whether the cell can run, the machine that measures says."""


def from_json(document: object, limits: Limits) -> Request:
    """A request that ``to_json`` wrote, checked against the limits once more.

    Raises:
        WrongInput: naming what cannot be.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise WrongInput(f"the request: an object with schema = {SCHEMA} is needed")
    try:
        request = Request(
            issue=_whole(document["issue"]),
            sha=str(document["sha"]),
            matrix=Matrix(
                name=_name(document["matrix"]),
                pairs=tuple((_whole(nodes), _whole(seeders)) for nodes, seeders in document["shapes"]),
                sizes=tuple(_whole(size) for size in document["sizes"]),
                variants=known(document["systems"], limits),
                links=tuple(_whole(link) for link in document["links"]) or (None,),
                rounds=_whole(document["rounds"]),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WrongInput(f"the request: {type(error).__name__}: {error}") from error
    if problems := over(request, limits):
        raise WrongInput(f"the request: {'; '.join(problems)}")
    return request


def known(names: Sequence[str], limits: Limits) -> tuple[Variant, ...]:
    """The variants of that name.

    Raises:
        WrongInput: for one that the limits do not list.
    """
    for name in names:
        if name not in limits.systems:
            raise WrongInput(f"a system that may not be asked for; there are {', '.join(limits.systems)}")
    return tuple(variant_named(name, BUILT_IN) for name in names)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**16:
        raise WrongInput(f"{value!r} is no whole number")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch("[a-z0-9-]{1,40}", value):
        raise WrongInput(f"{value!r} is no name of a matrix")
    return value


def over(request: Request, limits: Limits) -> list[str]:
    """What of it is more than may be asked for, in words; nothing if it is within the limits."""
    matrix = request.matrix
    found = []
    if max(nodes for nodes, _ in matrix.pairs) > limits.nodes:
        found.append(f"at most {limits.nodes} nodes may be asked for")
    if max(matrix.sizes) > limits.size:
        found.append(f"files of at most {size_text(limits.size)} may be asked for")
    if matrix.rounds > limits.rounds:
        found.append(f"at most {limits.rounds} rounds may be asked for")
    if any(link is not None and not limits.least_link <= link <= limits.link for link in matrix.links):
        found.append(f"links from {rate_text(limits.least_link)} to {rate_text(limits.link)} may be asked for")
    if found:
        return found
    cells = len(request.cells)
    if cells > limits.cells:
        return [f"{cells} cells, uploads included; at most {limits.cells} may be asked for at once"]
    cost = request.cost()
    if cost.moved > limits.moved:
        found.append(f"{bytes_text(cost.moved)} over the links; at most {bytes_text(limits.moved)} may be asked for")
    if cost.seconds > limits.seconds:
        found.append(f"about {duration_text(cost.seconds)}; at most {duration_text(limits.seconds)} may be asked for")
    return found
