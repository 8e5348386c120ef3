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
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytest_codexbench import errors
from pytest_codexbench.errors import AgentError, BenchError, WrongInput

Message = dict[str, Any]
Verb = Callable[[Message], Message | Iterator[Message]]

MOST_BODY = 64 << 20
MOST_STRANGE_BODY = 1 << 16
# The kernel's limit of a Unix socket's path, less the ending zero.
MOST_PATH = 107
TOKEN_VARIABLE = "CODEXBENCH_TOKEN"  # noqa: S105 - the variable's name, not a secret


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers ``POST /<verb>`` with the verb's function, each request in a thread; only with the run's token.

    ``url`` is ``unix:/path`` or ``http://address:port`` (port 0 takes a free one; ``url`` then tells it).
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, url: str, token: str, verbs: Mapping[str, Verb]) -> None:
        self.token, self.verbs = token, verbs
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # a client that says nothing, or takes nothing, does not hold a thread for ever
    timeout = 60
    server: Server

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
            answer = verb(_parsed(body))
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
        self._answer(405, _told(AgentError("requests are POST /<verb>")))

    def _taken(self, most: int) -> bytes | WrongInput:
        """The body, read before any answer: unread, it would break the connection before a refusal is through."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return WrongInput("Content-Length is missing or no number")
        if not 0 <= length <= most:
            return WrongInput(f"a body of {length} bytes: at most {most} are taken")
        return self.rfile.read(length)

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
        with closing(lines):  # type: ignore[type-var]  # verbs that stream are generators
            try:
                for line in lines:
                    self.wfile.write(json.dumps(line).encode() + b"\n")
            except BenchError as error:
                self.wfile.write(json.dumps(_told(error)).encode() + b"\n")
            except ConnectionError:
                return
            except Exception as error:  # noqa: BLE001 - as above
                traceback.print_exc()
                with suppress(ConnectionError):
                    self.wfile.write(json.dumps(_told(error)).encode() + b"\n")


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
    if isinstance(kind, type) and issubclass(kind, BenchError):
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


def _open(url: str, verb: str, body: Message, token: str, timeout_s: float) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "unix":
        connection = _UnixConnection(parts.path, timeout_s)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("POST", f"/{verb}", json.dumps(body), {"Authorization": f"Bearer {token}"})
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise AgentError(f"{verb} at {url}: {type(error).__name__}: {error}") from error


def call(url: str, verb: str, body: Message | None = None, *, token: str, timeout_s: float = 30) -> Message:
    """One request, one answer.

    Raises:
        BenchError: of the class that the other side raised; ``AgentError`` if it could not be reached in time.
    """
    what = f"{verb} at {url}"
    with closing(_open(url, verb, body or {}, token, timeout_s)) as response:
        try:
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise AgentError(f"{what}: no whole answer: {type(error).__name__}: {error}") from error
        if not isinstance(answer, dict):
            raise AgentError(f"{what}: the answer is not a JSON object")
        if "error" in answer or response.status != http.HTTPStatus.OK:
            raise _raised(answer if "error" in answer else {"error": {"text": f"status {response.status}"}}, what)
        return answer


def stream(url: str, verb: str, body: Message | None = None, *, token: str, timeout_s: float = 30) -> Iterator[Message]:
    """One request, its lines as they come. ``timeout_s`` bounds the wait for each line.

    Raises:
        BenchError: of the class that the other side raised, at the line that tells of it; ``AgentError`` if it went
            away or was silent for too long.
    """
    what = f"{verb} at {url}"
    with closing(_open(url, verb, body or {}, token, timeout_s)) as response:
        while True:
            try:
                line = response.readline()
                message = json.loads(line) if line else None
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise AgentError(f"{what}: broke off: {type(error).__name__}: {error}") from error
            if response.status != http.HTTPStatus.OK and not (isinstance(message, dict) and "error" in message):
                raise AgentError(f"{what}: status {response.status}")
            if not line:
                return
            if not isinstance(message, dict):
                raise AgentError(f"{what}: a line is not a JSON object: {line[:100]!r}")
            if "error" in message:
                raise _raised(message, what)
            yield message


def token_from_environment() -> str:
    """The run's token, which is handed over in the environment, where other users cannot see it.

    Raises:
        WrongInput: if it is not there.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise WrongInput(f"the environment variable {TOKEN_VARIABLE} is not set")
    return token
