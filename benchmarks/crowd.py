"""Agents of nodes that are not there: each answers what a driver asks of it at once, with as little work as can be.

    python benchmarks/crowd.py FOLDER COUNT

One process for all of them, so that the driver's own time is what a round takes. It says ``ready`` when each listens on
``FOLDER/<name>.sock``, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from pytest_codexbench.records import OK, Counters, Transfer
from pytest_codexbench.rpc import Message
from pytest_codexbench.timeline import Sample, Watch

TOKEN = "crowd"  # noqa: S105 - guards nothing
DIGEST = "0" * 64
# As an agent tells: a line a percent, here of a transfer that takes a second.
LINES, STEP_NS = 100, 10_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
LENGTH = re.compile(rb"(?i)content-length: (\d+)")

COUNTED = Counters(wire_rx_bytes=1, wire_tx_bytes=1, cpu_s=0.1).to_json()
ANSWERS: dict[str, Message] = {
    "make": {"done": {"digest": DIGEST, "seconds": 0.0}},
    "publish": {"done": {"handle": {"id": "crowd", "ticket": ""}, "seconds": {"publish_s": 0.0}}},
    "drop_cache": {"done": {"dropped": True}},
    "begin": {"reset": True, "counters": COUNTED},
    "counters": COUNTED,
    "health": {"runs": True, "node": "runs"},
    "delete": {"done": {"gone": True}},
}


def names(count: int) -> list[str]:
    """The names of so many nodes."""
    return [f"n{index:03d}" for index in range(count)]


def url_of(folder: Path, name: str) -> str:
    """Where the agent of that name answers."""
    return f"unix:{folder}/{name}.sock"


def fetched(name: str, size: int) -> Iterator[Message]:
    """The lines of a whole transfer."""
    watch = Watch(size)
    yield {"started": True, "view": "disk"}
    for step in range(1, LINES + 1):
        held = size * step // LINES
        watch.see(Sample(step * STEP_NS, held, held))
        yield {"t_s": step * STEP_NS / 1e9, "received": held, "held": held}
    record = Transfer(name, "download", OK, {"disk": watch.timeline()})
    yield {"done": {"transfer": record.to_json(), "digest": DIGEST, "path": None, "url": None}}


@cache
def _answer(name: str, verb: str, size: int) -> bytes:
    lines = fetched(name, size) if verb == "fetch" else [ANSWERS[verb]]
    return HEAD + b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def _serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"100-continue" in head:
        writer.write(GO_ON)
    found = LENGTH.search(head)
    body = json.loads(await reader.readexactly(int(found[1]) if found else 0) or b"{}")
    verb = head.split(b" ", 2)[1].decode().strip("/")
    writer.write(_answer(name, verb, body.get("size", 0) if verb == "fetch" else 0))
    await writer.drain()
    writer.close()


async def _main(folder: Path, count: int) -> None:
    servers = [
        await asyncio.start_unix_server(partial(_serve, name), folder / f"{name}.sock", backlog=64)
        for name in names(count)
    ]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
