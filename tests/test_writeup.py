"""The run in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import stories
from stories import MB, STORIES, cell, round_of, story

from pytest_codexbench.records import Note
from pytest_codexbench.reports import markdown, writeup
from pytest_codexbench.reports.findings import findings, limits
from pytest_codexbench.reports.told import tell

each_story = pytest.mark.parametrize("name", STORIES)


@each_story
def test_findings_come_first(name: str) -> None:
    """The question, what was found, what that cannot say, how to repeat it, then the tables."""
    told = tell(*STORIES[name]())

    page = writeup.document(told)

    headings = [line for line in page.splitlines() if line.startswith(("# ", "## "))]
    expected = ["# ", "## Findings"]
    expected += ["## What these numbers cannot say"] if limits(told) else []
    expected += ["## How to repeat it"] if told.run.get("command") else []
    assert [*expected, "## codexbench"] == [
        heading[: len(want)] for heading, want in zip(headings, [*expected, "## codexbench"], strict=True)
    ]


@each_story
def test_it_says_all_of_the_findings_and_the_tables(name: str) -> None:
    """Every finding and limit is an item; below are the step summary's tables as they are."""
    told = tell(*STORIES[name]())

    page = writeup.document(told)

    for sentence in (*findings(told), *limits(told)):
        assert f"\n- {markdown.inline(sentence)}\n" in page
    assert page.endswith(markdown.step_summary(*STORIES[name]()))


def test_the_command_can_be_copied() -> None:
    """How to repeat the run stands as a command on a line of its own."""
    assert "```console\n$ pytest --matrix=smoke\n```\n" in writeup.document(tell(*stories.normal()))


@pytest.mark.parametrize("command", ["pytest ```", "a\nb", None, 7])
def test_a_command_that_is_none_is_left_out(command: object) -> None:
    """What could end the block, or is no command at all, does not stand there."""
    told, run = stories.normal()

    assert "## How to repeat it" not in writeup.document(tell(told, {**run, "command": command}))


def test_nothing_in_it_opens_a_tag_or_a_heading() -> None:
    """Errors and reasons are words, whatever is in them."""
    bad = round_of(cell(), 0, 1.0, error="<script>\n# heading\n- item | cell")
    note = Note("skipped", cell("codex"), "<img src=x>\n## heading")

    page = writeup.document(tell(story([bad], notes=[note]), {"id": "<b>\n# x"}))

    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert not any(line.startswith(("# heading", "## heading", "- item", "# x")) for line in page.splitlines())


def test_it_stays_below_a_mebibyte() -> None:
    """Many failed cells with long errors still make a page that every forge shows."""
    cells = [cell(size=size) for size in range(1, 1500)]
    bare = replace(round_of(cell(size=MB), 0, 1.0, error="x" * 2000), transfers=(), nodes={})

    page = writeup.document(tell(story([replace(bare, cell=each) for each in cells]), {}))

    assert len(page.encode()) < 1 << 20


def test_what_would_be_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is cut off at a line's end, and that is said."""
    monkeypatch.setattr(markdown, "MOST_BYTES", 600)

    page = writeup.document(tell(*stories.mixed()))

    assert len(page.encode()) < 700
    assert page.endswith("the rest is in results.json.\n")
