"""Where a request stands, as a marker that its comment carries, with what each event makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

ASKED, APPROVE = "benchmark", "benchmark-approved"
"""The label that the form sets, and the one that lets it run."""

PLANNED, REFUSED, APPROVED, DONE, FAILED = "planned", "refused", "approved", "done", "failed"
STAGES = (PLANNED, REFUSED, APPROVED, DONE, FAILED)
VOID = "void"
"""How a run ends that found its approval gone before it began; ``DONE`` and ``FAILED`` are the others."""

EDITED, WITHDRAWN, CLOSED, STRANGER, UNSEEN, SOON, NOT_OPEN, UNREADABLE = (
    "edited",
    "withdrawn",
    "closed",
    "stranger",
    "unseen",
    "soon",
    "not-open",
    "unreadable",
)
NOTES = ("", EDITED, WITHDRAWN, CLOSED, STRANGER, UNSEEN, SOON, NOT_OPEN, UNREADABLE)
# Who approves has seen the plan: it was there this long before the label.
LOOK_S = 10.0
MOST_GOING = 5

MARK = re.compile(r"<!-- codexbench:(\{[^\n]{1,4000}\}) -->")
SHA = re.compile("[0-9a-f]{64}")
LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\[bot\])?")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody let the text with this hash run: who, when, and in which run of the workflow."""

    sha: str
    by: str
    at: str
    run: int

    def __post_init__(self) -> None:
        if not SHA.fullmatch(self.sha) or not LOGIN.fullmatch(self.by) or not TIME.fullmatch(self.at) or self.run < 1:
            raise ValueError(f"no approval: {self}")


@dataclass(frozen=True, slots=True)
class State:
    """All that is remembered between two events. ``sha`` is of the text that the comment's plan is of.

    ``approval`` is that of the run that goes, or of the last one of this text; ``going`` are those of runs that lost
    it and may go on. ``labelled_at`` is when the last label that was judged had been set, ``note`` what happened last
    and ``who`` did it.
    """

    issue: int
    stage: str
    sha: str
    approval: Approval | None = None
    going: tuple[Approval, ...] = ()
    labelled_at: str = ""
    note: str = ""
    who: str = ""

    def __post_init__(self) -> None:
        right = (
            self.issue >= 1
            and self.stage in STAGES
            and SHA.fullmatch(self.sha)
            and (self.approval is not None or self.stage not in (APPROVED, DONE, FAILED))
            and (not self.labelled_at or TIME.fullmatch(self.labelled_at))
            and self.note in NOTES
            and (not self.who or LOGIN.fullmatch(self.who))
        )
        if not right:
            raise ValueError(f"no state: {self}")

    def mark(self) -> str:
        """The marker: the first line of the comment, which nobody sees."""
        told = json.dumps(
            {
                "v": 1,
                "issue": self.issue,
                "stage": self.stage,
                "sha": self.sha,
                "approval": _plain(self.approval),
                "going": [_plain(each) for each in self.going],
                "labelled_at": self.labelled_at,
                "note": self.note,
                "who": self.who,
            },
            separators=(",", ":"),
        )
        # two hyphens, or an angle bracket, would end the comment that hides it
        for letter in "-<>":
            told = told.replace(letter, f"\\u{ord(letter):04x}")
        return f"<!-- codexbench:{told} -->"


def _plain(approval: Approval | None) -> dict[str, Any] | None:
    if approval is None:
        return None
    return {"sha": approval.sha, "by": approval.by, "at": approval.at, "run": approval.run}


def marked(comment: str, issue: int) -> State | None:
    """The state in a comment on that issue; None unless it begins with a marker that is right in every part."""
    match = MARK.match(comment)
    if match is None:
        return None
    try:
        told = json.loads(match[1])
        if told["v"] != 1 or told["issue"] != issue or isinstance(told["issue"], bool):
            return None
        return State(
            issue=issue,
            stage=told["stage"],
            sha=told["sha"],
            approval=_approval(told["approval"]),
            going=tuple(filter(None, map(_approval, told["going"])))[:MOST_GOING],
            labelled_at=told["labelled_at"],
            note=told["note"],
            who=told["who"],
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _approval(told: Mapping[str, Any] | None) -> Approval | None:
    if told is None:
        return None
    if not isinstance(told["run"], int) or isinstance(told["run"], bool):
        raise TypeError("run")
    return Approval(told["sha"], told["by"], told["at"], told["run"])


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to the issue: ``action`` and ``label`` in GitHub's words, ``sha`` of the text as it was then.

    ``allowed`` says that whoever did it may approve; ``run`` is the run of the workflow that handles it.
    """

    action: str
    by: str
    at: str
    sha: str
    run: int
    label: str = ""
    allowed: bool = False

    @property
    def approves(self) -> bool:
        """Whether it is the label that lets a request run, being set."""
        return self.action == "labeled" and self.label == APPROVE


@dataclass(frozen=True, slots=True)
class Now:
    """The issue as it is while the event is handled, which may be later: other events may have come in between.

    ``valid`` says that its text asks for something that can be run, ``labelled`` that ``APPROVE`` is on it, and
    ``shown_at`` when its comment was written last.
    """

    issue: int
    sha: str
    valid: bool
    labelled: bool = False
    open: bool = True
    shown_at: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows: the state from now on (None: nothing is known of the issue), whether ``APPROVE`` comes off.

    ``start`` says that a run begins, by the state's approval.
    """

    state: State | None
    unlabel: bool = False
    start: bool = False


def decide(state: State | None, event: Event, now: Now) -> Decision:
    """What an event makes of a state. The same event a second time changes nothing.

    ``APPROVE`` stays on the issue as long as the run goes that it let begin, and no longer.
    """
    if event.approves:
        after = _labelled(state, event, now)
    elif event.action == "closed" or (event.action == "unlabeled" and event.label in (ASKED, APPROVE)):
        after = _withdrawn(state, event, now)
    elif event.action in ("opened", "edited", "reopened") or (event.action == "labeled" and event.label == ASKED):
        after = _planned(state, event, now)
    else:
        return Decision(state)
    if after is None:
        return Decision(None)
    # a label whose own event is still to come is left alone
    stale = now.labelled and after.stage != APPROVED and after != state
    return Decision(after, unlabel=stale, start=after.stage == APPROVED and after != state)


def _planned(state: State | None, event: Event, now: Now) -> State:
    """The plan is of the text as it is now; a run of another text loses its approval."""
    stage = PLANNED if now.valid else REFUSED
    if state is None:
        return State(now.issue, stage, now.sha)
    if state.sha == now.sha:
        if state.stage == APPROVED and not now.labelled:
            # the event that said so was lost
            return _lost(state, WITHDRAWN, event)
        # the limits may be others than they were
        return replace(state, stage=stage) if state.stage in (PLANNED, REFUSED) else state
    lost = _lost(state, EDITED, event)
    return replace(lost, stage=stage, sha=now.sha, approval=None)


def _lost(state: State, note: str, event: Event) -> State:
    """The same without its approval, if that was for a run that goes or waits."""
    if state.stage != APPROVED or state.approval is None:
        return replace(state, note="", who="")
    going = (*state.going, state.approval)[-MOST_GOING:]
    return replace(state, stage=PLANNED, approval=None, going=going, note=note, who=event.by)


def _withdrawn(state: State | None, event: Event, now: Now) -> State | None:
    """Who takes the label off, or closes the issue, needs no right that GitHub did not ask for."""
    if state is None or state.stage != APPROVED or state.approval is None or event.at < state.approval.at:
        return state
    note = CLOSED if event.action == "closed" else WITHDRAWN
    lost = _lost(state, note, event)
    return lost if state.sha == now.sha else _planned(lost, event, now)


def _labelled(state: State | None, event: Event, now: Now) -> State | None:
    if state is not None and event.at <= state.labelled_at:
        return state
    base = _planned(state, event, now)
    if base.stage == APPROVED:
        return base
    if note := _why_not(state, base, event, now):
        return replace(base, note=note, who=event.by, labelled_at=event.at)
    if not now.labelled:
        # taken off before this was looked at
        return replace(base, labelled_at=event.at)
    approval = Approval(now.sha, event.by, event.at, event.run)
    return replace(base, stage=APPROVED, approval=approval, labelled_at=event.at, note="", who="")


def _why_not(state: State | None, base: State, event: Event, now: Now) -> str:
    """Why a label does not count; empty if it does."""
    if not event.allowed:
        return STRANGER
    if not now.open:
        return NOT_OPEN
    if base.stage == REFUSED:
        return UNREADABLE
    if state is None or not state.sha == event.sha == now.sha:
        return UNSEEN
    if now.shown_at is None or _seconds(now.shown_at, event.at) < LOOK_S:
        return SOON
    return ""


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def stands(state: State | None, approval: Approval, sha_now: str) -> bool:
    """Whether a run that waited for its machine may begin: it is still what the comment says, and what the text is."""
    return state is not None and state.stage == APPROVED and state.approval == approval and approval.sha == sha_now


def finish(state: State | None, approval: Approval, how: str, now: Now) -> State:
    """What the end of a run makes of a state: ``how`` is ``DONE``, ``FAILED`` or ``VOID``."""
    if state is None:
        # the comment was deleted: what was measured is told all the same
        state = State(now.issue, FAILED if how == VOID else how, approval.sha, approval)
    elif state.stage == APPROVED and state.approval == approval:
        if how == VOID:
            going = tuple(each for each in state.going if each.run != approval.run)
            return replace(state, stage=PLANNED if now.valid else REFUSED, sha=now.sha, approval=None, going=going)
        state = replace(state, stage=how, note="", who="")
    return replace(state, going=tuple(each for each in state.going if each.run != approval.run))
