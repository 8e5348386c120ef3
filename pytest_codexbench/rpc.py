"""Requests between the parts of a cluster: JSON in, JSON or JSON lines out, by HTTP over a Unix or TCP socket."""

from __future__ import annotations

import hmac
import http.client
import json
import os
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pytest_codexbench import errors
from pytest_codexbench.errors import AgentError, BenchError, Unreachable, WrongInput

Message = dict[str, Any]
Verb = Callable[[Message], Message | Iterator[Message]]
Page = Callable[[], bytes]

MOST_BODY = 64 << 20
MOST_STRANGE_BODY = 1 << 16
# The kernel's limit of a Unix socket's path, less the ending zero.
MOST_PATH = 107
TOKEN_VARIABLE = "CODEXBENCH_TOKEN"  # noqa: S105 - the variable's name, not a secret
TICKET, SKIP = "Codexbench-Ticket", "Codexbench-Skip"
# A task whose reader went away is ended after so long; what it said is kept as long.
ALONE_S = 60.0


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers ``POST /<verb>`` with the verb's function, each request in a thread; only with the run's token.

    ``url`` is ``unix:/path`` or ``http://address:port`` (port 0 takes a free one; ``url`` then tells it). A verb that
    streams ends when its reader goes away; one that was asked for with a ticket goes on for ``alone_s`` seconds, and
    whoever shows the same ticket reads on. ``pages`` are texts by path, for anybody's ``GET``: nothing is done by them.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self,
        url: str,
        token: str,
        verbs: Mapping[str, Verb],
        alone_s: float = ALONE_S,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self.token, self.verbs, self.alone_s, self.pages = token, verbs, alone_s, pages or {}
        self._tasks: dict[str, _Task] = {}
        self._tasks_lock = threading.Lock()
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self.address_family = socket.AF_UNIX
            Path(parts.path).unlink(missing_ok=True)
            super().__init__(parts.path, _Handler)  # type: ignore[arg-type]  # typeshed knows only internet addresses
            self.url = url
        else:
            super().__init__((parts.hostname or "127.0.0.1", parts.port or 0), _Handler)
            self.url = f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error; anything else is said on stderr, which is the log."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()

    def start(self) -> None:
        """Answer in a thread, until the process ends or ``shutdown``."""
        threading.Thread(target=self.serve_forever, name="rpc", daemon=True).start()

    def task(self, ticket: str, verb: Verb, request: Message, skip: int) -> Message | Iterator[Message]:
        """The answer of ``verb``, called once for each ticket; of a stream, the lines after the first ``skip``.

        Raises:
            AgentError: if lines of a task are wanted that is not known here.
        """
        with self._tasks_lock:
            self._tasks = {name: task for name, task in self._tasks.items() if not task.over}
            known = self._tasks.get(ticket)
            if known is None and skip:
                raise AgentError(f"no task {ticket!r} of which {skip} lines were said: of another process, or too old")
            if known is None:
                answer = verb(request)
                if isinstance(answer, dict):
                    return answer
                known = self._tasks[ticket] = _Task(answer, self.alone_s)
        return known.lines(skip)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # a client that says nothing, or takes nothing, does not hold a thread for ever
    timeout = 60
    server: Server

    @property
    def disable_nagle_algorithm(self) -> bool:  # type: ignore[override]  # an attribute of the class there
        """Over TCP each line goes at once: otherwise one may wait 40 ms for the other side's word on the one before."""
        return self.server.address_family == socket.AF_INET

    def address_string(self) -> str:
        return "peer"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are not news."""

    def do_POST(self) -> None:
        self.close_connection = True
        given = self.headers.get("Authorization", "")
        known = hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode())
        body = self._taken(MOST_BODY if known else MOST_STRANGE_BODY)
        if not known:
            return self._answer(401, _told(AgentError("the run's token is missing or wrong")))
        verb = self.server.verbs.get(self.path.strip("/"))
        if verb is None:
            return self._answer(404, _told(AgentError(f"no verb {self.path!r}")))
        try:
            request, ticket = _parsed(body), self.headers.get(TICKET)
            answer = self.server.task(ticket, verb, request, self._skip()) if ticket else verb(request)
        except WrongInput as error:
            return self._answer(400, _told(error))
        except BenchError as error:
            return self._answer(409, _told(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side is to hear of it
            traceback.print_exc()
            return self._answer(500, _told(error))
        if isinstance(answer, dict):
            return self._answer(200, answer)
        return self._stream(answer)

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            return self._answer(405, _told(AgentError("requests are POST /<verb>")))
        try:
            text = page()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side is to hear of it
            traceback.print_exc()
            return self._answer(500, _told(error))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        return None

    def _taken(self, most: int) -> bytes | WrongInput:
        """The body, read before any answer: unread, it would break the connection before a refusal is through."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return WrongInput("Content-Length is missing or no number")
        if not 0 <= length <= most:
            return WrongInput(f"a body of {length} bytes: at most {most} are taken")
        return self.rfile.read(length)

    def _skip(self) -> int:
        text = self.headers.get(SKIP, "0")
        if not text.isdecimal():
            raise WrongInput(f"{SKIP}: {text!r} is not a number of lines")
        return int(text)

    def _answer(self, status: int, message: Message) -> None:
        data = json.dumps(message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, lines: Iterator[Message]) -> None:
        """One line a message until the iterator ends or the client goes away; an error is the last line."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(ConnectionError), closing(_said(lines)) as said:
            for line in said:
                self.wfile.write(json.dumps(line).encode() + b"\n")


def _said(lines: Iterator[Message]) -> Generator[Message, None, None]:
    """The lines; an error becomes the last of them."""
    with closing(lines):  # type: ignore[type-var]  # verbs that stream are generators
        try:
            yield from lines
        except BenchError as error:
            yield _told(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side is to hear of it
            traceback.print_exc()
            yield _told(error)


class _Task:
    """A streaming verb at work in a thread of its own: what it says is kept, for a reader that lost its connection."""

    def __init__(self, lines: Iterator[Message], alone_s: float) -> None:
        self._alone_s = alone_s
        self._kept: list[Message] = []
        self._ended = False
        self._readers = 0
        self._left_at = time.monotonic()
        self._news = threading.Condition()
        threading.Thread(target=self._work, args=(lines,), name="task", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether it has ended and nobody came for what it said."""
        return self._ended and self._alone

    @property
    def _alone(self) -> bool:
        return not self._readers and time.monotonic() - self._left_at > self._alone_s

    def _work(self, lines: Iterator[Message]) -> None:
        with closing(_said(lines)) as said:
            for line in said:
                with self._news:
                    self._kept.append(line)
                    self._news.notify_all()
                    if self._alone:
                        break
        with self._news:
            self._ended = True
            self._news.notify_all()

    def lines(self, skip: int) -> Iterator[Message]:
        """All that it says from line ``skip`` on, to its end."""
        with self._news:
            self._readers += 1
        try:
            while (line := self._line(skip)) is not None:
                yield line
                skip += 1
        finally:
            with self._news:
                self._readers -= 1
                self._left_at = time.monotonic()

    def _line(self, number: int) -> Message | None:
        """One line, as soon as it is said; None after the end."""
        with self._news:
            self._news.wait_for(lambda: len(self._kept) > number or self._ended)
            return self._kept[number] if len(self._kept) > number else None


def _parsed(taken: bytes | WrongInput) -> Message:
    if isinstance(taken, WrongInput):
        raise taken
    try:
        body = json.loads(taken or b"{}")
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise WrongInput("the body is not a JSON object")
    return body


def _told(error: BaseException) -> Message:
    text = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
    return {"error": {"kind": type(error).__name__, "text": text}}


def _raised(message: Message, what: str) -> BenchError:
    """The error that an answer tells of, of its own class again."""
    told = message["error"] if isinstance(message["error"], dict) else {"text": message["error"]}
    kind = getattr(errors, str(told.get("kind")), None)
    # whoever tells it was reached; of a third party that was not, it says so in its words
    if isinstance(kind, type) and issubclass(kind, BenchError) and kind is not Unreachable:
        return kind(str(told.get("text")))
    return AgentError(f"{what}: {told.get('text')}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def look(url: str, path: str, timeout_s: float) -> bytes:
    """The text of a page that the other side has for anybody.

    Raises:
        AgentError: if it has none there; ``Unreachable`` if it could not be reached in time.
    """
    what = f"{path} at {url}"
    with closing(_connection(url, timeout_s)) as connection:
        try:
            connection.request("GET", path)
            with closing(connection.getresponse()) as response:
                text = response.read(MOST_BODY)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{what}: {type(error).__name__}: {error}") from error
    if response.status != http.HTTPStatus.OK:
        raise AgentError(f"{what}: status {response.status}")
    return text


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path, timeout_s)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)


def _open(
    url: str,
    verb: str,
    body: Message,
    token: str,
    timeout_s: float,
    more: Mapping[str, str],
    ready: Callable[[], None] | None = None,
) -> http.client.HTTPResponse:
    """Ask; with ``ready``, which is called in between, only once the other side waits for nothing but the body."""
    connection = _connection(url, timeout_s)
    text, head = json.dumps(body).encode(), {"Authorization": f"Bearer {token}", **more}
    try:
        if ready is None:
            connection.request("POST", f"/{verb}", text, head)
        else:
            _announce(connection, f"/{verb}", {**head, "Content-Length": str(len(text)), "Expect": "100-continue"})
            ready()
            connection.send(text)
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Unreachable(f"{verb} at {url}: {type(error).__name__}: {error}") from error
    except BaseException:
        connection.close()
        raise


def _announce(connection: http.client.HTTPConnection, path: str, head: Mapping[str, str]) -> None:
    """Send all but the body, and wait until the other side says to go on (RFC 9110, 10.1.1), or anything else."""
    connection.putrequest("POST", path)
    for name, value in head.items():
        connection.putheader(name, value)
    connection.endheaders()
    # not read: getresponse() passes over an answer that says no more than to go on
    if not connection.sock.recv(1, socket.MSG_PEEK):
        raise http.client.RemoteDisconnected("it closed the connection before it had the body")


def call(url: str, verb: str, body: Message | None = None, *, token: str, timeout_s: float = 30) -> Message:
    """One request, one answer.

    Raises:
        BenchError: of the class that the other side raised; ``Unreachable`` if it could not be reached in time.
    """
    what = f"{verb} at {url}"
    with closing(_open(url, verb, body or {}, token, timeout_s, {})) as response:
        try:
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"{what}: no whole answer: {type(error).__name__}: {error}") from error
        if not isinstance(answer, dict):
            raise AgentError(f"{what}: the answer is not a JSON object")
        if "error" in answer or response.status != http.HTTPStatus.OK:
            raise _raised(answer if "error" in answer else {"error": {"text": f"status {response.status}"}}, what)
        return answer


def stream(
    url: str,
    verb: str,
    body: Message | None = None,
    *,
    token: str,
    timeout_s: float = 30,
    ticket: str = "",
    skip: int = 0,
    ready: Callable[[], None] | None = None,
) -> Iterator[Message]:
    """One request, its lines as they come. ``timeout_s`` bounds the wait for each line.

    With a ``ticket`` the same request can be made again, and goes on after the first ``skip`` lines. ``ready`` is
    called when the other side waits for nothing but the body, which follows.

    Raises:
        BenchError: of the class that the other side raised, at the line that tells of it; ``Unreachable`` if it went
            away or was silent for too long.
    """
    what, more = f"{verb} at {url}", {TICKET: ticket, SKIP: str(skip)} if ticket else {}
    with closing(_open(url, verb, body or {}, token, timeout_s, more, ready)) as response:
        fine, read = response.status == http.HTTPStatus.OK, _reader()
        while True:
            try:
                line = response.readline()
                message = read(line) if line else None
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise Unreachable(f"{what}: broke off: {type(error).__name__}: {error}") from error
            if not fine and not (isinstance(message, dict) and "error" in message):
                raise AgentError(f"{what}: status {response.status}")
            if not line:
                return
            if not isinstance(message, dict):
                raise AgentError(f"{what}: a line is not a JSON object: {line[:100]!r}")
            if "error" in message:
                raise _raised(message, what)
            yield message


def load_quick_reader() -> None:
    """Streams are read by pydantic's reader from now on: a sixth of the time. The driver's; agents have no pydantic."""
    import pydantic_core  # noqa: F401 - found by its name where lines are read


def _reader() -> Callable[[bytes], Any]:
    quick = sys.modules.get("pydantic_core")
    return json.loads if quick is None else cast("Callable[[bytes], Any]", quick.from_json)


def token_from_environment() -> str:
    """The run's token, which is handed over in the environment, where other users cannot see it.

    Raises:
        WrongInput: if it is not there.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise WrongInput(f"the environment variable {TOKEN_VARIABLE} is not set")
    return token
