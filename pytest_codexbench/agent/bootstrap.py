"""``python -m pytest_codexbench.agent.bootstrap``: waits for the first node's record, for the others' start."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.restapi import Api

LOOK_S = 0.2
RECORD = re.compile(r"spr:[A-Za-z0-9_-]{20,2000}")


def main() -> None:
    """Write the variables, or exit with the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the first node tells its record")
    parser.add_argument("--variable", action="append", required=True, help="variable to set to it; may be given again")
    parser.add_argument("--out", required=True, type=Path, help="file for them, to be read by a shell")
    parser.add_argument("--deadline", type=float, default=120.0, metavar="SECONDS", help="how long to wait")
    options = parser.parse_args()
    try:
        record = waited_for(options.url, options.deadline)
    except BadTransfer as error:
        sys.exit(f"no first node: {error}")
    options.out.write_text("".join(f"export {name}={shlex.quote(record)}\n" for name in options.variable))


def waited_for(url: str, deadline_s: float) -> str:
    """The record at ``url``, as soon as there is one.

    Raises:
        BadTransfer: if there is none at the deadline; what was answered last.
    """
    parts = urlsplit(url)
    api, end = Api(f"{parts.scheme}://{parts.netloc}"), time.monotonic() + deadline_s
    while True:
        try:
            answer = api.ask("GET", parts.path, timeout_s=5, headers={"Accept": "text/plain"})
            if RECORD.fullmatch(answer.text):
                return answer.text
            last = BadTransfer(f"{answer.request}: no record: {answer.body[:100]!r}")
        except BadTransfer as error:
            last = error
        if time.monotonic() > end:
            raise BadTransfer(f"not within {deadline_s:g} s: {last}") from last
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
