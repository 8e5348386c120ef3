"""Does what an event, or the end of a run, asks for: reads the issue, decides, writes its one comment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.issues.body import Refused, digest, read
from pytest_codexbench.issues.comment import Links, compose, kept_results, measured
from pytest_codexbench.issues.github import ROLES, GitHub
from pytest_codexbench.issues.request import Limits, Request, from_json
from pytest_codexbench.issues.state import (
    APPROVE,
    APPROVED,
    LOGIN,
    TIME,
    VOID,
    Approval,
    Decision,
    Event,
    Now,
    State,
    decide,
    finish,
    marked,
    stands,
)
from pytest_codexbench.records import JOURNAL, Story, read_journal
from pytest_codexbench.run import PROVENANCE, read_provenance

MOST_EVENT = 8 << 20
# The account that left the platform.
NOBODY = "ghost"
TRIES = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """Whose comments are trusted, who may approve (the least of GitHub's roles), and what may be asked for."""

    hub: GitHub
    links: Links
    limits: Limits
    bot: str = "github-actions[bot]"
    least: str = "write"

    def __post_init__(self) -> None:
        if self.least not in ROLES[2:]:
            raise WrongInput(f"who may approve: {self.least!r} is no role; there are: {', '.join(ROLES[2:])}")

    def may(self, login: str) -> bool:
        """Whether somebody may approve."""
        return ROLES.index(self.hub.role(login)) >= ROLES.index(self.least)


@dataclass(frozen=True, slots=True)
class Order:
    """A run that may begin: what it measures, and by whose approval."""

    request: Request
    approval: Approval

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``read_order`` reads it."""
        approval = self.approval
        told = {"sha": approval.sha, "by": approval.by, "at": approval.at, "run": approval.run}
        return {"request": self.request.to_json(), "approval": told}


def read_order(path: Path, limits: Limits) -> Order:
    """What ``codexbench issue event`` handed over.

    Raises:
        WrongInput: if it is none, or no longer within the limits.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        approval = Approval(**told["approval"])
        order = Order(from_json(told["request"], limits), approval)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WrongInput(f"order {path}: {type(error).__name__}: {error}") from error
    if order.request.sha != approval.sha or order.request.issue < 1:
        raise WrongInput(f"order {path}: the approval is of another text than the request")
    return order


@dataclass(frozen=True, slots=True)
class _Found:
    """The issue with its comment, as they are now. ``told`` is what the text asks for."""

    now: Now
    told: Request | Refused
    comment: int | None
    text: str
    state: State | None


def _find(desk: Desk, number: int) -> _Found:
    """Look at the issue: its text, its labels, and the oldest comment of the bot that begins with a marker."""
    issue = desk.hub.issue(number)
    body = str(issue.get("body") or "")
    told = _told(body, number, desk.limits)
    comment, text, state, shown_at = None, "", None, None
    for each in desk.hub.comments(number):
        if state is None and (each.get("user") or {}).get("login") == desk.bot:
            state = marked(str(each.get("body") or ""), number)
            if state is not None:
                comment, text, shown_at = int(each["id"]), str(each["body"]), str(each["updated_at"])
    now = Now(
        issue=number,
        sha=digest(body),
        valid=isinstance(told, Request),
        labelled=APPROVE in _labels(issue),
        open=issue.get("state") == "open",
        shown_at=shown_at,
    )
    return _Found(now, told, comment, text, state)


def _told(body: str, number: int, limits: Limits) -> Request | Refused:
    try:
        return read(body, number, limits)
    except Refused as refused:
        return refused


def _labels(issue: Mapping[str, Any]) -> set[str]:
    return {str(label.get("name")) for label in issue.get("labels") or () if isinstance(label, dict)}


def read_event(path: Path, name: str, bot: str) -> dict[str, Any] | str:
    """The event in a file, or in words why it is none of ours.

    Raises:
        WrongInput: if that file is not what GitHub writes.
    """
    try:
        if path.stat().st_size > MOST_EVENT:
            raise WrongInput(f"event {path}: more than {MOST_EVENT} bytes")
        event = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WrongInput(f"event {path}: {error}") from error
    if name != "issues":
        return f"an event of {name!r}, not of an issue"
    if not isinstance(event, dict) or not isinstance(issue := event.get("issue"), dict):
        raise WrongInput(f"event {path}: no issue in it")
    if not isinstance(issue.get("number"), int) or not isinstance(event.get("action"), str):
        raise WrongInput(f"event {path}: no number or no action in it")
    if "pull_request" in issue:
        return "a pull request"
    if (event.get("sender") or {}).get("login") == bot:
        return "what this very program did"
    return event


def handle(desk: Desk, told: Mapping[str, Any], run: int) -> tuple[str, Order | None]:
    """Do what an event asks for: in words what was done, and the order if a run may begin.

    Raises:
        GitHubError: if GitHub could not be asked, or did not do its part.
    """
    number = int(told["issue"]["number"])
    found = _find(desk, number)
    event = _event(desk, told, run, found.state)
    decision = decide(found.state, event, found.now)
    state = decision.state
    if state is None:
        return f"issue {number}: nothing to do for {event.action}", None
    if decision.start and not _claimed(desk, found):
        return f"issue {number}: another event has let this begin", None
    words = f"issue {number}: {state.stage}" + (f" ({state.note})" if state.note else "")
    _write(desk, found, state, found.told)
    _settle(desk, found, decision, event)
    if decision.start and isinstance(found.told, Request) and state.approval is not None:
        return f"{words}, by {state.approval.by}", Order(found.told, state.approval)
    return words, None


def _claimed(desk: Desk, found: _Found) -> bool:
    """Whether this event, and no other one at the same time, lets the run begin."""
    if found.comment is None or not desk.hub.claim(found.comment):
        return False
    again = _find(desk, found.now.issue)
    if again.state == found.state and again.now.sha == found.now.sha:
        return True
    # between the look and the claim another one began, and ended; or the text changed, and its own event decides
    if again.state is None or again.state.stage != APPROVED:
        desk.hub.release(found.comment)
    return False


def _event(desk: Desk, told: Mapping[str, Any], run: int, state: State | None) -> Event:
    """The event in our words; only of a label that approves it matters who set it, so only then GitHub is asked."""
    issue = told["issue"]
    by = str((told.get("sender") or {}).get("login") or "")
    by = by if LOGIN.fullmatch(by) else NOBODY
    at = str(issue.get("updated_at") or "")
    if not TIME.fullmatch(at):
        raise WrongInput(f"event: updated_at = {at!r:.40} is no moment")
    label = str((told.get("label") or {}).get("name") or "")
    event = Event(str(told["action"]), by, at, digest(str(issue.get("body") or "")), run, label)
    if event.approves and not (state is not None and at <= state.labelled_at) and by != NOBODY:
        return Event(event.action, by, at, event.sha, run, label, allowed=desk.may(by))
    return event


def _write(desk: Desk, found: _Found, state: State, told: Request | Refused, results: str = "") -> None:
    """The comment says what is; GitHub is not asked to write what is there."""
    text = compose(state, told, desk.links, results or kept_results(found.text))
    if found.comment is not None:
        if text.strip() != found.text.replace("\r\n", "\n").strip():
            desk.hub.write_comment(found.comment, text)
        return
    mine = int(desk.hub.add_comment(state.issue, text)["id"])
    # two events at once may both have found none: the oldest one stays
    first = _find(desk, state.issue).comment
    if first is not None and first != mine:
        desk.hub.remove_comment(mine)


def _settle(desk: Desk, found: _Found, decision: Decision, event: Event) -> None:
    """The label and the claim are there as long as a run has an approval."""
    if decision.unlabel:
        desk.hub.unlabel(found.now.issue, APPROVE)
    running = decision.state is not None and decision.state.stage == APPROVED
    was = found.state is not None and found.state.stage == APPROVED
    taken_off = event.action == "unlabeled" and event.label == APPROVE
    if not running and found.comment is not None and (was or taken_off):
        desk.hub.release(found.comment)


def approved(desk: Desk, order: Order) -> bool:
    """Whether the run may begin now: it may have waited for its machine for hours."""
    found = _find(desk, order.request.issue)
    return stands(found.state, order.approval, found.now.sha)


def conclude(desk: Desk, order: Order, how: str, results: Path | None, report: str) -> str:
    """Tell how a run ended, with what it measured: in words what was done."""
    number = order.request.issue
    story, run = _measured(results)
    text = measured(order.approval, desk.links, story, run, report) if how != VOID else ""
    state = None
    for _ in range(TRIES):
        found = _find(desk, number)
        if found.state is not None and found.state == state:
            break
        # an event that was handled at the same time may have written over it
        state = finish(found.state, order.approval, how, found.now)
        same = found.now.sha == state.sha and isinstance(found.told, Request)
        told = found.told if same or state.sha != order.request.sha else order.request
        _write(desk, found, state, told, text)
        if state.stage != APPROVED:
            if found.now.labelled:
                desk.hub.unlabel(number, APPROVE)
            if found.comment is not None:
                desk.hub.release(found.comment)
    return f"issue {number}: {state.stage if state else 'unknown'}, {len(story.rounds) if story else 0} rounds"


def _measured(results: Path | None) -> tuple[Story | None, dict[str, Any]]:
    """The latest run below a folder; nothing if there is none."""
    journals = sorted(results.rglob(JOURNAL)) if results is not None and results.is_dir() else []
    if not journals:
        return None, {}
    folder = journals[-1].parent
    try:
        run = read_provenance(folder) if (folder / PROVENANCE).is_file() else {}
    except WrongInput:
        run = {}
    return read_journal(folder / JOURNAL), run
