"""The words of the one comment that an issue gets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_codexbench.forecast import bytes_text, duration_text
from pytest_codexbench.issues.body import Refused
from pytest_codexbench.issues.request import Request
from pytest_codexbench.issues.state import (
    APPROVE,
    APPROVED,
    CLOSED,
    DONE,
    EDITED,
    FAILED,
    NOT_OPEN,
    PLANNED,
    REFUSED,
    SOON,
    STRANGER,
    UNREADABLE,
    UNSEEN,
    WITHDRAWN,
    Approval,
    State,
)
from pytest_codexbench.matrix import EXPERIMENTS, rate_text, size_text
from pytest_codexbench.records import Story
from pytest_codexbench.reports.wording import count

# GitHub refuses a comment of more than 65536 letters; a table of 60 cells needs a sixth of that.
MOST_LETTERS = 60_000
RESULTS = "<!-- codexbench-results -->"
"""The line from which on a comment tells what was measured; an edit of the issue leaves that part as it is."""

TITLES: Mapping[str, str] = {
    PLANNED: "waits for approval",
    REFUSED: "cannot be run as it is written",
    APPROVED: "approved",
    DONE: "measured",
    FAILED: "ended with failures",
}
NOTES: Mapping[str, str] = {
    EDITED: "{who} edited the issue after its approval, which no longer holds. What is planned now is below.",
    WITHDRAWN: "{who} took the approval back.",
    CLOSED: "The issue was closed by {who}: the approval no longer holds.",
    STRANGER: "{who} may not approve: the label was taken off, and nothing was started.",
    UNSEEN: (
        "The issue had changed when {who} approved it: nothing was started. "
        "Look at the plan below, then set the label again."
    ),
    SOON: (
        "The plan was not yet there, or had just changed, when {who} approved it: nothing was started. "
        "Look at it, then set the label again."
    ),
    NOT_OPEN: "{who} approved a closed issue: nothing was started. Open it again first.",
    UNREADABLE: "{who} approved what cannot be run: nothing was started.",
}


@dataclass(frozen=True, slots=True)
class Links:
    """Where the runs of the workflow are: ``repository`` is the URL of the repository's page."""

    repository: str

    def run(self, number: int) -> str:
        """A link to one run, as Markdown."""
        return f"[run {number}]({self.repository}/actions/runs/{number})"


def compose(state: State, told: Request | Refused, links: Links, results: str = "") -> str:
    """The comment, marker and all. ``results`` is what ``measured`` made, of this text or of an earlier one."""
    lines = [state.mark(), f"### Benchmark: {TITLES[state.stage]}", "", *_news(state, links)]
    if isinstance(told, Refused):
        lines += ["Nothing of this issue can be run, because:", "", *(f"- {problem}" for problem in told.problems), ""]
        lines += ["Edit the issue; this comment follows.", ""]
    else:
        lines += [*_plan(told), ""]
    if state.stage == PLANNED:
        lines += [
            f"Nothing runs yet. A maintainer lets it run with the label `{APPROVE}`; an edit after that takes it back.",
            "",
        ]
    lines += [f"<sub>Of the text with the hash `{state.sha[:12]}`.</sub>", ""]
    page = "\n".join(lines)
    return f"{page}\n{results}" if results else page


def _news(state: State, links: Links) -> Iterator[str]:
    who = f"`{state.who}`" if state.who else "Somebody"
    if state.note:
        yield from (f"> {NOTES[state.note].format(who=who)}", "")
    for approval in state.going:
        yield (
            f"The {links.run(approval.run)} of the text `{approval.sha[:12]}`, which `{approval.by}` had approved, "
            "does not begin if it still waits for its machine; if it has begun, it goes on to its end. Its page can "
            "cancel it."
        )
        yield ""
    if state.approval is not None and state.stage in (APPROVED, DONE, FAILED):
        run, by = links.run(state.approval.run), f"`{state.approval.by}`"
        news = {
            APPROVED: f"Approved by {by}. The {run} measures it, or waits for its machine; results come here.",
            DONE: f"Approved by {by}, measured by the {run}. To measure it again, set the label `{APPROVE}` again.",
            FAILED: f"Approved by {by}. The {run} failed, or some cells did; what was measured is below. "
            f"To measure it again, set the label `{APPROVE}` again.",
        }
        yield from (news[state.stage], "")


def _plan(request: Request) -> Iterator[str]:
    """What would run with its cost: two tables of figures and known names, no word of the issue."""
    matrix, cost = request.matrix, request.cost()
    cells = [len([cell for cell in request.cells if cell.kind == kind]) for kind in EXPERIMENTS]
    shapes = ", ".join(f"{nodes} with {seeders}" for nodes, seeders in matrix.pairs)
    dropped = f"; {count(matrix.dropped, 'pair')} without a leecher left out" if matrix.dropped else ""
    rows = {
        "systems": ", ".join(f"`{variant.name}`" for variant in matrix.variants),
        "nodes, with seeders among them": shapes + dropped,
        "sizes": ", ".join(size_text(size) for size in matrix.sizes),
        "limit of each node's link": ", ".join(rate_text(link) or "none" for link in matrix.links),
        "rounds": f"{matrix.rounds} a cell",
        "**cells**": f"{cells[0]} downloads and {cells[1]} uploads, {cost.rounds} rounds in all",
        "**bytes over the links**": bytes_text(cost.moved),
        "**disk, memory**": f"{bytes_text(cost.disk)}, {bytes_text(cost.memory)} at the most at one time",
        "**time**": f"about {duration_text(cost.seconds)}, by built-in rates: a slow machine takes longer",
    }
    yield from ("| plan | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def kept_results(comment: str) -> str:
    """The part of a comment that tells what was measured; empty where nothing was."""
    at = comment.replace("\r\n", "\n").find(f"\n{RESULTS}\n")
    return comment.replace("\r\n", "\n")[at + 1 :] if at >= 0 else ""


def measured(approval: Approval, links: Links, story: Story | None, run: Mapping[str, Any], report: str) -> str:
    """What a run found: its table, and where its report is. ``report`` is a URL, or empty."""
    from pytest_codexbench.reports.markdown import tables
    from pytest_codexbench.reports.told import tell

    lines = [RESULTS, f"### Results of the text `{approval.sha[:12]}`", ""]
    if report:
        where = (
            f"The [report, the raw records and the logs]({report}) are an artifact of the {links.run(approval.run)}."
        )
        lines += [where, ""]
    else:
        lines += [f"No report was handed over; the {links.run(approval.run)} tells why.", ""]
    if story is not None:
        lines += [f"##{line}" if line.startswith("#") else line for line in map(harmless, tables(tell(story, run)))]
    return _cut("\n".join(lines).rstrip("\n") + "\n")


def harmless(text: str) -> str:
    """Text that calls nobody, links to nothing and opens no tag, whatever a log said: tables stay tables."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    text = re.sub(r"@(?=[A-Za-z0-9])", "@\u200b", text)
    text = re.sub(r"#(?=[0-9])", "#\u200b", text)
    text = re.sub(r"\b(GH)-(?=[0-9])", "\\1-\u200b", text, flags=re.IGNORECASE)
    text = text.replace("://", ":\u200b//").replace("](", "]\u200b(").replace("][", "]\u200b[")
    return re.sub(r"\bwww\.", "www\u200b.", text, flags=re.IGNORECASE)


def _cut(page: str) -> str:
    """Whole lines that fit into a comment."""
    if len(page) <= MOST_LETTERS:
        return page
    head = page[:MOST_LETTERS]
    return head[: head.rindex("\n")] + "\n\nCut here: the rest is in the report.\n"
