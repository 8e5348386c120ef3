"""GitHub's REST API, as far as one issue needs it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pytest_codexbench.errors import BenchError, WrongInput

API_VERSION = "2022-11-28"
PAGE, MOST_PAGES = 100, 50
TRIES, MOST_WAIT_S, REQUEST_S = 5, 90.0, 30.0
CREATED = 201
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
# What a reaction on the comment says: a run has been let begin.
CLAIM = "rocket"
ROLES = ("none", "read", "triage", "write", "maintain", "admin")


class GitHubError(BenchError):
    """GitHub did not do what it was asked for: names the request, its answer and the way out."""


class Gone(GitHubError):
    """What was asked for is not there."""


class GitHub:
    """One repository's issues. ``clock`` is seconds since 1970, ``sleep`` takes seconds."""

    def __init__(
        self,
        base: str,
        repository: str,
        token: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not REPOSITORY.fullmatch(repository):
            raise WrongInput(f"repository {repository!r}: an owner and a name are needed, as in owner/name")
        try:
            import requests
        except ImportError as error:
            raise WrongInput("GitHub is asked through requests: pip install 'pytest-codexbench[issues]'") from error
        self.base, self.repository = base.rstrip("/"), repository
        self._clock, self._sleep = clock, sleep
        self._failed = requests.RequestException
        self._session = requests.Session()
        # as an object: a header alone would give way to what a .netrc says of the host
        self._session.auth = _Bearer(token)
        self._session.headers.update(
            {
                "Accept": "application/vnd.github+json",
                "User-Agent": "codexbench",
                "X-GitHub-Api-Version": API_VERSION,
            }
        )

    def issue(self, number: int) -> dict[str, Any]:
        """The issue as it is now.

        Raises:
            Gone: if it was deleted, or moved to another repository.
        """
        return _object(self._ask("GET", f"/issues/{number}"))

    def comments(self, number: int) -> Iterator[dict[str, Any]]:
        """All comments on an issue, the oldest first."""
        path = f"/issues/{number}/comments?per_page={PAGE}"
        for page in range(1, MOST_PAGES + 1):
            found = self._ask("GET", f"{path}&page={page}")
            if not isinstance(found, list):
                raise GitHubError(f"GET {path}: no list of comments")
            yield from map(_object, found)
            if len(found) < PAGE:
                return
        raise GitHubError(f"issue {number} has more than {PAGE * MOST_PAGES} comments: close it, and open a new one")

    def add_comment(self, number: int, text: str) -> dict[str, Any]:
        """A new comment."""
        return _object(self._ask("POST", f"/issues/{number}/comments", {"body": text}))

    def write_comment(self, comment: int, text: str) -> None:
        """Another text for a comment."""
        self._ask("PATCH", f"/issues/comments/{comment}", {"body": text})

    def remove_comment(self, comment: int) -> None:
        """A comment is gone afterwards."""
        self._unless_gone("DELETE", f"/issues/comments/{comment}")

    def unlabel(self, number: int, label: str) -> None:
        """The label is not on the issue afterwards."""
        self._unless_gone("DELETE", f"/issues/{number}/labels/{quote(label, safe='')}")

    def role(self, login: str) -> str:
        """What somebody may do here, one of ``ROLES``.

        A role that an organisation made up itself counts as the built-in one that it grows from.
        """
        try:
            told = _object(self._ask("GET", f"/collaborators/{quote(login, safe='')}/permission"))
        except Gone:
            return "none"
        return next((role for role in (told.get("role_name"), told.get("permission")) if role in ROLES), "none")

    def claim(self, comment: int) -> bool:
        """Whether this one is the first to claim: GitHub keeps one reaction of a kind from one account, and tells."""
        return self._answer("POST", f"/issues/comments/{comment}/reactions", {"content": CLAIM})[0] == CREATED

    def release(self, comment: int) -> None:
        """This account has no claim afterwards."""
        # asked for a second time, GitHub tells the number of the reaction that is there
        _, mine = self._answer("POST", f"/issues/comments/{comment}/reactions", {"content": CLAIM})
        self._unless_gone("DELETE", f"/issues/comments/{comment}/reactions/{int(_object(mine)['id'])}")

    def _unless_gone(self, method: str, path: str) -> None:
        try:
            self._ask(method, path)
        except Gone:
            return

    def _ask(self, method: str, path: str, data: Mapping[str, Any] | None = None) -> Any:
        return self._answer(method, path, data)[1]

    def _answer(self, method: str, path: str, data: Mapping[str, Any] | None) -> tuple[int, Any]:
        """One request, tried again while GitHub is busy, broken, or wants fewer of them."""
        url, what, said = f"{self.base}/repos/{self.repository}{path}", f"{method} {path}", ""
        for attempt in range(TRIES):
            try:
                answer = self._session.request(method, url, json=data, timeout=REQUEST_S, allow_redirects=False)
            except self._failed as error:
                said, wait_s = f"{type(error).__name__}: {error}", 2.0**attempt
            else:
                if answer.status_code < 300:
                    return answer.status_code, _json(what, answer.text)
                said = f"status {answer.status_code}: {answer.text[:200]}"
                if answer.status_code in (404, 410):
                    raise Gone(f"GitHub: {what}: {said}")
                again = self._wait(answer.status_code, answer.headers, attempt)
                if again is None:
                    raise GitHubError(f"GitHub: {what}: {said}")
                wait_s = again
            if wait_s > MOST_WAIT_S:
                raise GitHubError(
                    f"GitHub: {what}: it wants no request for {wait_s:.0f} s; run this again then: {said}"
                )
            if attempt + 1 < TRIES:
                self._sleep(wait_s)
        raise GitHubError(f"GitHub: {what}: given up after {TRIES} tries; run this again later: {said}")

    def _wait(self, status: int, headers: Mapping[str, str], attempt: int) -> float | None:
        """Seconds until the next try; None if none will help."""
        if status >= 500:
            return 2.0**attempt
        if status not in (403, 429):
            return None
        if (after := headers.get("Retry-After", "")).isdecimal():
            return float(after)
        if headers.get("X-RateLimit-Remaining") == "0" and (reset := headers.get("X-RateLimit-Reset", "")).isdecimal():
            return max(1.0, float(reset) - self._clock() + 1)
        return None if status == 403 else 2.0**attempt


class _Bearer:
    """Says who asks."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _json(what: str, text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GitHubError(f"GitHub: {what}: no JSON: {text[:200]!r}") from error


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GitHubError(f"GitHub: an object was expected, and {value!r:.200} came")
    return value
