"""What the cluster of the tests fetches from itself: repositories by Git's smart HTTP, and artifacts by PUT and GET.

``/git/NAME.git`` is served by ``git http-backend`` (go-git, which Argo CD lists branches with, speaks no dumb HTTP);
commits are made in the Pod. ``/artifacts/...`` are files: Argo's artifact repository "artifactory" is no more.
"""

from __future__ import annotations

import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path("/data")
OURS = {"Status", "Content-Length"}
"""Headers of the back end that are said anew."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A file, or something of a repository."""
        if self.path == "/healthz":
            self._reply(200, b"ok\n")
        elif self.path.startswith("/git/"):
            self._git(b"")
        elif (file := self._file()) is not None and file.is_file():
            self._reply(200, file.read_bytes())
        else:
            self._reply(404)

    def do_POST(self) -> None:
        """Something that is asked of a repository."""
        self._git(self._body())

    def do_PUT(self) -> None:
        """A file that is to be kept."""
        data, file = self._body(), self._file()
        if file is None:
            self._reply(403)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._reply(201)

    def _file(self) -> Path | None:
        path = Path(os.path.realpath(f"{ROOT}{self.path}"))
        return path if path.is_relative_to(ROOT / "artifacts") else None

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _git(self, data: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "GIT_PROJECT_ROOT": f"{ROOT}/git",
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path.removeprefix("/git"),
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(data)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": str(self.client_address[0]),
        }
        told = subprocess.run(["git", "http-backend"], input=data, env=env, stdout=subprocess.PIPE, check=True).stdout
        head, _, rest = told.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        more = {name: value for name, value in headers.items() if name not in OURS}
        self._reply(int(headers.get("Status", "200").split()[0]), rest, more)

    def _reply(self, code: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    for folder in ("git", "artifacts"):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
