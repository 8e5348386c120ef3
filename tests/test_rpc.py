"""Requests between the parts of a cluster: JSON in, JSON or JSON lines out, by HTTP over a Unix or TCP socket."""

import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pytest_codexbench import errors
from pytest_codexbench.errors import AgentError, BadTransfer, BenchError, CannotRun, NotReady, Unreachable, WrongInput
from pytest_codexbench.rpc import MOST_BODY, TOKEN_VARIABLE, Message, Server, call, stream, token_from_environment

TOKEN = "right"
CLASSES = [WrongInput, CannotRun, NotReady, BadTransfer, AgentError, BenchError]


class Verbs:
    """What the server under test can do."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.go_on = threading.Event()

    def echo(self, request: Message) -> Message:
        return {"heard": request}

    def fail(self, request: Message) -> Message:
        raise getattr(errors, request["kind"])(request["text"])

    def crash(self, request: Message) -> Message:
        raise ZeroDivisionError("by zero")

    def count(self, request: Message) -> Iterator[Message]:
        for number in range(request["to"]):
            yield {"number": number}

    def break_off(self, request: Message) -> Iterator[Message]:
        yield {"number": 0}
        raise getattr(errors, request["kind"])(request["text"])

    def crash_later(self, request: Message) -> Iterator[Message]:
        yield {"number": 0}
        raise ZeroDivisionError("by zero")

    def wait(self, request: Message) -> Iterator[Message]:
        yield {"number": 0}
        self.go_on.wait(20)
        yield {"number": 1}

    def endless(self, request: Message) -> Iterator[Message]:
        try:
            while True:
                yield {"more": "x" * 1000}
                time.sleep(0.005)
        finally:
            self.ended.set()


VERBS = ("echo", "fail", "crash", "count", "break_off", "crash_later", "wait", "endless")


@pytest.fixture(scope="module", params=["http", "unix"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, Verbs]]:
    """A server over TCP, and one over a Unix socket: its address, and what stands behind it."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        address = f"unix:{folder}/socket" if request.param == "unix" else "http://127.0.0.1:0"
        verbs = Verbs()
        with Server(address, TOKEN, {name: getattr(verbs, name) for name in VERBS}) as server:
            server.start()
            yield server.url, verbs
            server.shutdown()


@pytest.fixture
def url(served: tuple[str, Verbs]) -> str:
    """The server's address."""
    return served[0]


def raw(url: str, data: bytes) -> tuple[int, Message]:
    """Status and answer to whatever bytes."""
    parts = urlsplit(url)
    family, address = (
        (socket.AF_UNIX, parts.path) if parts.scheme == "unix" else (socket.AF_INET, (parts.hostname, parts.port))
    )
    with socket.socket(family, socket.SOCK_STREAM) as wire:
        wire.settimeout(20)
        wire.connect(address)
        wire.sendall(data)
        answer = http.client.HTTPResponse(wire)
        with closing(answer):
            answer.begin()
            return answer.status, json.loads(answer.read())


def request(body: bytes, *more: str, verb: str = "echo") -> bytes:
    """A request with the right token."""
    lines = [f"POST /{verb} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


# --- answers ---


def test_a_verb_answers_with_what_it_was_asked(url: str) -> None:
    """JSON there, JSON back, of any language; no body is an empty one."""
    body: Message = {"text": 'Grüße, 世界, \u2028 "', "number": 1.5, "nothing": None, "list": [1, {"a": True}]}

    assert {"heard": body} == call(url, "echo", body, token=TOKEN)
    assert {"heard": {}} == call(url, "echo", token=TOKEN)


def test_large_requests_and_answers_are_whole(url: str) -> None:
    """A node's log of some MB passes."""
    body = {"log": "x" * (5 << 20)}

    assert {"heard": body} == call(url, "echo", body, token=TOKEN)


def test_lines_come_one_by_one_to_their_end(url: str) -> None:
    """A streaming verb's messages in order; none is an empty stream."""
    assert [{"number": number} for number in range(1000)] == list(stream(url, "count", {"to": 1000}, token=TOKEN))
    assert [] == list(stream(url, "count", {"to": 0}, token=TOKEN))


def test_a_line_comes_when_it_is_said_and_not_at_the_end(served: tuple[str, Verbs]) -> None:
    """The reader has the first line while the verb waits."""
    url, verbs = served
    verbs.go_on.clear()
    lines = stream(url, "wait", token=TOKEN, timeout_s=20)
    first = next(lines)
    verbs.go_on.set()

    assert {"number": 0} == first
    assert [{"number": 1}] == list(lines)


def test_requests_are_answered_at_the_same_time(served: tuple[str, Verbs]) -> None:
    """A long verb holds up no other."""
    url, verbs = served
    verbs.go_on.clear()
    with closing(stream(url, "wait", token=TOKEN, timeout_s=20)) as lines:  # type: ignore[type-var]  # a generator
        next(lines)

        assert {"heard": {"a": 1}} == call(url, "echo", {"a": 1}, token=TOKEN)
        verbs.go_on.set()


# --- refusals ---


@pytest.mark.parametrize("token", ["", "wrong", "righ", "right ", "Right"])
def test_a_wrong_token_is_refused(url: str, token: str) -> None:
    """Only the run's own requests are served, and streams no less."""
    with pytest.raises(AgentError, match="token is missing or wrong"):
        call(url, "echo", token=token)
    with pytest.raises(AgentError, match="token is missing or wrong"):
        next(stream(url, "count", {"to": 1}, token=token))


@pytest.mark.parametrize(
    "header", ["", "Authorization: right\r\n", "Authorization: Basic right\r\n", "Authorization: Bearer \xff\r\n"]
)
def test_a_request_without_the_token_is_not_authorised(url: str, header: str) -> None:
    """Status 401, and the reason."""
    data = f"POST /echo HTTP/1.1\r\nHost: x\r\n{header}Content-Length: 2\r\n\r\n{{}}".encode("latin-1")
    status, answer = raw(url, data)

    assert 401 == status
    assert {"error": {"kind": "AgentError", "text": "the run's token is missing or wrong"}} == answer


@pytest.mark.parametrize("length", ["", "Content-Length: 0\r\n"])
def test_a_refusal_does_not_wait_for_a_body_that_is_not_sent(url: str, length: str) -> None:
    """Whoever asks without a body, and without the token, has the answer at once."""
    status, _ = raw(url, f"POST /echo HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode())

    assert 401 == status


def test_an_unknown_verb_is_named(url: str) -> None:
    """Agent and runner of two versions: who asks learns what is not known."""
    with pytest.raises(AgentError, match="no verb '/dance'"):
        call(url, "dance", token=TOKEN)
    with pytest.raises(AgentError, match="no verb '/dance'"):
        next(stream(url, "dance", token=TOKEN))


def test_only_post_is_served(url: str) -> None:
    """A GET changes nothing, and is told so."""
    assert 405 == raw(url, b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")[0]


@pytest.mark.parametrize(
    "data, told",
    [
        (request(b"{", "Content-Length: 1"), "not JSON"),
        (request(b"\xff\xfe{}", "Content-Length: 4"), "not JSON"),
        (request(b"[" * 100_000, "Content-Length: 100000"), "not JSON"),
        (request(b"9" * 5000, "Content-Length: 5000"), "not JSON"),
        (request(b"[]", "Content-Length: 2"), "not a JSON object"),
        (request(b"null", "Content-Length: 4"), "not a JSON object"),
        (request(b"{}"), "Content-Length is missing"),
        (request(b"{}", "Content-Length: two"), "Content-Length is missing or no number"),
        (request(b"", "Content-Length: -1"), "-1 bytes"),
        (request(b"", f"Content-Length: {MOST_BODY + 1}"), f"{MOST_BODY + 1} bytes"),
        (request(b"", "Content-Length: " + "9" * 100), "9 bytes"),
    ],
    ids=["cut", "bytes", "deep", "digits", "list", "null", "no length", "words", "negative", "large", "huge"],
)
def test_a_body_that_is_no_object_is_refused(url: str, data: bytes, told: str) -> None:
    """Not JSON, not an object, too large, of unknown length: status 400, and what is wrong."""
    status, answer = raw(url, data)

    assert 400 == status
    assert "WrongInput" == answer["error"]["kind"]
    assert told in answer["error"]["text"]


# --- errors ---


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_comes_back_as_what_it_was(url: str, kind: type[BenchError]) -> None:
    """A failed transfer must not look like trouble with the agent: the class and the words are the same here."""
    with pytest.raises(kind) as caught:
        call(url, "fail", {"kind": kind.__name__, "text": "n07: ünd so"}, token=TOKEN)

    assert kind is caught.type
    assert "n07: ünd so" == str(caught.value)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_stream_ends_with_its_error(url: str, kind: type[BenchError]) -> None:
    """Lines until then are there; the last one raises, of the same class."""
    lines = stream(url, "break_off", {"kind": kind.__name__, "text": "n07: no"}, token=TOKEN)

    assert {"number": 0} == next(lines)
    with pytest.raises(kind) as caught:
        next(lines)
    assert kind is caught.type
    assert "n07: no" == str(caught.value)


def test_a_programmers_mistake_is_an_agents_error(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is raised there is heard here, and its traceback is in the log there."""
    with pytest.raises(AgentError, match=r"crash at .*ZeroDivisionError: by zero"):
        call(url, "crash", token=TOKEN)
    with pytest.raises(AgentError, match=r"crash_later at .*ZeroDivisionError: by zero"):
        list(stream(url, "crash_later", token=TOKEN))

    assert 2 == capfd.readouterr().err.count("Traceback")


def test_a_name_that_is_no_error_of_ours_is_an_agents_error() -> None:
    """The other side cannot choose any class."""
    answer = b'{"error": {"kind": "annotations", "text": "x"}}'
    with speaking(status("500 No", answer)) as url, pytest.raises(AgentError, match=r"echo at .*: x"):
        call(url, "echo", token=TOKEN)


# --- a client that goes away ---


def test_a_client_that_hangs_up_ends_the_verb(served: tuple[str, Verbs], capfd: pytest.CaptureFixture[str]) -> None:
    """The generator is closed, so that what it holds is let go; the server goes on, and its log says nothing."""
    url, verbs = served
    verbs.ended.clear()
    lines = stream(url, "endless", token=TOKEN)
    next(lines)
    running = not verbs.ended.is_set()
    lines.close()  # type: ignore[attr-defined]  # a generator

    assert running
    assert verbs.ended.wait(20)
    assert {"heard": {}} == call(url, "echo", token=TOKEN)
    assert "" == capfd.readouterr().err


def test_a_client_that_says_nothing_harms_nobody(url: str) -> None:
    """A connection that is opened and closed, or breaks in the middle of a request, is no request."""
    parts = urlsplit(url)
    unix = parts.scheme == "unix"
    for said in (b"", b"POST", request(b"{", "Content-Length: 100")):
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as wire:
            wire.connect(parts.path if unix else (parts.hostname, parts.port))
            wire.sendall(said)

    assert {"heard": {}} == call(url, "echo", token=TOKEN)


# --- a server that goes away ---


class speaking:  # noqa: N801 - used like a function
    """A server that answers the first request with these bytes, and then hangs up or, if told so, hangs."""

    def __init__(self, answer: bytes, hang: bool = False) -> None:
        self.answer, self.hang = answer, hang
        self.done = threading.Event()

    def __enter__(self) -> str:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self) -> None:
        wire, _ = self.listener.accept()
        with wire:
            asked = b""
            while not asked.endswith(b"{}"):
                asked += wire.recv(65536)
            wire.sendall(self.answer)
            if self.hang:
                self.done.wait(20)

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join(20)
        self.listener.close()


def status(line: str, body: bytes, length: int | None = None) -> bytes:
    """An answer of that status."""
    head = f"HTTP/1.1 {line}\r\nContent-Length: {len(body) if length is None else length}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


STREAMED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        status("200 OK", b"{}", 100),
        status("200 OK", b"[]"),
        status("200 OK", b"{x"),
        status("502 Bad Gateway", b"{}"),
        status("502 Bad Gateway", b"<html>"),
    ],
    ids=["nothing", "no HTTP", "cut off", "a list", "no JSON", "another status", "a proxy's page"],
)
def test_an_answer_that_is_not_whole_is_an_agents_error(answer: bytes) -> None:
    """Whatever listens there: who was asked for what is named."""
    with speaking(answer) as url, pytest.raises(AgentError) as caught:
        call(url, "echo", token=TOKEN)

    assert f"echo at {url}: " in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        STREAMED + b'{"number": 0}\n{"numb',
        STREAMED + b"[]\n",
        STREAMED + b"3\n",
        STREAMED + b"null\n",
        status("502 Bad Gateway", b"{}"),
        status("502 Bad Gateway", b"<html>"),
    ],
    ids=["nothing", "no HTTP", "cut off", "a list", "a number", "null", "another status", "a proxy's page"],
)
def test_a_stream_that_is_not_whole_is_an_agents_error(answer: bytes) -> None:
    """Half a line, something else than objects, or another server altogether."""
    with speaking(answer) as url, pytest.raises(AgentError) as caught:
        list(stream(url, "count", token=TOKEN))

    assert f"count at {url}: " in str(caught.value)


def test_a_server_that_is_silent_is_not_waited_for_for_ever() -> None:
    """A wait has an end, before the answer and between two lines."""
    with speaking(b"", hang=True) as url, pytest.raises(AgentError, match="TimeoutError"):
        call(url, "echo", token=TOKEN, timeout_s=0.1)
    with speaking(STREAMED + b'{"number": 0}\n', hang=True) as url:
        lines = stream(url, "count", token=TOKEN, timeout_s=0.1)

        assert {"number": 0} == next(lines)
        with pytest.raises(AgentError, match="broke off: TimeoutError"):
            next(lines)


def test_nobody_there_is_an_agents_error(tmp_path: Path) -> None:
    """A refused connection and a socket that does not exist name verb and address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    for url in (f"http://127.0.0.1:{port}", f"unix:{tmp_path}/absent"):
        with pytest.raises(AgentError) as caught:
            call(url, "echo", token=TOKEN)
        assert f"echo at {url}: " in str(caught.value)


# --- requests whose last word waits ---


def test_a_request_waits_for_its_last_word(served: tuple[str, Verbs]) -> None:
    """The other side has all but the body when ``ready`` is called, and does nothing before it has that too."""
    url, _ = served
    order: list[str] = []

    def ready() -> None:
        order.append("ready")
        assert {"heard": {}} == call(url, "echo", token=TOKEN)

    lines = list(stream(url, "count", {"to": 2}, token=TOKEN, ready=ready))

    assert ["ready"] == order
    assert [{"number": 0}, {"number": 1}] == lines


def test_a_last_word_that_is_not_said_ends_the_request(url: str) -> None:
    """What ``ready`` raises is raised, and nothing is done."""

    def ready() -> None:
        raise NotReady("the others are away")

    with pytest.raises(NotReady, match="the others are away"):
        next(stream(url, "count", {"to": 2}, token=TOKEN, ready=ready))


def test_who_is_not_let_in_learns_it_after_the_last_word(url: str) -> None:
    """The token is looked at when all is there."""
    with pytest.raises(AgentError, match="token is missing or wrong"):
        next(stream(url, "count", {"to": 2}, token="wrong", ready=lambda: None))


def test_another_side_that_goes_before_it_is_ready_is_not_reached() -> None:
    """It is told as lost, so that it can be asked again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)

        threading.Thread(target=close, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"closed the connection|ConnectionResetError"):
            next(stream(address, "count", token=TOKEN, ready=lambda: pytest.fail("nobody is ready")))


# --- answers that break off ---


class Steps:
    """A verb whose every line is let out on its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.said = 0
        self.ended = threading.Event()
        self.out = threading.Semaphore(0)

    def steps(self, request: Message) -> Iterator[Message]:
        self.calls += 1
        try:
            for number in range(request["to"]):
                self.out.acquire(timeout=20)
                self.said = number + 1
                yield {"number": number}
        finally:
            self.ended.set()


@pytest.fixture
def stepping() -> Iterator[tuple[str, Steps]]:
    """A server that waits half a second for a reader that went away."""
    verb = Steps()
    with Server("http://127.0.0.1:0", TOKEN, {"steps": verb.steps}, alone_s=0.5) as server:
        server.start()
        yield server.url, verb
        server.shutdown()


def test_with_a_ticket_an_answer_is_read_on_where_it_broke(stepping: tuple[str, Steps]) -> None:
    """The verb is called once; every line comes once, whether it was said before, meanwhile or after."""
    url, verb = stepping
    verb.out.release(2)
    lines = stream(url, "steps", {"to": 4}, token=TOKEN, ticket="t")
    with closing(lines):  # type: ignore[type-var]  # a generator
        first = next(lines)
    verb.out.release(2)

    rest = list(stream(url, "steps", {"to": 4}, token=TOKEN, ticket="t", skip=1))

    assert [{"number": number} for number in range(4)] == [first, *rest]
    assert 1 == verb.calls


def test_a_ticket_of_which_lines_are_missed_must_be_known(stepping: tuple[str, Steps]) -> None:
    """An agent that was started anew does not begin a transfer again that was half told."""
    url, verb = stepping
    with pytest.raises(AgentError, match="no task 't' of which 3 lines were said: of another process"):
        next(stream(url, "steps", {"to": 4}, token=TOKEN, ticket="t", skip=3))

    assert 0 == verb.calls


def test_a_task_that_nobody_comes_back_to_ends(stepping: tuple[str, Steps]) -> None:
    """A run that was killed does not keep nodes at work."""
    url, verb = stepping
    verb.out.release()
    with closing(stream(url, "steps", {"to": 10**6}, token=TOKEN, ticket="t")) as lines:  # type: ignore[type-var]  # a generator
        next(lines)
    for _ in range(10**6):
        verb.out.release()
        if verb.ended.wait(0.01):
            break

    assert verb.ended.is_set()
    assert verb.said < 10**6


def test_the_error_of_a_task_is_told_to_who_comes_back(url: str) -> None:
    """As the last line, of its own class."""
    body = {"kind": "BadTransfer", "text": "no"}
    first = next(stream(url, "break_off", body, token=TOKEN, ticket="b"))

    with pytest.raises(BadTransfer, match="no"):
        list(stream(url, "break_off", body, token=TOKEN, ticket="b", skip=1))
    assert {"number": 0} == first


def test_a_number_of_lines_is_one(url: str) -> None:
    """Anything else is told."""
    head = f"POST /count HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nCodexbench-Ticket: t\r\n"
    status, answer = raw(url, f"{head}Codexbench-Skip: -1\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    assert 400 == status
    assert "'-1' is not a number of lines" in answer["error"]["text"]


def test_a_third_party_that_was_not_reached_is_no_lost_connection(url: str) -> None:
    """An agent that cannot reach its node was itself reached: nobody asks it again for that."""
    with pytest.raises(AgentError, match="its node is away") as caught:
        call(url, "fail", {"kind": "Unreachable", "text": "its node is away"}, token=TOKEN)

    assert not isinstance(caught.value, Unreachable)


# --- addresses and tokens ---


def test_a_unix_socket_replaces_one_that_was_left_behind() -> None:
    """An agent that was killed leaves its socket; the next one takes its place."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        address = f"unix:{folder}/socket"
        with Server(address, "old", {}):
            pass
        verbs = Verbs()
        with Server(address, TOKEN, {"echo": verbs.echo}) as server:
            server.start()

            assert address == server.url
            assert {"heard": {}} == call(address, "echo", token=TOKEN)
            server.shutdown()


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the command line, which other users can see; without one nothing starts."""
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert "secret" == token_from_environment()

    for value in ("", None):
        if value is None:
            monkeypatch.delenv(TOKEN_VARIABLE)
        else:
            monkeypatch.setenv(TOKEN_VARIABLE, value)
        with pytest.raises(WrongInput, match=TOKEN_VARIABLE):
            token_from_environment()
