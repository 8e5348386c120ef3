"""A peer to try a cluster with: `/` says who it is, `/bytes/N` sends N bytes, `/fetch?URL` says how a download went."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PORT = 8080
FETCH_S = 60.0


class Peer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/bytes/"):
            self._send(bytes(int(url.path.removeprefix("/bytes/"))))
        elif url.path == "/fetch":
            self._send(json.dumps(fetch(unquote(url.query))).encode())
        else:
            self._send(f"this is {socket.gethostname()}".encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def fetch(url: str) -> dict[str, object]:
    """Download it."""
    began = time.monotonic()
    with urllib.request.urlopen(url, timeout=FETCH_S) as answer:  # noqa: S310 - the one who asks is the check
        body = answer.read()
    return {"size": len(body), "seconds": time.monotonic() - began, "begin": body[:80].decode("latin1")}


if __name__ == "__main__":
    sys.stdout.write(f"listening on {PORT}\n")
    sys.stdout.flush()
    ThreadingHTTPServer(("", PORT), Peer).serve_forever()
