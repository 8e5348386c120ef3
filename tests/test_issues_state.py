"""Where a request stands after each event, and that nothing runs without an approval of what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_codexbench.issues.state import (
    APPROVE,
    APPROVED,
    ASKED,
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
    VOID,
    WITHDRAWN,
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

ONE, TWO = "1" * 64, "2" * 64


def at(second: int) -> str:
    """A moment."""
    return f"2026-11-26T12:{second // 60:02d}:{second % 60:02d}Z"


NOW = Now(issue=7, sha=ONE, valid=True, shown_at=at(0))
ON = replace(NOW, labelled=True)
PLAN = State(7, PLANNED, ONE)
BY_MONA = Approval(ONE, "mona", at(60), 100)
RUNS = State(7, APPROVED, ONE, BY_MONA, labelled_at=at(60))
OVER = replace(RUNS, stage=DONE)
LABEL = Event("labeled", "mona", at(60), ONE, 100, APPROVE, allowed=True)


def event(action: str, label: str = "", second: int = 90, by: str = "eve") -> Event:
    """Anything but an approval."""
    return Event(action, by, at(second), ONE, 101, label)


def test_an_issue_is_planned_once() -> None:
    """The form's label comes as an event of its own, right after the issue."""
    opened = decide(None, event("opened"), NOW)

    assert Decision(PLAN) == opened
    assert Decision(PLAN) == decide(PLAN, event("labeled", ASKED), NOW)
    assert Decision(PLAN) == decide(PLAN, event("opened"), NOW)


def test_a_label_of_somebody_who_may_lets_it_run() -> None:
    """The label stays on as long as the run goes."""
    assert Decision(RUNS, start=True) == decide(PLAN, LABEL, ON)


@pytest.mark.parametrize("before", [RUNS, OVER, replace(RUNS, stage=FAILED)])
def test_the_same_label_again_lets_nothing_run(before: State) -> None:
    """An event that GitHub delivers twice, or a workflow that is run again."""
    assert Decision(before) == decide(before, LABEL, replace(NOW, labelled=before == RUNS))


def test_a_later_label_lets_it_run_again() -> None:
    """Of what was measured already; while it runs, a label changes nothing."""
    later = replace(LABEL, at=at(900), run=200)

    assert Decision(RUNS) == decide(RUNS, later, ON)
    again = decide(OVER, later, replace(ON, shown_at=at(800)))
    assert again.start
    assert again.state is not None
    assert Approval(ONE, "mona", at(900), 200) == again.state.approval


@pytest.mark.parametrize(
    "before, label, now, note",
    [
        (PLAN, replace(LABEL, allowed=False), ON, STRANGER),
        (PLAN, LABEL, replace(ON, open=False), NOT_OPEN),
        (replace(PLAN, stage=REFUSED), LABEL, replace(ON, valid=False), UNREADABLE),
        (PLAN, LABEL, replace(ON, sha=TWO), UNSEEN),
        (PLAN, replace(LABEL, sha=TWO), ON, UNSEEN),
        (replace(PLAN, sha=TWO), LABEL, ON, UNSEEN),
        (None, LABEL, ON, UNSEEN),
        (PLAN, LABEL, replace(ON, shown_at=at(51)), SOON),
        (PLAN, LABEL, replace(ON, shown_at=at(70)), SOON),
        (PLAN, LABEL, replace(ON, shown_at=None), SOON),
    ],
)
def test_a_label_that_does_not_count_comes_off(before: State | None, label: Event, now: Now, note: str) -> None:
    """Nothing starts, and the comment says why; the same event again changes nothing more."""
    found = decide(before, label, now)

    assert not found.start
    assert found.unlabel
    assert found.state is not None
    assert (note, "mona") == (found.state.note, found.state.who)
    assert found.state.stage == (REFUSED if not now.valid else PLANNED)
    assert Decision(found.state) == decide(found.state, label, replace(now, labelled=False))


def test_a_label_that_was_taken_off_before_it_was_looked_at() -> None:
    """It counts no more."""
    assert Decision(replace(PLAN, labelled_at=at(60))) == decide(PLAN, LABEL, NOW)


@pytest.mark.parametrize("valid", [True, False])
def test_an_edit_takes_the_approval_back(valid: bool) -> None:
    """The run that goes is remembered as one of the earlier text."""
    found = decide(RUNS, replace(event("edited"), sha=TWO), replace(ON, sha=TWO, valid=valid))

    stage = PLANNED if valid else REFUSED
    expected = State(7, stage, TWO, going=(BY_MONA,), labelled_at=at(60), note=EDITED, who="eve")
    assert Decision(expected, unlabel=True) == found
    assert Decision(expected) == decide(expected, event("edited"), replace(NOW, sha=TWO, valid=valid))
    assert not stands(found.state, BY_MONA, TWO)


def test_an_edit_that_changes_nothing_changes_nothing() -> None:
    """Of the title, say, or back to the same text before it was looked at."""
    assert Decision(RUNS) == decide(RUNS, event("edited"), ON)
    assert Decision(OVER) == decide(OVER, event("edited"), NOW)


@pytest.mark.parametrize(
    "what, note",
    [
        (event("unlabeled", APPROVE), WITHDRAWN),
        (event("unlabeled", ASKED), WITHDRAWN),
        (event("closed"), CLOSED),
    ],
)
def test_an_approval_is_taken_back(what: Event, note: str) -> None:
    """By anybody who may take the label off, or close the issue; one of before it says nothing."""
    found = decide(RUNS, what, ON)

    lost = replace(RUNS, stage=PLANNED, approval=None, going=(BY_MONA,), note=note, who="eve")
    assert Decision(lost, unlabel=True) == found
    assert Decision(RUNS) == decide(RUNS, replace(what, at=at(59)), ON)
    assert Decision(lost) == decide(lost, what, NOW)


def test_a_label_that_is_gone_without_an_event_is_an_approval_taken_back() -> None:
    """Where three events come at once GitHub drops the one in the middle."""
    found = decide(RUNS, event("edited"), NOW)

    assert found.state is not None
    assert (PLANNED, WITHDRAWN) == (found.state.stage, found.state.note)


@pytest.mark.parametrize("before", [PLAN, OVER, replace(PLAN, stage=REFUSED)])
@pytest.mark.parametrize(
    "what",
    [
        event("closed"),
        event("reopened"),
        event("unlabeled", APPROVE),
        event("labeled", "bug"),
        event("unlabeled", "bug"),
        event("assigned"),
        event("created"),
        event("deleted"),
        event(""),
    ],
    ids=lambda what: f"{what.action}-{what.label}",
)
def test_what_changes_nothing(before: State, what: Event) -> None:
    """Closing and opening what does not run, other labels, comments, whatever GitHub will think of."""
    assert Decision(before) == decide(before, what, replace(NOW, valid=before.stage != REFUSED))


@pytest.mark.parametrize("what", ["closed", "unlabeled", "assigned"])
def test_an_issue_that_is_not_known_stays_so(what: str) -> None:
    """No comment is made to say that nothing was going on."""
    assert Decision(None) == decide(None, event(what, APPROVE), ON)


# --- the end of a run ---


@pytest.mark.parametrize("how", [DONE, FAILED])
def test_the_end_of_a_run(how: str) -> None:
    """Told once and told twice are the same."""
    over = finish(RUNS, BY_MONA, how, ON)

    assert replace(RUNS, stage=how) == over
    assert over == finish(over, BY_MONA, how, NOW)


def test_the_end_of_a_run_that_had_lost_its_approval() -> None:
    """It no longer goes; the plan is what it was, and still waits."""
    edited = State(7, PLANNED, TWO, going=(BY_MONA,), note=EDITED, who="eve")

    assert replace(edited, going=()) == finish(edited, BY_MONA, DONE, replace(NOW, sha=TWO))


def test_a_run_that_did_not_begin() -> None:
    """The text had changed, and its event is still to come."""
    assert State(7, PLANNED, TWO, labelled_at=at(60)) == finish(RUNS, BY_MONA, VOID, replace(ON, sha=TWO))


def test_the_end_of_a_run_whose_comment_was_deleted() -> None:
    """What was measured is told all the same."""
    assert State(7, DONE, ONE, BY_MONA) == finish(None, BY_MONA, DONE, NOW)


def test_an_end_of_another_run_changes_nothing() -> None:
    """An earlier one of the same text, told late."""
    assert RUNS == finish(RUNS, replace(BY_MONA, run=99, at=at(1)), FAILED, ON)


def test_an_approval_stands_as_long_as_all_agree() -> None:
    """The comment, the run, and the text as it is now."""
    assert stands(RUNS, BY_MONA, ONE)
    assert not stands(RUNS, BY_MONA, TWO)
    assert not stands(RUNS, replace(BY_MONA, run=101), ONE)
    assert not stands(OVER, BY_MONA, ONE)
    assert not stands(PLAN, BY_MONA, ONE)
    assert not stands(None, BY_MONA, ONE)


# --- any story ---

EVENTS = st.builds(
    Event,
    action=st.sampled_from(["opened", "edited", "labeled", "unlabeled", "closed", "reopened"]),
    by=st.sampled_from(["mona", "eve"]),
    at=st.integers(0, 3000).map(at),
    sha=st.sampled_from([ONE, TWO]),
    run=st.integers(1, 50),
    label=st.sampled_from(["", APPROVE, APPROVE, ASKED, "bug"]),
    allowed=st.booleans(),
)
NOWS = st.builds(
    Now,
    issue=st.just(7),
    sha=st.sampled_from([ONE, TWO]),
    valid=st.booleans(),
    labelled=st.booleans(),
    open=st.booleans(),
    shown_at=st.none() | st.integers(0, 3000).map(at),
)


@given(st.lists(st.tuples(EVENTS, NOWS), max_size=12))
def test_nothing_runs_without_an_approval_of_what_runs(story: list[tuple[Event, Now]]) -> None:
    """Whatever happens in whatever order: a run begins by a label of somebody who may, on a text that was shown."""
    state: State | None = None
    for what, now in story:
        found = decide(state, what, now)
        if found.start:
            assert (what.action, what.label, what.allowed) == ("labeled", APPROVE, True)
            assert now.valid
            assert now.open
            assert state is not None
            assert what.sha == now.sha == state.sha
            assert found.state is not None
            assert found.state.approval == Approval(now.sha, what.by, what.at, what.run)
        after = replace(now, labelled=now.labelled and not found.unlabel)
        assert replace(decide(found.state, what, after), unlabel=False) == Decision(found.state)
        assert found.state is None or found.state == marked(found.state.mark(), 7)
        state = found.state


# --- the marker ---


def test_a_marker_is_one_comment_of_html() -> None:
    """Nothing in it ends it before its end."""
    mark = replace(RUNS, note=STRANGER, who="a-b", going=(replace(BY_MONA, by="x-y[bot]"),)).mark()

    assert 1 == mark.count("-->")
    assert 1 == mark.count("--", 4)
    assert 1 == mark.count(">")


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "<!-- codexbench:{} -->",
        "<!-- codexbench:[] -->",
        "<!-- codexbench:{" + "[" * 3000 + "} -->",
        "hello " + PLAN.mark(),
        "> " + PLAN.mark(),
        "\n" + PLAN.mark(),
        PLAN.mark().replace('"v":1', '"v":2'),
        PLAN.mark().replace('"issue":7', '"issue":8'),
        PLAN.mark().replace('"issue":7', '"issue":"7"'),
        PLAN.mark().replace("planned", "approved"),
        PLAN.mark().replace("planned", "anything"),
        PLAN.mark().replace(ONE, ONE.upper() + "x"),
        PLAN.mark().replace('"who":""', '"who":"@x"'),
        PLAN.mark().replace('"who":""', '"who":7'),
        PLAN.mark().replace('"going":[]', '"going":[{}]'),
        PLAN.mark().replace('"going":[]', '"going":7'),
        RUNS.mark().replace('"run":100', '"run":"100"'),
        RUNS.mark().replace('"run":100', '"run":true'),
        RUNS.mark().replace('"run":100', '"run":0'),
    ],
)
def test_a_marker_that_is_not_right_in_every_part_is_none(comment: str) -> None:
    """Nobody's words are taken for a state."""
    assert marked(PLAN.mark() + "\nhello", 7) == PLAN
    assert marked(comment, 7) is None
