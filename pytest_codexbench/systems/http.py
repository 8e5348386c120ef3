"""HTTP: every seeder an origin, the client-server baseline that all ratios can be read against."""

from __future__ import annotations

import http.client
import platform
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from pytest_codexbench.errors import AgentError, BadTransfer
from pytest_codexbench.matrix import Variant
from pytest_codexbench.plan import Needs
from pytest_codexbench.rpc import TOKEN_VARIABLE, call, stream
from pytest_codexbench.systems import (
    AVAILABLE,
    CONTIGUOUS,
    Arrival,
    Command,
    Contact,
    Driver,
    Fetched,
    Handle,
    Place,
    Published,
    Traffic,
    Want,
    unknown_setting,
)

BLOCK = 1 << 20


class Http:
    """Origins that serve files, and clients that fetch one to their disk; leecher i asks seeder i modulo s."""

    name = "http"
    views = (CONTIGUOUS, AVAILABLE)
    needs_bootstrap = False
    copies = True
    publishing = "PUT of the file to its origin, until the answer"

    def wrong(self, variant: Variant) -> str | None:
        """There is nothing to set."""
        return unknown_setting(variant, ())

    def missing(self, variant: Variant) -> str | None:
        """Nothing is needed but Python."""
        return None

    def needs(self, variant: Variant) -> Needs:
        """The seeder's file and its origin's copy; the leecher's file."""
        return Needs(seeder_copies=2, leecher_copies=1, memory=70 << 20, mb_per_s=400, relays=False)

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """None."""
        return {}

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """The version of the interpreter that serves and reads."""
        return {"http": f"python {platform.python_version()}"}

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return HttpNode(place)


class HttpNode:
    """Drives one node of ``pytest_codexbench.nodes.http``."""

    views = Http.views

    def __init__(self, place: Place) -> None:
        self.place = place
        self._origin = ""

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """One program for origin and client."""
        place = self.place
        module = (sys.executable, "-m", "pytest_codexbench.nodes.http")
        where: tuple[str, ...] = ("--control", place.control, "--address", place.address, "--data", str(place.data))
        where += ("--port-file", f"{place.folder}/port")
        return Command((*module, *where), {TOKEN_VARIABLE: place.token})

    def ready(self) -> Contact | None:
        """Ready when the program answers with the origin's address."""
        self._origin = call(self.place.control, "health", token=self.place.token, timeout_s=5)["origin"]
        return {"name": self.place.name, "address": self.place.address, "origin": self._origin}

    def versions(self) -> Mapping[str, str]:
        """The node's interpreter."""
        return {"http": f"python {platform.python_version()}"}

    def join(self, others: Sequence[Contact]) -> None:
        """Clients and origins need not know each other."""

    def publish(self, file: Path, deadline_s: float) -> Published:
        """PUT the file to the node's own origin. The handle is the file's name, which follows from its seed."""
        size = file.stat().st_size
        parts = urlsplit(self._origin)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=deadline_s, blocksize=BLOCK)
        with closing(connection), file.open("rb") as body:
            start = time.perf_counter()
            try:
                connection.request("PUT", f"/{file.name}", body, {"Content-Length": str(size)})
                accepted = time.perf_counter() - start
                answer = connection.getresponse()
                text = answer.read(300)
            except (OSError, http.client.HTTPException) as error:
                raise BadTransfer(f"PUT {self._origin}/{file.name}: {type(error).__name__}: {error}") from error
        if answer.status != http.client.CREATED:
            raise BadTransfer(f"PUT {self._origin}/{file.name}: status {answer.status}, expected 201: {text!r}")
        return Published(Handle(file.name), {"publish_s": time.perf_counter() - start, "upload_accept_s": accepted})

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """Have the node fetch the file from the origin that is its turn."""
        source = want.sources[want.position % len(want.sources)]
        request = {
            "url": f"{source['origin']}/{want.handle.id}",
            "name": want.handle.id,
            "size": want.size,
            "start_ns": want.start_ns,
            "deadline_s": (want.deadline_ns - time.perf_counter_ns()) / 1e9,
        }
        for line in stream(self.place.control, "fetch", request, token=self.place.token):
            if "done" in line:
                return Fetched(Path(line["path"]))
            yield Arrival(line["t_ns"], line["received"], {view: int(line["held"]) for view in self.views})
        raise BadTransfer(f"{self.place.name}: the node's answer ended before the fetch did")

    def delete(self, handle: Handle) -> None:
        """DELETE at its own origin."""
        parts = urlsplit(self._origin)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
            try:
                connection.request("DELETE", f"/{handle.id}")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                raise AgentError(f"DELETE {self._origin}/{handle.id}: {error}") from error

    def holds(self, handle: Handle | None) -> bool:
        """Whether the file is in its store."""
        request = {"name": handle.id} if handle else None
        return request is not None and bool(call(self.place.control, "holds", request, token=self.place.token)["holds"])

    def traffic(self) -> Traffic:
        """Bytes of files in and out."""
        told = call(self.place.control, "counters", token=self.place.token)
        return Traffic(told["payload_rx_bytes"], told["payload_tx_bytes"])
