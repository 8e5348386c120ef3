"""Ten thousand malformed files, options and requests: each is refused in words, none with a traceback."""

from __future__ import annotations

import json
import random
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_codexbench.agent.process import Usage
from pytest_codexbench.agent.server import Agent
from pytest_codexbench.errors import NotReady, WrongInput
from pytest_codexbench.matrix import BUILT_IN
from pytest_codexbench.matrixfile import read_matrix
from pytest_codexbench.options import OPTIONS, read_options
from pytest_codexbench.rpc import Server
from pytest_codexbench.systems import Command, Place
from pytest_codexbench.systems.http import Http

EXAMPLES = 10_000
# The same every time. A random number generator is one cheap draw, where a strategy of texts is a hundred.
many = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
chances = st.randoms(use_true_random=True)

FILES = [
    b'shapes = [[2, 1], [8, 2]]\nsizes = ["1MB", "1GiB"]\nrounds = 2\nlinks = ["100mbit"]\n',
    b'name = "mine"\nnodes = [2, 8, 16]\nseeders = [1, 2]\nsizes = ["100MB"]\n[systems.http]\n[systems.codex]\n',
    b'shapes = [[2, 1]]\nsizes = ["5MB"]\n[systems."codex.new"]\nsystem = "codex"\nbin = "/opt/codex"\n',
    b'shapes = [[4, 2]]\nsizes = ["1kB"]\n[systems."bittorrent.streaming"]\nprofile = "streaming"\n[systems.ipfs]\n',
]
PIECES = [
    *(b"=", b"[", b"]", b"[[", b'"', b"'''", b"\n", b",", b".", b"{", b"}", b"#", b"\0", b"\xff\xfe", b"\xed\xa0\x80"),
    *(b"nan", b"-1", b"0", b"1e999", b"9" * 5000, b"true", b"1979-05-27", b"[" * 3000, b"\xe2\x80\xae", b"\\uD800"),
    *(b"shapes", b"nodes", b"sizes", b"systems", b"seeders", b"1MB", b'"0B"', b'"-1MB"', b'"1mbit"', b"\r", b"\t"),
]
TEXTS = [
    *("", " ", "0", "-1", "1", "1e9", "nan", "inf", "1" * 5000, "8h", "90s", "1MB", "100mbit", "http", "http,http"),
    *("codex", "kubernetes", "local", "smoke", "full", "x.toml", "/", ".", "/dev/null", "a\0b", "\udcff", "\u202e"),
    *("true", "no", "--", "=", ",", ",,", "http.", ".http", "../" * 30, "~", "%s", "{}", "$(id)", "\n", "١٢", "1_000"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**53, 2**70, 10**400),
    *("", "a", "x" * 300, "../../etc/passwd", "/", "\0", "\udcff", "p0123", "http://127.0.0.1:1/p", "::"),
    *([], {}, [None], {"a": 1}, [[]], [{}], {"id": "p1", "ticket": ""}, {"id": 1, "ticket": None}, {"id": "p1"}),
    *([{"origin": "http://127.0.0.1:9"}], [{"address": "127.0.0.1"}], "file:///etc/passwd", "http://[", "http://a:b/"),
]
# The others take nothing from their request.
VERBS = [
    *("health", "counters", "begin", "log", "start", "join", "make", "publish", "fetch", "check", "delete"),
    *("drop_cache", "probe_disk", "probe_wire", "stop", "serve_again", "hinder", "subscribe", "send", "receive"),
]
KEYS = [
    *("name", "size", "seed", "deadline_s", "handle", "sources", "position", "contacts", "bootstrap", "url", "path"),
    *("address", "port", "seconds", "most", "limit_mb_s", "again", "x", "lose", "cut", "processor", "disk"),
    *("shard", "payload", "prefix", "linger_s", "cell", "round", "role"),
]


def damaged(chance: random.Random, text: bytes) -> bytes:
    """The text with one to four pieces cut out, doubled, put in, or changed."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.randint(0, 20))
        piece = chance.choice([b"", text[start:end] * 2, chance.choice(PIECES), chance.randbytes(2)])
        text = text[:start] + piece + text[end:]
    return text


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="cb") as path:
        yield Path(path)


def test_ten_thousand_matrix_files(folder: Path) -> None:
    """A damaged matrix file is a whole matrix or is refused, with the name of the file first."""
    refused = []

    @many
    @given(chances)
    def each(chance: random.Random) -> None:
        path = folder / "any.toml"
        path.write_bytes(damaged(chance, chance.choice(FILES)))
        try:
            matrix, _ = read_matrix(path, (BUILT_IN["http"],))
        except WrongInput as error:
            refused.append(str(error))
        else:
            assert list(matrix.blocks())

    each()

    assert EXAMPLES / 2 < len(refused) < EXAMPLES
    assert [] == [text for text in refused if not text.startswith(f"matrix file {folder / 'any.toml'}: ")]


def test_ten_thousand_option_values() -> None:
    """Whatever text options have, they are understood, or refused with the option's name and what was given."""
    refused = []

    @many
    @given(chances)
    def each(chance: random.Random) -> None:
        names = chance.sample([option.name for option in OPTIONS], chance.randint(1, 3))
        given_ = {name: _text(chance) for name in names}
        try:
            read_options({"matrix": "smoke", **given_}.get)
        except WrongInput as error:
            refused.append((given_, str(error)))

    each()

    assert EXAMPLES / 2 < len(refused) < EXAMPLES
    assert [] == [(asked, told) for asked, told in refused if not _named(told, asked)]


def _text(chance: random.Random) -> str:
    one = chance.choice(TEXTS)
    return one if chance.random() < 0.7 else one + chance.choice(TEXTS)


def _named(told: str, asked: Mapping[str, str]) -> bool:
    """Whether it says which of the options is meant; a matrix has no option's dashes before its name."""
    return any(f"--cb-{name}" in told or (name == "matrix" and "matrix" in told) for name in asked)


class Absent:
    """A node whose program is not there: what is asked of its agent is checked all the same."""

    running = False

    def start(self, command: Callable[[], Command], folder: Path) -> None:
        raise NotReady("no program here")

    def gone(self, within_s: float) -> bool:
        return True

    def state(self) -> str:
        return "was never started"

    def tail(self) -> str:
        return ""

    def usage(self) -> Usage | None:
        return None

    def reset_peak(self) -> bool:
        return False

    def kill(self) -> None:
        """Nothing to end."""

    def pids(self) -> list[int]:
        return []

    def stop(self, grace_s: float = 0) -> str:
        return self.state()

    def serve_starts(self) -> None:
        """Nothing is started."""

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A real agent's server, on a Unix socket."""
    place = Place("n00", "127.0.0.1", folder / "n00", "right", {}, largest=10**6)
    server = Server(f"unix:{folder}/s", "right", Agent(Http(), place, Absent(), None).verbs())
    server.start()
    yield server
    server.shutdown()
    server.server_close()


def test_ten_thousand_requests_to_an_agent(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is in a request, its agent answers it, says what is wrong in words, and lives on."""
    statuses: dict[int, int] = {}
    assert set(VERBS) <= set(server.verbs)

    @many
    @given(chances)
    def each(chance: random.Random) -> None:
        verb = chance.choice([*VERBS, "x"])
        keys = chance.sample(KEYS, chance.randint(0, 8))
        body = json.dumps({key: chance.choice(VALUES) for key in keys}).encode()
        if chance.random() < 0.2:
            body = damaged(chance, body)
        head = (
            f"POST /{verb} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        if chance.random() < 0.1:
            head = damaged(chance, head)
        status = _asked(server, head + body)
        statuses[status] = statuses.get(status, 0) + 1

    each()
    out, err = capfd.readouterr()

    assert "Traceback" not in out + err
    assert 0 == statuses.get(500, 0)
    assert {200, 400, 404} <= set(statuses)
    assert 200 == _asked(server, b"POST /health HTTP/1.1\r\nAuthorization: Bearer right\r\nContent-Length: 2\r\n\r\n{}")


def _asked(server: Server, request: bytes) -> int:
    """The status of the answer; 0 where the request was too damaged for one."""
    with closing(socket.socket(socket.AF_UNIX)) as wire:
        wire.settimeout(20)
        wire.connect(server.url.removeprefix("unix:"))
        wire.sendall(request)
        wire.shutdown(socket.SHUT_WR)
        said = b""
        while more := wire.recv(1 << 16):
            said += more
    first = said.partition(b"\r\n")[0].split()
    if len(first) < 2 or not first[1].isdigit():
        return 0
    if first[1] == b"200":
        last = said.rstrip().rpartition(b"\n")[2]
        told = json.loads(last).get("error", {})
        assert "Error: " not in str(told.get("text")), f"{request!r}: {told}"
    return int(first[1])
