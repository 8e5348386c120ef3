"""From an issue to a report: every command against a GitHub that answers over HTTP, with a real run in the middle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from benches import LEAN
from github_double import BOT, REPOSITORY, TOKEN, Broken, Hub, serving
from issue_forms import HOSTILE_BODIES, HOSTILE_VALUES, filled

from pytest_codexbench.cli import main
from pytest_codexbench.issues.clerk import Desk, handle
from pytest_codexbench.issues.comment import RESULTS, Links, harmless
from pytest_codexbench.issues.github import GitHub, GitHubError
from pytest_codexbench.issues.request import Limits
from pytest_codexbench.issues.state import APPROVE, State, marked

ROOT = Path(__file__).parents[1]
REPORT = f"https://github.example/{REPOSITORY}/actions/runs/100/artifacts/5"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A repository on GitHub."""
    with serving(Hub()) as hub:
        yield hub


class Workflow:
    """Runs the commands as the workflow does: with its environment, on the event's file."""

    def __init__(self, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub, self.folder, self.patch, self.runs = hub, folder, monkeypatch, 99
        self.order, self.matrix, self.output = folder / "order.json", folder / "matrix.toml", folder / "output"
        for name, value in {
            "GITHUB_API_URL": hub.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_EVENT_NAME": "issues",
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_OUTPUT": str(self.output),
        }.items():
            monkeypatch.setenv(name, value)

    def event(self, told: dict[str, Any]) -> bool:
        """One event is handled; whether a run begins."""
        self.runs += 1
        self.patch.setenv("GITHUB_RUN_ID", str(self.runs))
        (self.folder / "event.json").write_text(json.dumps(told), encoding="utf-8")
        self.order.unlink(missing_ok=True)
        self.output.write_text("", encoding="utf-8")
        assert 0 == main(["issue", "event", f"--order={self.order}"])
        go = {"go=true\n": True, "go=false\n": False}[self.output.read_text(encoding="utf-8")]
        assert go == self.order.exists()
        return go

    def start(self) -> int:
        """The machine that measures asks whether it may."""
        return main(["issue", "start", str(self.order), f"--matrix={self.matrix}"])

    def result(self, how: str, results: Path | None = None) -> None:
        """The end is told."""
        more = [f"--results={results}", f"--report={REPORT}"] if results else []
        assert 0 == main(["issue", "result", str(self.order), f"--how={how}", *more])

    @property
    def comment(self) -> str:
        """The only comment of the bot."""
        (text,) = self.hub.of(1)
        return text

    @property
    def state(self) -> State:
        """What that comment says of itself."""
        state = marked(self.comment, 1)
        assert state is not None
        return state


@pytest.fixture
def workflow(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """The workflow of that repository."""
    return Workflow(hub, tmp_path, monkeypatch)


def approved(workflow: Workflow, body: str | None = None) -> dict[str, Any]:
    """An issue that was planned and approved; the event that did it."""
    assert not workflow.event(workflow.hub.open(body or filled()))
    workflow.hub.later(60)
    label = workflow.hub.label(1, APPROVE, "mona")
    assert workflow.event(label)
    return label


def test_from_an_issue_to_a_report(workflow: Workflow) -> None:
    """Planned, approved, measured on this machine, told: in one comment, and nothing of it twice."""
    hub = workflow.hub
    opened = hub.open(filled())
    assert not workflow.event(opened)
    assert "waits for approval" in workflow.comment
    hub.later(60)
    label = hub.label(1, APPROVE, "mona")

    assert workflow.event(label)
    assert "Approved by `mona`. The [run 101]" in workflow.comment
    assert 0 == workflow.start()
    results = workflow.folder / "results"
    suite = [str(ROOT / "tests_bench" / f"test_{kind}.py") for kind in ("download", "upload")]
    plugin = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    argv = [sys.executable, "-m", "pytest", *suite, f"--matrix={workflow.matrix}", f"--cb-results={results}", *LEAN]
    run = subprocess.run(argv, cwd=workflow.folder, env=plugin, capture_output=True, text=True, check=False)
    assert 0 == run.returncode, run.stdout + run.stderr
    hub.later(60)
    workflow.result("done", results)

    told = workflow.comment
    assert "### Benchmark: measured" in told
    assert "| `http-n02-s01-1MB` | 2/2" in told
    assert f"]({REPORT})" in told
    assert [] == [name for name in hub.labels(1) if name == APPROVE]
    assert not hub.reactions
    writes = len(hub.writes())
    for again in (opened, label):
        assert not workflow.event(again)
    assert told == workflow.comment
    assert writes == len(hub.writes())


def test_an_edit_after_the_approval_voids_it(workflow: Workflow) -> None:
    """The label comes off, the run that waits does not begin, and its end is told without harm to the new plan."""
    approved(workflow)
    kept = workflow.order.read_text(encoding="utf-8")
    workflow.hub.later(5)

    assert not workflow.event(workflow.hub.edit(1, filled(Nodes="4")))

    assert APPROVE not in workflow.hub.labels(1)
    assert "`eve` edited the issue after its approval" in workflow.comment
    assert "The [run 101]" in workflow.comment
    workflow.order.write_text(kept, encoding="utf-8")
    assert 1 == workflow.start()
    assert not workflow.matrix.exists()
    workflow.result("void")
    assert "run 101" not in workflow.comment
    assert "4 with 1" in workflow.comment


def test_an_edit_that_nobody_has_looked_at_yet_keeps_the_run_from_beginning(workflow: Workflow) -> None:
    """The event may still wait for its turn: the text itself is looked at."""
    approved(workflow)
    workflow.hub.edit(1, filled(Nodes="4"))

    assert 1 == workflow.start()


@pytest.mark.parametrize("who", ["tri", "cy"])
def test_the_label_of_a_stranger_starts_nothing(workflow: Workflow, who: str) -> None:
    """Who may set labels may not approve for that."""
    workflow.hub.roles["cy"] = "triage" if who == "cy" else "custom"
    workflow.event(workflow.hub.open(filled()))
    workflow.hub.later(60)

    assert not workflow.event(workflow.hub.label(1, APPROVE, who))

    assert APPROVE not in workflow.hub.labels(1)
    assert f"`{who}` may not approve" in workflow.comment


def test_who_may_approve_is_a_setting(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maintainers alone, for example; a role that is none is wrong input."""
    monkeypatch.setenv("CODEXBENCH_APPROVERS", "maintain")
    workflow.event(workflow.hub.open(filled()))
    workflow.hub.later(60)

    assert not workflow.event(workflow.hub.label(1, APPROVE, "wren"))
    workflow.hub.later(60)
    assert workflow.event(workflow.hub.label(1, APPROVE, "mona"))
    monkeypatch.setenv("CODEXBENCH_APPROVERS", "everybody")
    assert 2 == main(["issue", "event", f"--order={workflow.order}"])


def test_a_label_that_came_with_the_issue_starts_nothing(workflow: Workflow) -> None:
    """No plan had been seen."""
    opened = workflow.hub.open(filled(), by="mona", labels=("benchmark", APPROVE))

    assert not workflow.event(opened)
    assert not workflow.event({**opened, "action": "labeled", "label": {"name": APPROVE}})
    assert APPROVE not in workflow.hub.labels(1)
    assert "waits for approval" in workflow.comment


@pytest.mark.parametrize("number", range(0, len(HOSTILE_BODIES) + len(HOSTILE_VALUES), 7))
def test_a_hostile_issue_starts_nothing_even_with_a_label(workflow: Workflow, number: int) -> None:
    """The negative control: approved by somebody who may, and still nothing runs."""
    body = (*HOSTILE_BODIES, *(filled(Nodes=value) for value in HOSTILE_VALUES))[number]
    workflow.event(workflow.hub.open(body))
    workflow.hub.later(60)

    assert not workflow.event(workflow.hub.label(1, APPROVE, "mona"))
    assert "cannot be run as it is written" in workflow.comment
    assert APPROVE not in workflow.hub.labels(1)


def test_an_approval_taken_back_and_given_again(workflow: Workflow) -> None:
    """The run of the first one does not begin, that of the second does."""
    approved(workflow)
    first = workflow.order.read_text(encoding="utf-8")
    workflow.hub.later(5)
    assert not workflow.event(workflow.hub.unlabel(1, APPROVE, "tri"))
    workflow.hub.later(60)

    assert workflow.event(workflow.hub.label(1, APPROVE, "wren"))
    assert 0 == workflow.start()
    workflow.order.write_text(first, encoding="utf-8")
    assert 1 == workflow.start()


def test_closing_takes_the_approval_back(workflow: Workflow) -> None:
    """A label on a closed issue starts nothing; opened again, it is as before."""
    approved(workflow)
    workflow.hub.later(5)
    assert not workflow.event(workflow.hub.close(1))
    assert "was closed by `eve`" in workflow.comment
    workflow.hub.later(60)
    assert not workflow.event(workflow.hub.label(1, APPROVE, "mona"))
    assert not workflow.event(workflow.hub.reopen(1))
    workflow.hub.later(60)
    assert workflow.event(workflow.hub.label(1, APPROVE, "mona"))


def test_the_plan_stays_as_it_was_when_the_results_come(workflow: Workflow) -> None:
    """To the letter, pairs that were left out included; an edit after that keeps the results below its own plan."""
    approved(workflow, filled(Nodes="2, 4", Seeders="1, 2"))
    plan = workflow.comment[workflow.comment.index("| plan") : workflow.comment.index("<sub>")]

    workflow.result("failed")

    assert "left out" in plan
    assert plan in workflow.comment
    told = workflow.comment[workflow.comment.index(RESULTS) :]
    assert not workflow.event(workflow.hub.edit(1, filled(Nodes="8")))
    assert "waits for approval" in workflow.comment
    assert workflow.comment.endswith(told)


def test_a_run_without_results(workflow: Workflow) -> None:
    """A machine that broke down: the comment says so, and it can be asked for again."""
    approved(workflow)

    workflow.result("failed")

    assert "ended with failures" in workflow.comment
    assert "No report was handed over" in workflow.comment
    workflow.hub.later(60)
    assert workflow.event(workflow.hub.label(1, APPROVE, "mona"))
    assert RESULTS in workflow.comment


def test_a_comment_that_was_deleted_comes_again_with_the_results(workflow: Workflow) -> None:
    """What was measured is told all the same."""
    approved(workflow)
    workflow.hub.comments.clear()

    workflow.result("failed")

    assert "failed" == workflow.state.stage


def test_a_marker_of_somebody_else_is_none(workflow: Workflow) -> None:
    """Whoever copies the bot's comment, on page two of many, changes nothing."""
    workflow.event(workflow.hub.open(filled()))
    mark = workflow.comment
    workflow.hub.comments.clear()
    for turn in range(250):
        workflow.hub.comment(1, mark if turn % 2 else "hello", "eve")
    workflow.hub.comment(1, "quoting: " + mark, BOT)

    assert not workflow.event(workflow.hub.edit(1, filled(Note="x")))

    assert 2 == len(workflow.hub.of(1))
    assert not workflow.event(workflow.hub.edit(1, filled(Note="y")))
    assert 2 == len(workflow.hub.of(1))


@pytest.mark.parametrize(
    "change, name",
    [
        ({}, "issue_comment"),
        ({"sender": {"login": BOT}}, "issues"),
        ({"issue": {"number": 1, "pull_request": {}}}, "issues"),
    ],
)
def test_events_of_others_are_left_alone(
    workflow: Workflow, change: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments, pull requests, and what this program did itself."""
    opened = {**workflow.hub.open(filled()), **change}
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)

    assert not workflow.event(opened)
    assert [] == workflow.hub.asked


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"issue": 1}', '{"issue": {"number": "1"}, "action": "opened"}'])
def test_an_event_that_is_none_is_wrong_input(workflow: Workflow, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 2, and GitHub is not asked."""
    monkeypatch.setenv("GITHUB_RUN_ID", "1")
    (workflow.folder / "event.json").write_text(text, encoding="utf-8")

    assert 2 == main(["issue", "event", f"--order={workflow.order}"])
    assert [] == workflow.hub.asked


# --- two at once, and a GitHub that is not well ---


def desk(hub: Hub, token: str = TOKEN, slept: list[float] | None = None) -> Desk:
    """The same without a process's environment; nobody sleeps."""
    sleep = (slept if slept is not None else []).append
    clock = hub.now.timestamp
    return Desk(GitHub(hub.url, REPOSITORY, token, clock, sleep), Links("https://github.example/acme/bench"), Limits())


def both(hub: Hub, told: dict[str, Any], request: str) -> list[bool]:
    """The same event handled twice at the same time: each waits for the other at its first such request."""
    barrier, seen = threading.Barrier(2, timeout=20), threading.local()
    waited: list[int] = []

    def before(asked: str) -> None:
        if asked == request and len(waited) < 2:
            waited.append(1)
            barrier.wait()

    hub.before = before
    began: list[bool] = []

    def one(run: int) -> None:
        seen.run = run
        began.append(handle(desk(hub), told, run)[1] is not None)

    threads = [threading.Thread(target=one, args=(run,)) for run in (200, 201)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    hub.before = lambda asked: None
    assert 2 == len(began)
    return began


def test_two_events_at_once_make_one_comment(hub: Hub) -> None:
    """Both found none; the older one stays."""
    opened = hub.open(filled())

    assert [False, False] == both(hub, opened, "POST /issues/1/comments")
    assert 1 == len(hub.of(1))


def test_two_events_at_once_let_one_run_begin(hub: Hub) -> None:
    """Both found it planned; GitHub itself says who was first."""
    handle(desk(hub), hub.open(filled()), 1)
    hub.later(60)
    label = hub.label(1, APPROVE, "mona")
    (comment,) = hub.comments

    assert [False, True] == sorted(both(hub, label, f"POST /issues/comments/{comment}/reactions"))
    state = marked(hub.of(1)[0], 1)
    assert state is not None
    assert "approved" == state.stage


@pytest.mark.parametrize(
    "broken, slept",
    [
        (Broken("GET", "/issues/1", 502, times=2), [1.0, 2.0]),
        (Broken("GET", "/issues/1", 403, {"Retry-After": "7"}), [7.0]),
        (Broken("GET", "/issues/1", 429, {"Retry-After": "3"}), [3.0]),
        (Broken("GET", "/issues/1/comments", 500), [1.0]),
        (Broken("POST", "/issues/1/comments", 502, after=True), [1.0]),
    ],
)
def test_a_github_that_is_busy_is_asked_again(hub: Hub, broken: Broken, slept: list[float]) -> None:
    """As soon as it wants; a comment that was made although it said otherwise is not there twice."""
    hub.broken.append(broken)
    waits: list[float] = []

    handle(desk(hub, slept=waits), hub.open(filled()), 1)

    assert slept == waits
    assert 1 == len(hub.of(1))


def test_a_rate_limit_is_waited_for_if_it_is_short(hub: Hub) -> None:
    """Until the moment that GitHub tells; of a long one the error says how long."""
    reset = str(int(hub.now.timestamp()) + 30)
    limit = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    hub.broken.append(Broken("GET", "/issues/1", 403, limit))
    waits: list[float] = []
    opened = hub.open(filled())

    handle(desk(hub, slept=waits), opened, 1)

    assert [31.0] == waits
    hub.broken.append(Broken("GET", "/issues/1", 403, {**limit, "X-RateLimit-Reset": str(int(reset) + 3000)}))
    with pytest.raises(GitHubError, match="it wants no request for 3031 s; run this again then"):
        handle(desk(hub), opened, 1)


@pytest.mark.parametrize("status, times", [(403, 1), (401, 1), (422, 1), (301, 1), (503, 99)])
def test_a_github_that_will_not_is_an_error(hub: Hub, status: int, times: int) -> None:
    """Which names the request and the answer; nothing begins."""
    hub.broken.append(Broken("GET", "/issues/1", status, times=times))

    with pytest.raises(GitHubError, match=rf"GET /issues/1: .*status {status}"):
        handle(desk(hub), hub.open(filled()), 1)
    assert [] == hub.writes()


def test_an_issue_that_is_gone_is_an_error(hub: Hub) -> None:
    """Deleted, or moved to another repository."""
    opened = hub.open(filled())
    hub.issues.clear()

    with pytest.raises(GitHubError, match="status 404"):
        handle(desk(hub), opened, 1)


def test_what_a_log_said_calls_nobody() -> None:
    """A failure's reason comes from programs; in the comment it is text."""
    told = harmless("- `x`: @mona see #12, GH-3 <img src=x> ![a](https://evil.example) www.evil.example [b][c]")

    for harm in ("@mona", "#12", "GH-3", "<img", "](", "https://", "www.", "]["):
        assert harm not in told


# --- the workflow's file ---


def test_no_word_of_an_issue_is_part_of_the_workflow() -> None:
    """No expression takes what people write, and only the jobs that write comments may."""
    file = ROOT / ".github/workflows/benchmark-issue.yml"
    if not file.is_file():
        pytest.skip("no workflow in a source distribution")
    text = file.read_text(encoding="utf-8")
    expressions = re.findall(r"\$\{\{(.*?)\}\}", text, re.DOTALL)
    jobs = yaml.safe_load(text)["jobs"]

    assert {"github.event.issue.number", "github.token"} == {
        word for each in expressions for word in re.findall(r"github\.[a-z_.]+", each)
    }
    assert not [step for job in jobs.values() for step in job["steps"] if "${{" in str(step.get("run", ""))]
    assert "secrets." not in text
    assert {"decide": "write", "run": "read", "result": "write"} == {
        name: job["permissions"]["issues"] for name, job in jobs.items()
    }
    assert {"contents": "read", "issues": "read"} == jobs["run"]["permissions"]
    assert "benchmark" == jobs["run"]["environment"]
