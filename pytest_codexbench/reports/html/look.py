"""How systems look and where cells are: the same everywhere in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_codexbench.matrix import Block, Cell
from pytest_codexbench.reports.comparisons import Comparison
from pytest_codexbench.reports.html.markup import Content, Markup, element
from pytest_codexbench.reports.html.plot import swatch
from pytest_codexbench.reports.outcomes import Outcome, by_block
from pytest_codexbench.reports.told import Told


@dataclass(frozen=True, slots=True)
class Look:
    """A run with what its page needs of it: blocks in order, comparisons by subject, each system's style, anchors."""

    told: Told
    blocks: Mapping[Block, Sequence[Outcome]]
    compared: Mapping[Cell, Comparison]
    references: frozenset[Cell]
    styles: Mapping[str, int]
    anchors: Mapping[Cell, str]

    def of_kind(self, kind: str) -> dict[Block, Sequence[Outcome]]:
        """The blocks of one experiment that were measured."""
        return {block: group for block, group in self.blocks.items() if block.kind == kind}

    def system(self, name: str) -> Markup:
        """A system's name behind a piece of its line."""
        return element("span", swatch(self.styles[name]), name, class_="system")

    def link(self, cell: Cell, *content: Content, label: str | None = None) -> Markup:
        """A link to the section of a cell; ``label`` says in words what a sign means."""
        return element("a", *content, href=f"#{self.anchors[cell]}", aria_label=label)


def look_at(told: Told) -> Look:
    """Give every system its style and every cell its place."""
    anchors: dict[Cell, str] = {}
    for outcome in told.measured:
        name = f"cell-{outcome.cell}"
        # two cells of one id differ in their settings
        anchors[outcome.cell] = f"{name}-{outcome.cell.key}" if name in anchors.values() else name
    return Look(
        told=told,
        blocks=by_block(told.measured),
        compared=told.by_subject,
        references=frozenset(comparison.reference for comparison in told.compared),
        styles={system: style for style, system in enumerate(told.systems)},
        anchors=anchors,
    )


def anchor(block: Block) -> str:
    """The id of a block's section."""
    return f"block-{block}"
