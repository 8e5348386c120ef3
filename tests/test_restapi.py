"""Requests to a storage program's REST API: each has an end, and an error that tells all."""

import http.client
import random
import re
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.httpbody import BEGINNING
from pytest_codexbench.restapi import PIECE, Answer, Api, Upload

MB = 10**6
# Longer than any of these tests: who waits for it to pass has not seen what was there to be seen.
LONG_S = 20.0
# A deadline that is meant to pass.
SOON_S = 0.3


@dataclass(frozen=True)
class Heard:
    """A request as it came; what is left of its body is still on the wire."""

    wire: socket.socket
    head: str
    begun: bytes
    over: threading.Event

    @property
    def length(self) -> int:
        """Of the body, as it was announced."""
        announced = re.search(r"\r\nContent-Length: (\d+)\r\n", self.head)
        return int(announced[1]) if announced else 0

    def body(self, most: int | None = None) -> Iterator[bytes]:
        """What comes of the body, in pieces, up to ``most`` bytes of it."""
        left = self.length if most is None else most
        if self.begun:
            left -= len(self.begun)
            yield self.begun
        while left > 0 and (piece := self.wire.recv(min(left, PIECE))):
            left -= len(piece)
            yield piece

    def says(self, *pieces: bytes) -> None:
        """Answer."""
        for piece in pieces:
            self.wire.sendall(piece)

    def resets(self) -> None:
        """Hang up at once and leave nothing to be read from here, as a program that dies."""
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Act = Callable[[Heard], None]


@contextmanager
def program(act: Act) -> Iterator[Api]:
    """The API of a program that reads a request's head, does ``act`` and hangs up."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            wire, _ = listener.accept()
            with wire:
                wire.settimeout(LONG_S)
                data = b""
                while b"\r\n\r\n" not in data:
                    data += wire.recv(4096)
                head, _, begun = data.partition(b"\r\n\r\n")
                try:
                    act(Heard(wire, f"{head.decode()}\r\n", begun, over))
                except ConnectionError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Api(f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1")
        finally:
            over.set()
            thread.join(LONG_S)


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(*pieces: bytes) -> Act:
    """Takes the whole body, says these and hangs up."""

    def act(heard: Heard) -> None:
        for _ in heard.body():
            pass
        heard.says(*pieces)

    return act


def refuses(said: bytes, after: int = 0, then: Act = lambda heard: None) -> Act:
    """Takes ``after`` bytes of the body, says its answer, does ``then`` and hangs up."""

    def act(heard: Heard) -> None:
        for _ in heard.body(after) if after else ():
            pass
        heard.says(said)
        then(heard)

    return act


def stands(heard: Heard) -> None:
    """Keeps the connection, and neither reads nor says anything."""
    heard.over.wait(LONG_S)


def drips(before: bytes, drop: bytes) -> Act:
    """Takes the whole body, says ``before`` and then a drop now and again, for ten seconds unless it is over."""

    def act(heard: Heard) -> None:
        for _ in heard.body():
            pass
        heard.says(before)
        for _ in range(200):
            if heard.over.wait(0.05):
                return
            heard.says(drop)

    return act


@contextmanager
def in_time(within_s: float) -> Iterator[None]:
    """Whatever happens ends at its deadline, or as near to it as a busy machine can."""
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < within_s + LONG_S / 2


def told(api: Api, *, expect: Sequence[int] = (200,), timeout_s: float = LONG_S) -> str:
    """The error of a request."""
    with in_time(timeout_s), pytest.raises(BadTransfer) as caught:
        api.ask("GET", "/it", expect, timeout_s)
    return str(caught.value)


def refused(api: Api, upload: Upload, deadline_s: float = LONG_S) -> str:
    """The error of an upload."""
    with in_time(deadline_s), pytest.raises(BadTransfer) as caught:
        api.send("/data", upload, deadline_s)
    return str(caught.value)


def file_of(folder: Path, data: bytes) -> Path:
    """A file with these bytes."""
    path = folder / "file"
    path.write_bytes(data)
    return path


def hollow(folder: Path, size: int) -> Path:
    """A file of zeros that takes no room."""
    path = folder / "file"
    with path.open("wb") as file:
        file.truncate(size)
    return path


# --- questions ---


def test_a_question_is_sent_as_it_is_given() -> None:
    """The method, the path below the base with its query, the headers; no length of a body that is not there."""
    heads: list[str] = []

    def act(heard: Heard) -> None:
        heads.append(heard.head)
        heard.says(answer(b"yes"))

    with program(act) as api:
        said = api.ask("GET", "/debug/info?all=1", headers={"X-Token": "right"})

    assert heads[0].startswith("GET /api/v1/debug/info?all=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nX-Token: right\r\n" in heads[0]
    assert "Content-Length" not in heads[0]
    assert Answer(f"GET {api.base}/debug/info?all=1", 200, b"yes") == said


def test_a_post_without_a_body_says_that_there_is_none() -> None:
    """Servers wait for a body, or refuse the request, if its length is not told."""
    heads: list[str] = []

    def act(heard: Heard) -> None:
        heads.append(heard.head)
        heard.says(answer(b""))

    with program(act) as api:
        api.ask("POST", "/id")

    assert heads[0].startswith("POST /api/v1/id HTTP/1.1\r\n")
    assert "\r\nContent-Length: 0\r\n" in heads[0]


@pytest.mark.parametrize(
    "pieces",
    [
        (answer(b"yes"),),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nye\r\n", b"1\r\ns\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\ny", b"es"),
    ],
    ids=["length", "chunked", "no length"],
)
def test_an_answer_comes_whole(pieces: tuple[bytes, ...]) -> None:
    """However it is framed."""
    with program(answers(*pieces)) as api:
        assert b"yes" == api.ask("GET", "/it").body


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "404 Not Found"])
def test_each_expected_status_is_an_answer(status: str) -> None:
    """Some say by it what others say in the body."""
    with program(answers(answer(b"", status))) as api:
        said = api.ask("DELETE", "/it", (200, 204, 404))

    assert int(status[:3]) == said.status


@pytest.mark.parametrize("status", ["201 Created", "301 Moved", "404 Not Found", "500 Oh"])
def test_another_status_is_told_with_the_beginning_of_the_body(status: str) -> None:
    """The request, the status, those expected, and what the program says of it."""
    with program(answers(answer(b"no such CID", status))) as api:
        text = told(api, expect=(200, 204))

    assert f"GET {api.base}/it: status {status[:3]}, expected 200 or 204: b'no such CID'" == text


def test_a_huge_refusal_is_neither_shown_nor_read_whole() -> None:
    """300 bytes of it are shown; what comes behind them is not waited for, and not kept."""
    page = b"<p>" + b"x" * MB

    def pours(heard: Heard) -> None:
        for _ in range(1000):
            heard.says(page)

    head = b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n" % (1000 * len(page))
    with program(refuses(head, then=pours)) as api:
        tracemalloc.start()
        try:
            text = told(api)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert f"GET {api.base}/it: status 500, expected 200: {page[:BEGINNING]!r}" == text
    assert peak < 10 * MB


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 500 Oh\r\n\r\nquota",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\nquota",
        b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nquota\r\n",
    ],
    ids=["no length", "length", "chunked"],
)
@pytest.mark.parametrize("then", [lambda heard: None, Heard.resets], ids=["hangs up", "resets"])
def test_a_refusal_that_breaks_off_is_told_as_far_as_it_came(said: bytes, then: Act) -> None:
    """The status and the beginning of the body say more than how the connection ended."""
    with program(refuses(said, then=then)) as api:
        assert f"GET {api.base}/it: status 500, expected 200: b'quota'" == told(api)


def test_a_refusal_that_does_not_end_is_told_at_the_deadline() -> None:
    """What came until then."""
    said = b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\nquota"
    with program(refuses(said, then=stands)) as api:
        assert f"GET {api.base}/it: status 500, expected 200: b'quota'" == told(api, timeout_s=1.0)


def test_a_refused_connection_is_told() -> None:
    """Nobody listens: request and reason."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = Api(f"http://127.0.0.1:{free.getsockname()[1]}")

    assert f"GET {api.base}/it: ConnectionRefusedError: " in told(api)


def test_a_program_that_never_answers_ends_at_the_deadline() -> None:
    """Codex says nothing for ever when it has no room; the error says how long was waited."""
    with program(stands) as api:
        assert f"GET {api.base}/it: not done within 0.3 s" == told(api, timeout_s=SOON_S)


def test_a_program_that_does_not_even_accept_ends_at_the_deadline() -> None:
    """Stopped, or too busy: the kernel still takes its connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = Api(f"http://127.0.0.1:{listener.getsockname()[1]}")

        assert f"GET {api.base}/it: not done within 0.3 s" == told(api, timeout_s=SOON_S)


def test_a_question_that_nobody_takes_ends_at_the_deadline() -> None:
    """More of it than the kernel keeps."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(BadTransfer) as caught:
        Api(f"http://127.0.0.1:{listener.getsockname()[1]}").ask("GET", "/it", (200,), SOON_S, {"X": "x" * 16 * MB})

    assert str(caught.value).endswith("/it: not done within 0.3 s")


def test_no_time_is_too_little() -> None:
    """Nothing is asked without time; the error is that of every deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = Api(f"http://127.0.0.1:{listener.getsockname()[1]}")

        assert f"GET {api.base}/it: not done within -1 s" == told(api, timeout_s=-1)


DRIPS = {
    "status": (b"HTTP/1.1 2", b"0"),
    "header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("before, drop", DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_ends_at_the_deadline(before: bytes, drop: bytes) -> None:
    """The deadline is one of the whole request: bytes that trickle in do not keep it alive."""
    with program(drips(before, drop)) as api:
        assert f"GET {api.base}/it: not done within 0.3 s" == told(api, timeout_s=SOON_S)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 2",
        b"nonsense\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2xx OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"x" * 10**6,
        b"SSH-2.0-" + b"x" * 10**4 + b"\r\n",
    ],
    ids=["nothing", "half", "no http", "another http", "no status", "short", "no chunk", "headers", "long", "ssh"],
)
def test_what_is_no_answer_is_told(said: bytes) -> None:
    """Whatever listens there, the error names the request and the reason, on one line that one can read."""
    with program(answers(said)) as api:
        text = told(api)

    assert text.startswith(f"GET {api.base}/it: ")
    assert len(text) < 500
    assert "\n" not in text


def test_a_reset_is_told() -> None:
    """A program that died in the middle of its answer."""

    def act(heard: Heard) -> None:
        heard.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        heard.resets()

    with program(act) as api:
        assert f"GET {api.base}/it: ConnectionResetError: " in told(api)


# --- answers ---


def of(body: bytes) -> Answer:
    """An answer that is not asked for."""
    return Answer("GET /it", 200, body)


def test_an_answers_text_is_without_what_surrounds_it() -> None:
    """A CID and a line's end; bytes that are no text do not stop it."""
    assert "zDv1" == of(b" zDv1\r\n").text
    assert "a\ufffdb" == of(b"a\xffb").text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"no", b"\xff\xfe\xfd", b"[" * 10**6], ids=["empty", "half", "text", "bytes", "deep"]
)
def test_what_is_no_json_is_told(body: bytes) -> None:
    """Request, status and its beginning."""
    with pytest.raises(BadTransfer) as caught:
        of(body).json()

    assert f"GET /it: status 200, but no JSON: {body[:BEGINNING]!r}" == str(caught.value)


@pytest.mark.parametrize(
    "body, keys, kind, value",
    [
        (b'{"id": "16Uiu"}', ("id",), str, "16Uiu"),
        (b'{"id": ""}', ("id",), str, ""),
        (b'{"codex": {"version": "v1"}}', ("codex", "version"), str, "v1"),
        (b'{"a": {"b": {"c": 0}}}', ("a", "b", "c"), int, 0),
        (b'{"table": {"nodes": []}}', ("table", "nodes"), list, []),
        (b'{"active": false}', ("active",), bool, False),
        (b"[1, 2]", (), list, [1, 2]),
    ],
)
def test_a_value_is_found_where_it_is(body: bytes, keys: tuple[str, ...], kind: type, value: object) -> None:
    """However deep, and also if it is empty, zero or false."""
    assert value == of(body).at(*keys, kind=kind)


@pytest.mark.parametrize(
    "body, keys, kind",
    [
        (b"{}", ("id",), str),
        (b'{"codex": {}}', ("codex", "version"), str),
        (b'{"codex": "v1"}', ("codex", "version"), str),
        (b'{"codex": [1]}', ("codex", "0"), int),
        (b'[{"id": "x"}]', ("id",), str),
        (b"null", ("id",), str),
        (b'{"id": null}', ("id",), str),
        (b'{"id": 1}', ("id",), str),
        (b'{"size": "1"}', ("size",), int),
        (b'{"size": 1.5}', ("size",), int),
        (b'{"size": true}', ("size",), int),
        (b'{"active": 1}', ("active",), bool),
        (b'{"addrs": {}}', ("addrs",), list),
    ],
)
def test_a_value_that_is_not_there_is_told(body: bytes, keys: tuple[str, ...], kind: type) -> None:
    """Missing, or of another type (true is no number): what was looked for, where, and what there is instead."""
    with pytest.raises(BadTransfer) as caught:
        of(body).at(*keys, kind=kind)

    assert f"GET /it: no {kind.__name__} at {'.'.join(keys)}: {body!r}" == str(caught.value)


def test_only_the_beginning_of_an_answer_is_shown() -> None:
    """Some answers are megabytes."""
    with pytest.raises(BadTransfer) as caught:
        of(b'{"a": "' + b"x" * MB + b'"}').at("id")

    assert len(str(caught.value)) < 500


# --- uploads ---


@pytest.mark.parametrize("size", [0, 1, 70_000, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 3])
@pytest.mark.parametrize("head, tail", [(b"", b""), (b"--x\r\n\r\n", b"\r\n--x--\r\n")], ids=["plain", "multipart"])
def test_a_file_arrives_byte_by_byte(size: int, head: bytes, tail: bytes, tmp_path: Path) -> None:
    """Between its head and its tail, with the right length and the headers given; an empty file is a file."""
    data = random.Random(size).randbytes(size)
    heads: list[str] = []
    bodies: list[bytes] = []

    def act(heard: Heard) -> None:
        heads.append(heard.head)
        bodies.append(b"".join(heard.body()))
        heard.says(answer(b"zDv1"))

    with program(act) as api:
        said, _ = api.send("/data?x=1", Upload(file_of(tmp_path, data), {"Content-Type": "a/b"}, head, tail), LONG_S)

    assert head + data + tail == bodies[0]
    assert heads[0].startswith("POST /api/v1/data?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert 1 == heads[0].count(f"\r\nContent-Length: {len(head) + size + len(tail)}\r\n")
    assert "\r\nContent-Type: a/b\r\n" in heads[0]
    assert "Transfer-Encoding" not in heads[0]
    assert Answer(f"POST {api.base}/data?x=1", 200, b"zDv1") == said


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    """300 MB pass through a few: files are larger than the memory of what sends them."""
    counts: list[int] = []

    def act(heard: Heard) -> None:
        counts.append(sum(map(len, heard.body())))
        heard.says(answer(b"zDv1"))

    with program(act) as api:
        tracemalloc.start()
        try:
            api.send("/data", Upload(hollow(tmp_path, 300 * MB)), LONG_S)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert [300 * MB] == counts
    assert peak < 10 * MB


def test_the_file_is_on_its_way_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    """The program works while the rest is sent: it has the first bytes when the last ones are not yet written."""
    path = hollow(tmp_path, 64 * MB)

    def act(heard: Heard) -> None:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"z")
        last = b""
        for piece in heard.body():
            last = piece[-1:]
        heard.says(answer(last))

    with program(act) as api:
        said, _ = api.send("/data", Upload(path), LONG_S)

    assert b"z" == said.body


def test_both_times_count_from_the_file_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted: once the program has taken the bytes, before it answers. Published: once it has answered."""
    moments: dict[str, float] = {}
    waits = threading.Event()
    getresponse = http.client.HTTPConnection.getresponse

    def waited(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        moments["waits"] = time.perf_counter()
        waits.set()
        return getresponse(connection)

    def act(heard: Heard) -> None:
        moments["came"] = time.perf_counter()
        heard.over.wait(0.05)
        moments["read"] = time.perf_counter()
        for _ in heard.body():
            pass
        waits.wait(LONG_S)
        heard.over.wait(0.05)
        moments["answered"] = time.perf_counter()
        heard.says(answer(b"zDv1"))

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", waited)
    with program(act) as api:
        path = hollow(tmp_path, 64 * MB)
        before = time.perf_counter()
        _, seconds = api.send("/data", Upload(path), LONG_S)
        after = time.perf_counter()

    assert {"publish_s", "upload_accept_s"} == set(seconds)
    assert moments["read"] - moments["came"] <= seconds["upload_accept_s"] <= moments["waits"] - before
    assert moments["answered"] - moments["came"] <= seconds["publish_s"] <= after - before


# --- uploads that are refused ---

QUOTA = b"Not enough storage quota: 1000 bytes are left"
REFUSALS = {
    "length": answer(QUOTA, "507 Insufficient Storage"),
    "close": answer(QUOTA, "413 Too Large", "Connection: close"),
    "no length": b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n" + QUOTA,
    "chunked": b"HTTP/1.1 422 No\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(QUOTA), QUOTA),
}


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("after", [0, 1, 8 * MB], ids=["at once", "begun", "half"])
@pytest.mark.parametrize("size", [MB, 16 * MB], ids=["small", "large"])
def test_a_refusal_is_told_though_the_connection_breaks(said: bytes, after: int, size: int, tmp_path: Path) -> None:
    """A full node answers and hangs up on what is still sent: its reason counts, not the broken pipe."""
    with program(refuses(said, min(after, size))) as api:
        text = refused(api, Upload(hollow(tmp_path, size), {}, b"<" * 1000, b">" * 1000))

    status = said.split()[1].decode()
    assert f"POST {api.base}/data: status {status}, expected 200: {QUOTA!r}" == text


def test_a_refusal_is_told_when_it_was_just_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes right after it was looked for, and the next bytes break the connection."""
    monkeypatch.setattr("select.select", lambda reads, writes, *_: ([], writes, []))
    with program(refuses(REFUSALS["length"])) as api:
        text = refused(api, Upload(hollow(tmp_path, 64 * MB)))

    assert f"POST {api.base}/data: status 507, expected 200: {QUOTA!r}" == text


def test_a_refusal_is_told_while_nobody_hangs_up(tmp_path: Path) -> None:
    """A program that answers and then neither reads nor closes: its answer is not waited past."""
    with program(refuses(REFUSALS["length"], then=stands)) as api:
        text = refused(api, Upload(hollow(tmp_path, 64 * MB)))

    assert f"POST {api.base}/data: status 507, expected 200: {QUOTA!r}" == text


def test_a_refusal_is_told_by_who_reads_on(tmp_path: Path) -> None:
    """A polite program takes the rest and throws it away."""

    def reads_on(heard: Heard) -> None:
        while heard.wire.recv(PIECE):
            pass

    with program(refuses(REFUSALS["length"], then=reads_on)) as api:
        text = refused(api, Upload(hollow(tmp_path, 64 * MB)))

    assert f"POST {api.base}/data: status 507, expected 200: {QUOTA!r}" == text


@pytest.mark.parametrize("then", [lambda heard: None, stands], ids=["closes", "stands"])
def test_a_welcome_before_the_whole_file_is_no_success(then: Act, tmp_path: Path) -> None:
    """Status 200 for a part of the bytes: what was published is not the file."""
    with program(refuses(answer(b"zDv1"), 1, then)) as api:
        text = refused(api, Upload(hollow(tmp_path, 64 * MB)))

    assert re.fullmatch(rf"POST {api.base}/data: status 200 after \d+ of {64 * MB} bytes: b'zDv1'", text)


@pytest.mark.parametrize("after", [0, 20 * MB], ids=["at once", "half"])
@pytest.mark.parametrize("reset", [False, True], ids=["hangs up", "resets"])
def test_a_connection_that_breaks_without_a_word_is_told(after: int, reset: bool, tmp_path: Path) -> None:
    """A program that died: request and reason, long before the deadline."""

    def act(heard: Heard) -> None:
        for _ in heard.body(after) if after else ():
            pass
        if reset:
            heard.resets()

    with program(act) as api:
        text = refused(api, Upload(hollow(tmp_path, 64 * MB)))

    assert re.match(rf"POST {api.base}/data: (ConnectionResetError|BrokenPipeError|RemoteDisconnected): ", text)


def test_nobody_to_send_to_is_told(tmp_path: Path) -> None:
    """Nobody listens: request and reason."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = Api(f"http://127.0.0.1:{free.getsockname()[1]}")

    text = refused(api, Upload(file_of(tmp_path, b"0")))

    assert f"POST {api.base}/data: ConnectionRefusedError: " in text


# --- uploads without end ---


def test_a_program_that_stops_reading_ends_at_the_deadline(tmp_path: Path) -> None:
    """The error says how long it had, and how much it took."""
    size = 64 * MB
    with program(stands) as api:
        text = refused(api, Upload(hollow(tmp_path, size), {}, b"<", b">"), SOON_S)

    took = re.fullmatch(rf"POST {api.base}/data: not done within 0.3 s: it took (\d+) of {size + 2} bytes", text)
    assert took
    assert int(took[1]) < size


@pytest.mark.parametrize("size, deadline_s", [(0, SOON_S), (1000, 1.0)], ids=["empty", "full"])
def test_a_program_that_takes_all_and_never_answers_ends_at_the_deadline(
    size: int, deadline_s: float, tmp_path: Path
) -> None:
    """The error does not complain of bytes, for they were taken."""

    def act(heard: Heard) -> None:
        for _ in heard.body():
            pass
        stands(heard)

    with program(act) as api:
        text = refused(api, Upload(hollow(tmp_path, size)), deadline_s)

    assert f"POST {api.base}/data: not done within {deadline_s:g} s" == text


@pytest.mark.parametrize("name", ["header", "length"])
def test_an_uploads_answer_that_drips_ends_at_the_deadline(name: str, tmp_path: Path) -> None:
    """The deadline is one of the whole upload."""
    with program(drips(*DRIPS[name])) as api:
        text = refused(api, Upload(file_of(tmp_path, b"")), SOON_S)

    assert f"POST {api.base}/data: not done within 0.3 s" == text


def test_a_program_that_reads_in_drops_ends_at_the_deadline(tmp_path: Path) -> None:
    """A byte taken now and again does not keep it alive."""

    def act(heard: Heard) -> None:
        for _ in range(200):
            if heard.over.wait(0.05):
                return
            heard.wire.recv(1 << 18)

    with program(act) as api:
        text = refused(api, Upload(hollow(tmp_path, 300 * MB)), SOON_S)

    assert f"POST {api.base}/data: not done within 0.3 s: it took " in text


# --- files that are not what they were ---


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Before anything is sent: it is no transfer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = Api(f"http://127.0.0.1:{listener.getsockname()[1]}")
        text = refused(api, Upload(tmp_path / "absent"))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert f"POST {api.base}/data: FileNotFoundError: " in text
    assert str(tmp_path / "absent") in text


class Vanishing(Upload):
    """Its file goes when its size is known."""

    def pieces(self, size: int) -> Iterator[bytes]:
        self.file.unlink()
        return super(Vanishing, self).pieces(size)  # noqa: UP008 - a dataclass with slots is another class


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    """After its length was announced."""
    with program(answers()) as api:
        text = refused(api, Vanishing(file_of(tmp_path, b"0" * 1000)))

    assert f"POST {api.base}/data: FileNotFoundError: " in text


def changing(path: Path, size: int) -> Any:
    """A file whose size becomes ``size`` while it is sent."""

    class Changing(Upload):
        def pieces(self, announced: int) -> Iterator[bytes]:
            with path.open("r+b") as file:
                file.truncate(size)
            return Upload.pieces(self, announced)

    return Changing(path)


def test_a_file_that_shrinks_is_told_at_once(tmp_path: Path) -> None:
    """The program would wait for the rest until the deadline, and the fault would seem to be its."""
    path = hollow(tmp_path, 3 * MB)

    with program(answers(answer(b"zDv1"))) as api:
        text = refused(api, changing(path, MB))

    assert f"POST {api.base}/data: " in text
    assert f"{path} became shorter while it was sent: its last {2 * MB} bytes are missing" in text


def test_a_file_that_grows_is_sent_as_it_was(tmp_path: Path) -> None:
    """No more than was announced."""
    counts: list[int] = []

    def act(heard: Heard) -> None:
        counts.append(sum(map(len, heard.body())))
        heard.says(answer(b"zDv1"))
        counts.append(len(heard.wire.recv(PIECE)))

    with program(act) as api:
        api.send("/data", changing(hollow(tmp_path, 3 * MB), 4 * MB), LONG_S)

    assert [3 * MB, 0] == counts
