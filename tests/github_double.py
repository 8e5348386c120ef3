"""A GitHub of one repository: comments, labels, reactions and rights of its issues, over real HTTP."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY, TOKEN, BOT = "acme/bench", "a-token", "github-actions[bot]"
MOST_LETTERS = 65536
TRIAGE = ("triage", "write", "maintain", "admin")


@dataclass
class Broken:
    """An answer that comes instead of the right one, ``times`` times, to requests that match."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    after: bool = False
    """Whether what was asked for is done all the same, and only its answer is lost."""


class Hub:
    """The repository's state; people act on it by methods, programs over HTTP at ``url``."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
        self.roles = {"mona": "maintain", "wren": "write", "tri": "triage", "eve": "read", "cy": "custom"}
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, dict[str, Any]] = {}
        self.reactions: dict[tuple[int, str, str], int] = {}
        self.broken: list[Broken] = []
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda request: None
        self.url = ""
        self._ids = iter(range(1000, 10**9))
        self._lock = threading.RLock()

    # --- what people do, as GitHub tells it in an event ---

    def time(self) -> str:
        """Now, as GitHub writes it."""
        return f"{self.now:%Y-%m-%dT%H:%M:%SZ}"

    def later(self, seconds: float) -> None:
        """The clock goes on."""
        self.now += timedelta(seconds=seconds)

    def open(self, body: str | None, by: str = "eve", labels: tuple[str, ...] = ("benchmark",)) -> dict[str, Any]:
        """A new issue; its event."""
        number = len(self.issues) + 1
        self.issues[number] = {
            "number": number,
            "title": "Benchmark: ",
            "body": body,
            "state": "open",
            "user": {"login": by, "type": "User"},
            "labels": [{"name": name} for name in labels],
            "updated_at": self.time(),
        }
        return self._event("opened", number, by)

    def edit(self, number: int, body: str, by: str = "eve") -> dict[str, Any]:
        """Another text; its event."""
        before = self.issues[number]["body"]
        self.issues[number]["body"] = body
        return self._event("edited", number, by, changes={"body": {"from": before}})

    def label(self, number: int, name: str, by: str) -> dict[str, Any]:
        """A label is set, by somebody who may; its event."""
        assert self.roles.get(by) in TRIAGE, "GitHub does not let them"
        assert name not in self._labels(number), "GitHub tells no event of a label that is there"
        self.issues[number]["labels"].append({"name": name})
        return self._event("labeled", number, by, label={"name": name})

    def unlabel(self, number: int, name: str, by: str) -> dict[str, Any]:
        """A label is taken off; its event."""
        assert self.roles.get(by) in TRIAGE
        self._unlabel(number, name)
        return self._event("unlabeled", number, by, label={"name": name})

    def close(self, number: int, by: str = "eve") -> dict[str, Any]:
        """The issue is closed; its event."""
        self.issues[number]["state"] = "closed"
        return self._event("closed", number, by)

    def reopen(self, number: int, by: str = "eve") -> dict[str, Any]:
        """The issue is open again; its event."""
        self.issues[number]["state"] = "open"
        return self._event("reopened", number, by)

    def comment(self, number: int, text: str, by: str) -> dict[str, Any]:
        """Somebody comments; the comment."""
        with self._lock:
            one: dict[str, Any] = {
                "id": next(self._ids),
                "issue": number,
                "body": text,
                "user": {"login": by, "type": "Bot" if by.endswith("[bot]") else "User"},
                "created_at": self.time(),
                "updated_at": self.time(),
            }
            self.comments[one["id"]] = one
            return one

    def of(self, number: int, by: str = BOT) -> list[str]:
        """The texts of somebody's comments on an issue, the oldest first."""
        with self._lock:
            return [c["body"] for c in self._comments(number) if c["user"]["login"] == by]

    def labels(self, number: int) -> list[str]:
        """The labels of an issue."""
        return self._labels(number)

    def writes(self) -> list[str]:
        """What was asked for that changes anything."""
        return [request for request in self.asked if not request.startswith("GET ")]

    def _event(self, action: str, number: int, by: str, **more: Any) -> dict[str, Any]:
        issue = self.issues[number]
        issue["updated_at"] = self.time()
        sender = {"login": by, "type": "Bot" if by.endswith("[bot]") else "User"}
        event = {"action": action, "issue": issue, "sender": sender, "repository": {"full_name": REPOSITORY}, **more}
        copy: dict[str, Any] = json.loads(json.dumps(event))
        return copy

    def _comments(self, number: int) -> list[dict[str, Any]]:
        return [comment for comment in self.comments.values() if comment["issue"] == number]

    def _labels(self, number: int) -> list[str]:
        return [label["name"] for label in self.issues[number]["labels"]]

    def _unlabel(self, number: int, name: str) -> bool:
        labels = self.issues[number]["labels"]
        kept = [label for label in labels if label["name"] != name]
        self.issues[number]["labels"] = kept
        return len(kept) < len(labels)

    # --- what programs ask for ---

    def answer(self, method: str, target: str, data: Any) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers."""
        url = urlsplit(target)
        path, query = url.path.removeprefix(f"/repos/{REPOSITORY}"), parse_qs(url.query)
        self.asked.append(f"{method} {path}")
        self.before(f"{method} {path}")
        with self._lock:
            for broken in self.broken:
                if broken.times and broken.method == method and re.fullmatch(broken.path, path):
                    broken.times -= 1
                    if broken.after:
                        self._answer(method, path, query, data)
                    return broken.status, {"message": "broken"}, broken.headers
            status, told = self._answer(method, path, query, data)
            return status, told, {}

    def _answer(self, method: str, path: str, query: Mapping[str, list[str]], data: Any) -> tuple[int, Any]:
        for verb, pattern, act in (
            ("GET", r"/issues/(\d+)", self._get_issue),
            ("GET", r"/issues/(\d+)/comments", self._get_comments),
            ("POST", r"/issues/(\d+)/comments", self._post_comment),
            ("PATCH", r"/issues/comments/(\d+)", self._patch_comment),
            ("DELETE", r"/issues/comments/(\d+)", self._delete_comment),
            ("DELETE", r"/issues/(\d+)/labels/([^/]+)", self._delete_label),
            ("GET", r"/collaborators/([^/]+)/permission", self._get_permission),
            ("POST", r"/issues/comments/(\d+)/reactions", self._post_reaction),
            ("DELETE", r"/issues/comments/(\d+)/reactions/(\d+)", self._delete_reaction),
        ):
            if method == verb and (match := re.fullmatch(pattern, path)):
                return act(match.groups(), query, data)
        return 404, {"message": "Not Found"}

    def _get_issue(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        issue = self.issues.get(int(at[0]))
        return (200, issue) if issue else (404, {"message": "Not Found"})

    def _get_comments(self, at: tuple[str, ...], query: Mapping[str, list[str]], data: Any) -> tuple[int, Any]:
        size, page = min(100, int(query.get("per_page", ["30"])[0])), int(query.get("page", ["1"])[0])
        return 200, self._comments(int(at[0]))[(page - 1) * size : page * size]

    def _post_comment(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        if len(data["body"]) > MOST_LETTERS:
            return 422, {"message": "Validation Failed"}
        return 201, self.comment(int(at[0]), data["body"], BOT)

    def _patch_comment(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        comment = self.comments.get(int(at[0]))
        if comment is None:
            return 404, {"message": "Not Found"}
        if len(data["body"]) > MOST_LETTERS:
            return 422, {"message": "Validation Failed"}
        comment.update(body=data["body"], updated_at=self.time())
        return 200, comment

    def _delete_comment(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        there = int(at[0]) in self.comments
        if there:
            del self.comments[int(at[0])]
        return (204, None) if there else (404, {"message": "Not Found"})

    def _delete_label(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        number, name = int(at[0]), unquote(at[1])
        return (200, self.issues[number]["labels"]) if self._unlabel(number, name) else (404, {"message": "none"})

    def _get_permission(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        role = self.roles.get(unquote(at[0]))
        if role is None:
            return 404, {"message": "Not Found"}
        old = {"maintain": "write", "triage": "read", "custom": "read"}.get(role, role)
        return 200, {"permission": old, "role_name": role, "user": {"login": unquote(at[0])}}

    def _post_reaction(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        key = (int(at[0]), BOT, data["content"])
        if key[0] not in self.comments:
            return 404, {"message": "Not Found"}
        status = 200 if key in self.reactions else 201
        number = self.reactions.setdefault(key, next(self._ids))
        return status, {"id": number, "user": {"login": BOT}, "content": data["content"]}

    def _delete_reaction(self, at: tuple[str, ...], query: Any, data: Any) -> tuple[int, Any]:
        found = [key for key, number in self.reactions.items() if number == int(at[1])]
        for key in found:
            del self.reactions[key]
        return (204, None) if found else (404, {"message": "Not Found"})


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The repository, to be asked at ``hub.url``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data = json.loads(self.rfile.read(length)) if length else None
            told: Any
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, told, headers = 401, {"message": "Bad credentials"}, dict[str, str]()
            else:
                status, told, more = hub.answer(self.command, self.path, data)
                headers = dict(more)
            body = b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _do  # noqa: N815 - http.server finds them by these names

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
