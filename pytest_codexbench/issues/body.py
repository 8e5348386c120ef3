"""What the text of an issue asks for, read as GitHub writes a form that was filled in."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from itertools import product
from typing import TypeVar

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.issues.request import Limits, Request, known, over
from pytest_codexbench.matrix import PRESETS, Matrix, parse_rate, parse_size, rate_text, size_text

V = TypeVar("V")

SYSTEMS, MATRIX, NODES, SEEDERS, SIZES = "Systems", "Matrix", "Nodes", "Seeders", "Sizes"
ROUNDS, LINK, NOTE = "Rounds", "Link", "Note"
AXES = (NODES, SEEDERS, SIZES)
HEADINGS = (SYSTEMS, MATRIX, *AXES, ROUNDS, LINK, NOTE)
OWN = "my own, as below"
OFFERED = ("smoke", "3x3")
# What GitHub writes where nothing was filled in: the second one for lists to choose from.
NOTHING = ("_No response_", "None")
MOST_LETTERS, MOST_VALUE = 20_000, 200
USUAL_ROUNDS = 6
SHOWN = re.compile("[A-Za-z0-9][A-Za-z0-9.]{0,23}")
PRINTABLE = re.compile("[ -~]*")


class Refused(WrongInput):
    """The text asks for nothing that can be run; ``problems`` are sentences without a word of it that could harm."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def digest(body: str) -> str:
    """The hash of a text: the same for what reads the same, so line ends do not count."""
    return hashlib.sha256(body.replace("\r\n", "\n").encode(errors="surrogatepass")).hexdigest()


def read(body: str, issue: int = 0, limits: Limits | None = None) -> Request:
    """What the text asks for.

    Raises:
        Refused: with everything that is wrong with it.
    """
    allowed = limits or Limits()
    found = answers(body)
    reader = _Reader(found, allowed)
    matrix = reader.matrix(f"issue-{issue}" if issue else "issue")
    if reader.problems or matrix is None:
        raise Refused(*reader.problems)
    request = Request(issue, digest(body), matrix)
    if problems := over(request, allowed):
        raise Refused(*problems)
    return request


def answers(body: str) -> Mapping[str, str]:
    """The value below each heading but the note's, which nobody reads; empty where nothing was filled in.

    Raises:
        Refused: if it is not what the form writes: headings of level three, each once, each with a line of plain ASCII.
    """
    if len(body) > MOST_LETTERS:
        raise Refused(f"The text has more than {MOST_LETTERS} letters.")
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts: dict[str, list[str]] = {}
    at: str | None = None
    for line in lines:
        if at == NOTE:
            _still_the_note(line)
        elif line.startswith("### ") and line[4:].rstrip(" ") in HEADINGS:
            at = line[4:].rstrip(" ")
            if at in parts:
                raise Refused(f"The heading {at} is there twice.")
            parts[at] = []
        elif line.strip(" \t"):
            if at is None or line.lstrip().startswith("#"):
                raise Refused(f"There is text outside of the form's headings, which are {', '.join(HEADINGS)}.")
            parts[at].append(line)
    return {name: _one_line(name, told) for name, told in parts.items() if name != NOTE}


def _still_the_note(line: str) -> None:
    """A note with a heading of the form in it would show people another request than the one that is read."""
    plain = unicodedata.normalize("NFKC", line).strip().strip("#*_=-> \t").casefold()
    if line.lstrip().startswith("#") and plain in {heading.casefold() for heading in HEADINGS}:
        raise Refused("The note has a heading of the form in it.")


def _one_line(name: str, told: list[str]) -> str:
    value = told[0].strip(" \t") if told else ""
    if len(told) > 1:
        raise Refused(f"{name}: one line is needed, and there are {len(told)}.")
    if len(value) > MOST_VALUE:
        raise Refused(f"{name}: longer than {MOST_VALUE} letters.")
    if not PRINTABLE.fullmatch(value):
        raise Refused(f"{name}: other letters than plain ASCII are in it.")
    return "" if value in NOTHING else value


class _Reader:
    """Reads one value after the other, and keeps what is wrong."""

    def __init__(self, found: Mapping[str, str], limits: Limits) -> None:
        self.found, self.limits = found, limits
        self.problems: list[str] = []

    def matrix(self, name: str) -> Matrix | None:
        """All of it; None if a value is wrong."""
        limits = self.limits
        systems = self._systems()
        rounds = self._values(
            ROUNDS, lambda text: _whole(text, 1, limits.rounds), f"a number from 1 to {limits.rounds}"
        )
        links = self._values(
            LINK, self._link, f"a rate from {rate_text(limits.least_link)} to {rate_text(limits.link)}"
        )
        for heading, values in ((ROUNDS, rounds), (LINK, links)):
            if len(values) > 1:
                self.problems.append(f"{heading}: one value is needed, and there are {len(values)}.")
        chosen = self.found.get(MATRIX) or OWN
        if chosen not in (OWN, *OFFERED):
            self.problems.append(f"{MATRIX}: {_shown(chosen)} is none of {', '.join((*OFFERED, OWN))}.")
            return None
        pairs, sizes, usual, dropped = self._axes() if chosen == OWN else self._preset(chosen)
        if self.problems:
            return None
        return Matrix(
            name=name if chosen == OWN else f"{name}-{chosen}",
            pairs=pairs,
            sizes=sizes,
            variants=known(systems, limits),
            links=tuple(links) or (None,),
            rounds=rounds[0] if rounds else usual,
            dropped=dropped,
        )

    def _systems(self) -> list[str]:
        there = f"one of {', '.join(self.limits.systems)}"
        systems = self._values(SYSTEMS, lambda text: text if text in self.limits.systems else None, there)
        if not self.found.get(SYSTEMS):
            self.problems.append(f"{SYSTEMS}: nothing is chosen.")
        return systems

    def _axes(self) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...], int, int]:
        limits = self.limits
        for heading in AXES:
            if not self.found.get(heading):
                self.problems.append(f"{heading}: a value is needed, or a matrix with a name.")
        nodes = self._values(NODES, lambda text: _whole(text, 2, limits.nodes), f"a number from 2 to {limits.nodes}")
        most = limits.nodes - 1
        seeders = self._values(SEEDERS, lambda text: _whole(text, 1, most), f"a number from 1 to {most}")
        sizes = self._values(SIZES, self._size, f"a size from 1B to {size_text(limits.size)}, written as 100MB")
        pairs = list(product(nodes, seeders))
        kept = tuple((n, s) for n, s in pairs if s < n)
        if pairs and not kept:
            self.problems.append(f"{SEEDERS}: no pair with fewer seeders than nodes is left.")
        return kept, tuple(sizes), USUAL_ROUNDS, len(pairs) - len(kept)

    def _preset(self, chosen: str) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...], int, int]:
        for heading in AXES:
            if self.found.get(heading):
                self.problems.append(f"{heading}: the matrix {chosen} has its own; leave it empty, or choose {OWN!r}.")
        pairs, sizes, rounds = PRESETS[chosen]
        return pairs, tuple(map(parse_size, sizes)), rounds, 0

    def _values(self, heading: str, parse: Callable[[str], V | None], needed: str) -> list[V]:
        """The values by comma, each once."""
        text = self.found.get(heading, "")
        words = [word.strip(" \t") for word in text.split(",")] if text else []
        if len(words) > self.limits.values:
            self.problems.append(f"{heading}: {len(words)} values; at most {self.limits.values} may be asked for.")
            return []
        values: dict[V, None] = {}
        for word in words:
            value = parse(word)
            if value is None:
                self.problems.append(f"{heading}: {_shown(word)} is not {needed}.")
            elif value in values:
                self.problems.append(f"{heading}: {_shown(word)} is there twice.")
            else:
                values[value] = None
        return list(values)

    def _size(self, text: str) -> int | None:
        size = _parsed(text, parse_size)
        return size if size is not None and size <= self.limits.size else None

    def _link(self, text: str) -> int | None:
        rate = _parsed(text, parse_rate)
        return rate if rate is not None and self.limits.least_link <= rate <= self.limits.link else None


def _parsed(text: str, parse: Callable[[str], int]) -> int | None:
    if len(text) > 20:
        return None
    try:
        return parse(text)
    except WrongInput:
        return None


def _whole(text: str, least: int, most: int) -> int | None:
    """A number as people write it; ``int()`` would take digits of every script, and more."""
    value = int(text) if re.fullmatch("[0-9]{1,6}", text) else None
    return value if value is not None and least <= value <= most else None


def _shown(text: str) -> str:
    """A word of the text if it can be nothing but a word on a page, be it Markdown or HTML."""
    return f"`{text}`" if SHOWN.fullmatch(text) else "what is there" if text else "an empty value"
