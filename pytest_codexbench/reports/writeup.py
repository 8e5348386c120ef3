"""The run in words: what was found, what that cannot say, then the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_codexbench.reports.findings import findings, limits, title
from pytest_codexbench.reports.markdown import cut, inline, tables
from pytest_codexbench.reports.told import Told


def document(told: Told) -> str:
    """The text of ``report.md``, less than 1 MiB like the tables alone."""
    lines = [f"# {inline(title(told))}", ""]
    lines += _list("Findings", findings(told))
    lines += _list("What these numbers cannot say", limits(told))
    lines += _repeating(told)
    lines += tables(told)
    return cut("\n".join(lines) + "\n")


def _list(heading: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    return [f"## {heading}", "", *(f"- {inline(sentence)}" for sentence in sentences), ""]


def _repeating(told: Told) -> Iterator[str]:
    """The command that measures the same again."""
    command = told.run.get("command")
    if isinstance(command, str) and "\n" not in command and "```" not in command:
        yield from ("## How to repeat it", "", "```console", f"$ {command}", "```", "")
