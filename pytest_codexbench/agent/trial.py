"""``python -m pytest_codexbench.agent.trial``: spreads one small file over a running cluster, to show that it works."""

from __future__ import annotations

import argparse
import sys
import time

from pytest_codexbench.agent.client import Node, finish
from pytest_codexbench.errors import AgentError, BenchError
from pytest_codexbench.rpc import call, token_from_environment
from pytest_codexbench.together import each

LOOK_S = 0.2


def main() -> None:
    """End with status 0 once every node had the file; else with 1 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", required=True, help="URL of an agent, with {index} for the node's number")
    parser.add_argument("--nodes", required=True, type=int)
    parser.add_argument("--size", required=True, type=int, help="bytes of the file")
    parser.add_argument("--deadline", required=True, type=float, help="seconds for all of it")
    options = parser.parse_args()
    urls = [options.agents.replace("{index}", str(index)) for index in range(options.nodes)]
    try:
        trial(urls, token_from_environment(), options.size, options.deadline)
    except BenchError as error:
        sys.exit(str(error))


def say(text: str) -> None:
    """For whoever reads the Pod's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def trial(urls: list[str], token: str, size: int, deadline_s: float) -> None:
    """The first node seeds, all others fetch."""
    end = time.monotonic() + deadline_s

    def left_s() -> float:
        return max(1.0, end - time.monotonic())

    def begin(url: str) -> Node:
        while True:
            try:
                call(url, "health", token=token)
                break
            except AgentError:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_S)
        told = finish(url, "start", {"bootstrap": [], "deadline_s": left_s()}, token, deadline_s=left_s())
        return Node(told["contact"]["name"], url, token, told["contact"])

    nodes = each(urls, begin)
    each(nodes, lambda node: node.join([other.contact for other in nodes if other is not node]))
    say(f"{len(nodes)} nodes are up and know each other")
    seeder, leechers, name = nodes[0], nodes[1:], "trial"
    digest, _ = seeder.make(name, size, seed=1)
    handle = None
    try:
        handle = seeder.publish(name, left_s()).handle

        def fetch(position: int) -> str:
            node = leechers[position]
            download = node.download(handle, size, [seeder.contact], position, left_s(), lambda *_: None)
            if download.transfer.error:
                raise AgentError(download.transfer.error)
            got = node.check(download, size)
            if got != digest:
                raise AgentError(f"{node.name} fetched {handle.id}, but its digest is {got} and not {digest}")
            return node.name

        for who in each(range(len(leechers)), fetch):
            say(f"{who} has the file of {seeder.name}, {size} bytes with the right digest")
    finally:
        each(nodes, lambda node: node.delete(name, handle, size))


if __name__ == "__main__":
    main()
