"""A node of the client-server baseline: an origin that serves files, and a client that fetches one to its disk."""

from __future__ import annotations

import argparse
import http.server
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer, WrongInput
from pytest_codexbench.httpbody import read_body
from pytest_codexbench.rpc import Message, Server, Verb, token_from_environment
from pytest_codexbench.timeline import Sample, thin

CHUNK = 1 << 20


class Origin(http.server.ThreadingHTTPServer):
    """Serves the files of one folder: GET, PUT and DELETE ``/<name>``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, folder: Path, port: int = 0) -> None:
        super().__init__((address, port), _Exchange)
        self.folder = folder
        self.sent = 0
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""

    def count_sent(self, length: int) -> None:
        """Bytes of files that went out."""
        with self.lock:
            self.sent += length


class _Exchange(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are not news."""

    def do_GET(self) -> None:
        path = self._path()
        if path is None or not path.is_file():
            return self._say(HTTPStatus.NOT_FOUND)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.flush()
            offset = 0
            while offset < size:
                sent = os.sendfile(self.connection.fileno(), file.fileno(), offset, min(size - offset, CHUNK))
                if not sent:
                    break
                offset += sent
                self.server.count_sent(sent)
        return None

    def do_PUT(self) -> None:
        path = self._path()
        left = int(self.headers.get("Content-Length", -1))
        if path is None or left < 0:
            return self._say(HTTPStatus.BAD_REQUEST)
        part = path.with_suffix(".part")
        piece, trouble = memoryview(bytearray(CHUNK)), None
        try:
            with part.open("wb", buffering=0) as file:
                while left and (length := self.rfile.readinto1(piece[:left])):
                    left -= length
                    if trouble is None:
                        trouble = _written(file.fileno(), piece[:length])
            # the body was read to its end in any case: a client that still sends would not see the answer
            if trouble is None and not left:
                part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        if trouble is not None:
            return self._say(HTTPStatus.INSUFFICIENT_STORAGE, f"{path}: {trouble}")
        return None if left else self._say(HTTPStatus.CREATED)

    def do_DELETE(self) -> None:
        path = self._path()
        if path is not None:
            path.unlink(missing_ok=True)
        self._say(HTTPStatus.NO_CONTENT)

    def _path(self) -> Path | None:
        name = urlsplit(self.path).path.strip("/")
        return self.server.folder / name if name.isalnum() else None

    def _say(self, status: HTTPStatus, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _written(fd: int, data: memoryview) -> OSError | None:
    try:
        _write(fd, data)
    except OSError as error:
        return error
    return None


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


class Client:
    """What the agent beside this node asks of it."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.received = 0

    def health(self, _: Message) -> Message:
        """Whether the origin listens, and where."""
        host, port = self.origin.server_address[:2]
        return {"ready": True, "origin": f"http://{host!s}:{port}", "versions": {"python": platform.python_version()}}

    def fetch(self, request: Message) -> Iterator[Message]:
        """Fetch ``url`` of ``size`` bytes to the store under ``name``: samples, then ``done`` with the path."""
        name, size = str(request["name"]), int(request["size"])
        if not name.isalnum():
            raise WrongInput(f"name {name!r} is not of letters and digits")
        path = self.origin.folder / name
        part = path.with_suffix(".part")
        try:
            with part.open("wb", buffering=0) as file:
                start_ns = time.perf_counter_ns()
                deadline_ns = start_ns + int(request["deadline_s"] * 1e9)
                arrivals = self._arrivals(str(request["url"]), size, deadline_ns, file.fileno())
                for sample in thin(arrivals, size, int(request.get("start_ns", start_ns))):
                    yield {"t_ns": sample.t_ns, "received": sample.received, "held": sample.held}
            part.rename(path)
            yield {"done": True, "path": str(path)}
        except OSError as error:
            raise BadTransfer(f"{path}: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def _arrivals(self, url: str, size: int, deadline_ns: int, fd: int) -> Iterator[Sample]:
        got = 0
        for moment, piece in read_body(url, size, deadline_ns):
            got += len(piece)
            with self.origin.lock:
                self.received += len(piece)
            _write(fd, piece)
            yield Sample(moment, got, got)

    def holds(self, request: Message) -> Message:
        """Whether the store has the file."""
        return {"holds": (self.origin.folder / str(request["name"])).exists()}

    def counters(self, _: Message) -> Message:
        """Bytes of files, without any header."""
        return {"payload_rx_bytes": self.received, "payload_tx_bytes": self.origin.sent}


def _listening(address: str, folder: Path, kept: Path | None) -> Origin:
    """The origin, at the port that it had before if there was one."""
    had = kept.read_text(encoding="ascii") if kept is not None and kept.exists() else "0"
    origin = Origin(address, folder, int(had))
    if kept is not None:
        kept.write_text(str(origin.server_address[1]), encoding="ascii")
    return origin


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", required=True, help="unix:/path of the socket that the agent uses")
    parser.add_argument("--address", required=True, help="address to serve files on")
    parser.add_argument("--data", required=True, type=Path, help="folder for the files")
    parser.add_argument("--port-file", type=Path, help="keeps the origin's port: started again, it has the same")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    origin = _listening(options.address, options.data, options.port_file)
    client = Client(origin)
    quick: dict[str, Verb] = {"health": client.health, "holds": client.holds, "counters": client.counters}
    verbs: dict[str, Verb] = {**quick, "fetch": client.fetch}
    Server(options.control, token_from_environment(), verbs).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with suppress(KeyboardInterrupt):
        origin.serve_forever()


if __name__ == "__main__":
    main()
