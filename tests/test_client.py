"""A node as an experiment sees it: what is done where the way to its agent breaks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from pytest_codexbench.agent.client import finish
from pytest_codexbench.backends.kubernetes.forward import forwarded
from pytest_codexbench.errors import AgentError, Unreachable
from pytest_codexbench.rpc import Message, Server

LINES = 200


class Counting:
    """A long verb, and how often it was begun."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, _: Message) -> Iterator[Message]:
        self.calls += 1
        for number in range(LINES):
            yield {"number": number, "room": "x" * 2000}
        yield {"done": {"calls": self.calls}}


@contextmanager
def way(folder: Path, port: int, lengths: list[int]) -> Iterator[str]:
    """A socket that leads to a port; each of its connections breaks after so many bytes, later ones do not."""

    def opened() -> closing[socket.socket]:
        there = socket.create_connection(("127.0.0.1", port))
        if not lengths:
            return closing(there)
        near, far = socket.socketpair()
        threading.Thread(target=cut, args=(there, far, lengths.pop(0)), daemon=True).start()
        return closing(near)

    def pass_on(far: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):  # the way is broken meanwhile
            while data := far.recv(1 << 16):
                there.sendall(data)

    def cut(there: socket.socket, far: socket.socket, length: int) -> None:
        with there, far:
            threading.Thread(target=pass_on, args=(far, there), daemon=True).start()
            there.recv(1, socket.MSG_PEEK)  # the whole request is there
            while length > 0 and (data := there.recv(min(length, 1 << 12))):
                far.sendall(data)
                length -= len(data)
            for end in (there, far):  # to close alone does not end what another thread waits for
                end.shutdown(socket.SHUT_RDWR)

    with forwarded(folder / "s", opened) as url:
        yield url


@pytest.fixture
def agent() -> Iterator[tuple[int, Counting]]:
    """A server, and the verb behind it."""
    verb = Counting()
    with Server("http://127.0.0.1:0", "t", {"count": verb.count}) as server:
        server.start()
        yield int(server.url.rpartition(":")[2]), verb
        server.shutdown()


def test_a_long_verb_outlives_the_way_to_it(tmp_path: Path, agent: tuple[int, Counting]) -> None:
    """It breaks before the first line, in the middle of one, and late: all is heard once, nothing is done twice."""
    port, verb = agent
    heard: list[int] = []
    with way(tmp_path, port, [0, 40_001, 300_000]) as url:
        told = finish(url, "count", {}, "t", lambda line: heard.append(line["number"]), again=lambda: True)

    assert {"calls": 1} == told
    assert list(range(LINES)) == heard
    assert 1 == verb.calls


def test_an_agent_that_is_gone_is_not_asked_again(tmp_path: Path, agent: tuple[int, Counting]) -> None:
    """Whoever knows that says so; and where nobody can, one loss is the end."""
    port, verb = agent
    for again in (lambda: False, None):
        with way(tmp_path, port, [40_001]) as url, pytest.raises(Unreachable, match=r"count at unix:.*: "):
            finish(url, "count", {}, "t", again=again)

    assert 2 == verb.calls


def test_an_error_that_was_told_is_no_loss(tmp_path: Path, agent: tuple[int, Counting]) -> None:
    """The agent answered: it is not asked again."""
    asked = iter([True])
    with way(tmp_path, agent[0], []) as url, pytest.raises(AgentError, match="token is missing"):
        finish(url, "count", {}, "wrong", again=lambda: next(asked))

    assert [True] == list(asked)
