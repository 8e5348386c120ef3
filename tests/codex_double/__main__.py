"""``python -m codex_double --flavour=2025-06|2025-12|storage [the flags of that build]``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from codex_double.api import ROUTES, SERVER, Api
from codex_double.faults import VARIABLE, Faults
from codex_double.flavours import FLAVOURS, Flavour
from codex_double.httpserver import listen, serve
from codex_double.log import Log
from codex_double.metrics import answer
from codex_double.node import Node
from codex_double.options import Options, WrongOption, read


def main(argv: Sequence[str]) -> NoReturn:
    """Run a node until it is told to end."""
    flavour = FLAVOURS[argv[0].removeprefix("--flavour=")]
    for flag, text in (("--help", flavour.help), ("-h", flavour.help), ("--version", flavour.told)):
        if flag in argv[1:]:
            _leave(0, text)
    try:
        faults = Faults.of(os.environ.get(VARIABLE, ""), ROUTES)
        options = read(flavour, argv[1:], os.environ)
    except (WrongOption, ValueError) as error:
        _leave(1, f"{error}\n")
    _run(flavour, options, faults)


def _run(flavour: Flavour, options: Options, faults: Faults) -> NoReturn:
    log, told = Log(options.log_level), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    if problem := _unsafe(options.data):
        log.error(problem, topics=flavour.word, dir=options.data)
        _leave(1)
    log.notice("Starting the double of a node, for tests: its speed means nothing", topics=f"{flavour.word}_double")
    node = _node(flavour, options, faults, log)
    node.start()
    if not told.wait(faults.number("slow-start") or 0):
        _serve(node)
        told.wait()
    log.notice("Shutting down after having received SIGTERM", topics=flavour.word)
    log.notice(f"Stopping {flavour.word} node", topics=f"{flavour.word} node")
    # its threads are in the middle of things, and all that counts is on the disk
    _leave(0)


def _unsafe(data: Path) -> str | None:
    """What is wrong with the folder of the data, which is made if it is absent."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = data.stat().st_mode & 0o777
    except OSError as error:
        return f"Data folder cannot be used: {error.strerror}"
    return None if mode == 0o700 else f"Data folder has insecure permissions 0{mode:o}, required 0700"


def _node(flavour: Flavour, options: Options, faults: Faults, log: Log) -> Node:
    try:
        node = Node(flavour, options, faults, log)
        if options.metrics is not None:
            url = f"http://{options.metrics[0]}:{options.metrics[1]}/metrics"
            log.notice("Starting metrics HTTP server", url=url)
            serve(listen(options.metrics), lambda request: answer(node.metrics, node.counts(), request))
    except OSError as error:
        log.error("Failed to start the node", topics=flavour.word, err=error.strerror)
        _leave(1)
    return node


def _serve(node: Node) -> None:
    host, port = node.options.api
    try:
        listener = listen(node.options.api)
    except OSError as error:
        node.log.error("REST service could not be started", address=f"{host}:{port}", reason=error.strerror)
        _leave(1)
    serve(listener, Api(node).answer, SERVER)
    node.log.notice("REST service started", address=f"{host}:{port}")


def _leave(status: int, text: str = "") -> NoReturn:
    sys.stdout.write(text)
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
