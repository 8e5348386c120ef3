"""A page of HTML as a browser sees it, and stricter: what is opened is closed, and in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})


@dataclass
class Element:
    """One element: its tag, its attributes, its text and elements in order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    inside: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All the text in it."""
        return "".join(each if isinstance(each, str) else each.text for each in self.inside)

    def all(self, tag: str = "", **attributes: str) -> Iterator[Element]:
        """Every element in it, in order; of this tag and with these attributes, if any are given."""
        for each in self.inside:
            if isinstance(each, Element):
                wanted = {name.rstrip("_"): value for name, value in attributes.items()}
                if tag in ("", each.tag) and wanted.items() <= each.attributes.items():
                    yield each
                yield from each.all(tag, **attributes)

    def one(self, tag: str, **attributes: str) -> Element:
        """The only element that fits."""
        (found,) = self.all(tag, **attributes)
        return found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {self.get_starttag_text()}"
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open[-1].tag, f"</{tag}> inside <{self.open[-1].tag}>, at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parsed(page: str) -> Element:
    """The page's elements; anything that is not well-formed is an error."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert [builder.root] == builder.open, f"never closed: {[each.tag for each in builder.open[1:]]}"
    return builder.root
