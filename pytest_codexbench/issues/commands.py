"""What ``codexbench issue`` can be told to do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_codexbench.errors import WrongInput

if TYPE_CHECKING:
    from pytest_codexbench.issues.clerk import Desk
    from pytest_codexbench.issues.request import Limits

NOT_APPROVED = 1
HOW = ("done", "failed", "void")
LIMITS = "limits, as a TOML file (default: those built in)"


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The commands below ``issue``."""
    commands = parser.add_subparsers(required=True, metavar="WHAT", title="what")
    plan = _command(commands, "plan", _plan, "what the text of an issue would run, and its cost; asks nobody")
    plan.add_argument("text", metavar="FILE", help="the issue's text; - is standard input")
    plan.add_argument("--matrix", type=Path, metavar="FILE", help="write the matrix there too, for pytest --matrix")

    event = _command(commands, "event", _event, "in a workflow: plan, or let run, as the event says")
    event.add_argument("--order", type=Path, required=True, metavar="FILE", help="where the order of a run goes")

    start = _command(commands, "start", _start, "where it is measured: the matrix, if the approval still holds")
    start.add_argument("order", type=Path, metavar="ORDER", help="what `event` wrote")
    start.add_argument("--matrix", type=Path, required=True, metavar="FILE", help="where the matrix goes")

    result = _command(commands, "result", _result, "tell the issue how its run ended, and what it measured")
    result.add_argument("order", type=Path, metavar="ORDER", help="what `event` wrote")
    result.add_argument("--how", choices=HOW, required=True, help="void: its approval was gone before it began")
    result.add_argument("--results", type=Path, metavar="DIR", help="the folder with the run's records in it")
    result.add_argument("--report", default="", metavar="URL", help="the artifact, on the repository's own pages")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int | None],
    what: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.add_argument("--limits", type=Path, metavar="FILE", help=LIMITS)
    parser.set_defaults(act=act)
    return parser


def _plan(options: argparse.Namespace) -> None:
    from pytest_codexbench.forecast import bytes_text, duration_text
    from pytest_codexbench.issues.body import MOST_LETTERS, read
    from pytest_codexbench.matrix import size_text

    try:
        if options.text == "-":
            body = sys.stdin.read(4 * MOST_LETTERS)
        else:
            with Path(options.text).open(encoding="utf-8", newline="") as file:
                body = file.read(4 * MOST_LETTERS)
    except (OSError, ValueError) as error:
        raise WrongInput(f"{options.text}: {error}") from error
    request = read(body, limits=_limits(options))
    cost, matrix = request.cost(), request.matrix
    print(request.matrix_file())
    print(f"cells   {cost.cells}, uploads included; largest file {size_text(max(matrix.sizes))}")
    print(f"rounds  {cost.rounds} ({matrix.rounds} a cell)")
    print(f"bytes   {bytes_text(cost.moved)} over the links")
    print(f"disk    {bytes_text(cost.disk)} at the most at one time")
    print(f"memory  {bytes_text(cost.memory)} at the most at one time")
    print(f"time    about {duration_text(cost.seconds)}, by built-in rates")
    if options.matrix:
        _write(options.matrix, request.matrix_file())


def _event(options: argparse.Namespace) -> None:
    from pytest_codexbench.issues.clerk import handle, read_event

    desk = _desk(options)
    told = read_event(Path(_environment("GITHUB_EVENT_PATH")), _environment("GITHUB_EVENT_NAME"), desk.bot)
    if isinstance(told, str):
        print(f"nothing to do: {told}")
        _output("go", "false")
        return
    words, order = handle(desk, told, _run())
    if order is not None:
        _write(options.order, json.dumps(order.to_json(), indent=2) + "\n")
    print(words)
    _output("go", "true" if order is not None else "false")


def _start(options: argparse.Namespace) -> int:
    from pytest_codexbench.issues.clerk import approved, read_order

    desk = _desk(options)
    order = read_order(options.order, desk.limits)
    if not approved(desk, order):
        print(f"issue {order.request.issue}: the approval no longer holds; nothing is measured")
        _output("go", "false")
        return NOT_APPROVED
    _write(options.matrix, order.request.matrix_file())
    print(f"issue {order.request.issue}: approved by {order.approval.by}; the matrix is in {options.matrix}")
    _output("go", "true")
    _output("budget", f"{desk.limits.seconds}s")
    return 0


def _result(options: argparse.Namespace) -> None:
    from pytest_codexbench.issues.clerk import conclude, read_order

    desk = _desk(options)
    if options.report and not options.report.startswith(f"{desk.links.repository}/"):
        raise WrongInput(f"--report={options.report}: it is not below {desk.links.repository}")
    order = read_order(options.order, desk.limits)
    print(conclude(desk, order, options.how, options.results, options.report))


def _desk(options: argparse.Namespace) -> Desk:
    from pytest_codexbench.issues.clerk import Desk
    from pytest_codexbench.issues.comment import Links
    from pytest_codexbench.issues.github import GitHub

    repository = _environment("GITHUB_REPOSITORY")
    hub = GitHub(os.environ.get("GITHUB_API_URL") or "https://api.github.com", repository, _environment("GITHUB_TOKEN"))
    server = (os.environ.get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/")
    return Desk(
        hub=hub,
        links=Links(f"{server}/{repository}"),
        limits=_limits(options),
        bot=os.environ.get("CODEXBENCH_BOT") or "github-actions[bot]",
        least=os.environ.get("CODEXBENCH_APPROVERS") or "write",
    )


def _limits(options: argparse.Namespace) -> Limits:
    from pytest_codexbench.issues.request import Limits, read_limits

    return read_limits(options.limits) if options.limits else Limits()


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise WrongInput(f"{name} is not in the environment; a workflow on GitHub has it: see docs/platform.md")
    return value


def _run() -> int:
    text = _environment("GITHUB_RUN_ID")
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 10**18:
        raise WrongInput(f"GITHUB_RUN_ID={text}: a number is needed")
    return int(text)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongInput(f"{path}: {error.strerror or error}") from error


def _output(name: str, value: str) -> None:
    """Tell the workflow's next steps."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{name}={value}\n")
