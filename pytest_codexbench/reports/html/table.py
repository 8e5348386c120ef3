"""Tables that scroll by themselves where a screen is narrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pytest_codexbench.reports.html.markup import Content, Markup, element, joined
from pytest_codexbench.reports.wording import NOTHING, number, scaled, spread
from pytest_codexbench.stats import Interval

T = TypeVar("T")

# A longer table is folded.
MOST_OPEN = 60


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column: its title, what stands in it, and whether that is words, which are set to the left."""

    title: str
    show: Callable[[T], Content]
    words: bool = False


def table(caption: Content, columns: Sequence[Column[T]], groups: Mapping[Markup | None, Sequence[T]]) -> Markup:
    """A table of rows below their group's heading, if it has one; a column with nothing to show is left out.

    The first column is the heading of its row.
    """
    rows = [row for group in groups.values() for row in group]
    kept = [column for column in columns if any(column.show(row) not in (None, "", NOTHING) for row in rows)]
    head = element("tr", [element("th", column.title, scope="col", class_=_side(column)) for column in kept])
    bodies = [
        element(
            "tbody",
            element("tr", element("th", heading, colspan=len(kept), scope="rowgroup", class_="group"))
            if heading
            else None,
            [_row(row, kept) for row in group],
        )
        for heading, group in groups.items()
        if group
    ]
    whole = element("table", element("caption", caption), element("thead", head), bodies)
    if len(rows) <= MOST_OPEN:
        return scrolling(whole)
    return element("details", element("summary", f"A table of {len(rows)} rows"), scrolling(whole), class_="long")


def _row(row: T, columns: Sequence[Column[T]]) -> Markup:
    first, *others = columns
    return element(
        "tr",
        element("th", first.show(row), scope="row"),
        [element("td", column.show(row), class_=_side(column)) for column in others],
    )


def _side(column: Column[T]) -> str | None:
    return "words" if column.words else None


def scrolling(content: Markup) -> Markup:
    """Scrolls to the side by itself; with the keyboard too."""
    return element("div", content, class_="scroll", tabindex=0)


def figure(value: float | None, text: str | None = None) -> Markup:
    """A number as people read it, with all of it for a program."""
    shown = number(value) if text is None else text
    known = value is not None and math.isfinite(value)
    return element("data", shown, value=repr(value)) if known else joined(shown)


def measured(interval: Interval | None, scale: float = 1) -> Markup | None:
    """A median with its interval or range."""
    if interval is None:
        return None
    shown = scaled(interval, scale)
    return joined(figure(interval.median, number(shown.median)), " ", element("small", spread(shown)))
