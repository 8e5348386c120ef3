"""Pieces of a page, in which every text is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from pytest_codexbench.reports.wording import COLOURS, CONTROL


class Markup(str):
    """A piece of a page that is well-formed: what came from elsewhere is escaped in it."""

    __slots__ = ()


Content = str | None | Iterable[str | None]
"""What may stand inside an element: markup as it is, any other text escaped, nothing, or several of these."""

VOID = frozenset({"br", "col", "meta"})


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """One element. A trailing ``_`` of an attribute is dropped and others are ``-``; None and False leave it out."""
    start = "".join([name, *(_attribute(key, value) for key, value in attributes.items())])
    return Markup(f"<{start}>" if name in VOID else f"<{start}>{joined(*content)}</{name}>")


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(plain(value))}"'


def joined(*content: Content) -> Markup:
    """All of it in a row."""
    return Markup("".join(_pieces(content)))


def _pieces(content: Iterable[Content]) -> Iterable[Markup]:
    for each in content:
        for piece in (each,) if isinstance(each, str | None) else each:
            if piece is not None:
                yield piece if isinstance(piece, Markup) else escaped(piece)


def escaped(text: str) -> Markup:
    """Text as it can stand anywhere in a page: no tags, no control characters, no colours of a terminal."""
    clean = CONTROL.sub("", COLOURS.sub("", text))
    # a lone half of a surrogate pair can be in no file
    return Markup(html.escape(clean.encode("utf-8", "replace").decode()))


def plain(value: str | float) -> str:
    """A number as SVG and CSS take it, without digits that no screen can show."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
