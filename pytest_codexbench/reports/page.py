"""Lines and columns that fit on a console."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pytest_codexbench.reports.wording import one_line

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

GAP = "  "


class Page:
    """Lines on a console, plain or in colour; each fits."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.width = console.width

    def line(self, text: str = "", style: str = "") -> None:
        """One line, cut where it is too long."""
        self.parts((text, style))

    def parts(self, *parts: tuple[str, str]) -> None:
        """One line of several styles, cut where it is too long."""
        from rich.text import Text

        line = Text.assemble(*parts, no_wrap=True, end="")
        line.rstrip()
        line.truncate(self.width, overflow="crop")
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def words(self, text: str, style: str = "", indent: str = "", most: int | None = None) -> None:
        """As many lines as the words take, or at most so many."""
        hanging = indent + GAP
        lines = textwrap.wrap(
            one_line(text),
            width=max(self.width, len(hanging) + 10),
            initial_indent=indent,
            subsequent_indent=hanging,
            break_on_hyphens=False,
            max_lines=most,
            placeholder=" ...",
        )
        for line in lines:
            self.line(line, style)

    def heading(self, text: str) -> None:
        """A line with room above it."""
        self.line()
        self.words(text, "bold")


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table; the lower ``drop``, the longer it stays where the terminal is narrow; 0 always does."""

    title: str
    show: Callable[[T], str]
    drop: int = 0
    left: bool = False


def fitting(columns: Sequence[Column[T]], lines: Sequence[T], width: int) -> tuple[list[Column[T]], list[Column[T]]]:
    """The columns that fit, and those that had to go, in their order."""
    kept = [column for column in columns if not column.drop]
    for column in sorted(columns, key=lambda column: column.drop):
        if column.drop and sum(width_of(one, lines) + len(GAP) for one in (*kept, column)) - len(GAP) <= width:
            kept.append(column)
    return [one for one in columns if one in kept], [one for one in columns if one not in kept]


def width_of(column: Column[T], lines: Sequence[T]) -> int:
    """What the longest text of the column takes."""
    return max((len(column.title), *(len(column.show(line)) for line in lines)))


def joined(texts: Sequence[str], columns: Sequence[Column[T]], widths: Sequence[int]) -> str:
    """Texts in their columns; there may be fewer of them than columns."""
    cells = [
        text.ljust(width) if column.left else text.rjust(width)
        for text, column, width in zip(texts, columns, widths, strict=False)
    ]
    return GAP.join(cells)
