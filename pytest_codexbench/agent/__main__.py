"""``python -m pytest_codexbench.agent``: the program beside one node."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path
from typing import NoReturn

from pytest_codexbench.agent.meeting import keep_meeting
from pytest_codexbench.agent.neighbour import Neighbour
from pytest_codexbench.agent.process import NodeProcess, Program
from pytest_codexbench.agent.server import Agent
from pytest_codexbench.agent.wire import Interface, wire_from_env
from pytest_codexbench.rpc import Server, token_from_environment
from pytest_codexbench.systems import Command, Place, find


def main() -> None:
    """Serve until the process is ended; the node ends with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the node's name in its cluster")
    parser.add_argument("--system", required=True, help="which storage network it is of")
    parser.add_argument("--listen", required=True, help="unix:/path or http://address:port of the agent")
    parser.add_argument("--folder", required=True, type=Path, help="folder for all that the node stores")
    parser.add_argument("--log", required=True, type=Path, help="file for the node's output")
    parser.add_argument("--address", default=os.environ.get("CODEXBENCH_ADDRESS"), help="the node's own address")
    parser.add_argument("--settings", type=json.loads, default={}, help="the variant's settings as JSON")
    parser.add_argument("--services", type=json.loads, default={}, help="URL by name of the cluster's services as JSON")
    parser.add_argument("--largest", type=int, default=10**9, help="size in bytes of the largest file to come")
    parser.add_argument(
        "--beside",
        type=json.loads,
        metavar="PORTS",
        help="the node runs in a container beside this one, at these ports by name as JSON",
    )
    parser.add_argument(
        "--meet",
        action="append",
        default=[],
        metavar="HOST",
        help="make the node meet those at the addresses of a name",
    )
    parser.add_argument("--become", action="store_true", help="be the node's program itself, for a container beside")
    options = parser.parse_args()
    if not options.address:
        parser.error("--address, or the environment variable CODEXBENCH_ADDRESS, is needed")

    token = token_from_environment()
    place = Place(
        name=options.name,
        address=options.address,
        folder=options.folder,
        token=token,
        settings=options.settings,
        services=options.services,
        largest=options.largest,
        ports=options.beside or {},
    )
    if options.become:
        become(find(options.system).driver(place).command([]))
    process: Program = NodeProcess(options.log) if options.beside is None else Neighbour()
    wire = wire_from_env(os.environ) if options.beside is None else Interface()
    agent = Agent(find(options.system), place, process, wire)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.close())
    Server(options.listen, token, agent.verbs(), pages=agent.pages()).start()
    if options.meet:
        threading.Thread(target=keep_meeting, args=(agent, options.meet), name="meeting", daemon=True).start()
    process.serve_starts()
    process.stop(grace_s=1)


def become(command: Command) -> NoReturn:
    """Run a node's program in place of this one."""
    os.execvpe(command.argv[0], command.argv, {**os.environ, **command.env})  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main()
