"""A storage network that needs nothing but Python: every node is a plain web server over a folder."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from socket import SOCK_STREAM

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.httpbody import read_body
from pytest_codexbench.matrix import Variant
from pytest_codexbench.plan import Needs
from pytest_codexbench.programs import free_ports, output_of, program_of, wrong_program
from pytest_codexbench.restapi import Api
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

PROGRAMS = ("python3", "python")
PIECE = 1 << 20


class Webroot:
    """Web servers, and readers that fetch from one of them to their disk; variants differ in ``bin``, the Python."""

    name = "webroot"
    views: tuple[str, ...] = (CONTIGUOUS, AVAILABLE)
    needs_bootstrap = False
    copies = True
    publishing = "copy of the file into the folder of its node, until all is written"

    def wrong(self, variant: Variant) -> str | None:
        """The program."""
        return wrong_program(variant) or unknown_setting(variant, ("bin",))

    def missing(self, variant: Variant) -> str | None:
        """Any Python 3 will do."""
        if _version(program_of(variant, PROGRAMS)).startswith("Python 3"):
            return None
        return "no Python 3, neither as bin nor on PATH; give bin = 'PATH' below [systems.webroot] in a matrix file"

    def needs(self, variant: Variant) -> Needs:
        """The seeder's file and its server's copy; the leecher's file."""
        return Needs(seeder_copies=2, leecher_copies=1, memory=70 << 20, mb_per_s=300)

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """None: readers are told whom to ask."""
        return {}

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """What the program says of itself."""
        return {variant.name: _version(program_of(variant, PROGRAMS))}

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return WebrootNode(place)


class WebrootNode:
    """Drives one web server, and reads for it: a web server itself fetches nothing."""

    views = Webroot.views

    def __init__(self, place: Place) -> None:
        self.place = place
        self._program = program_of(Variant("webroot", "webroot", tuple(place.settings.items())), PROGRAMS)
        self._api = Api("")
        self._received = 0

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """The program in the foreground, at the node's own address, over the node's own folder."""
        (port,) = free_ports(self.place.address, SOCK_STREAM)
        self._api = Api(f"http://{self.place.address}:{port}")
        where = ("--bind", self.place.address, "--directory", str(self.place.data), str(port))
        return Command((self._program or PROGRAMS[0], "-m", "http.server", *where))

    def ready(self) -> Contact | None:
        """Ready when it answers; others need its URL."""
        try:
            self._api.ask("GET", "/", timeout_s=5)
        except BadTransfer:
            return None
        return {"name": self.place.name, "address": self.place.address, "url": self._api.base}

    def versions(self) -> Mapping[str, str]:
        """As the program tells it: the running server has no route for that."""
        return {"webroot": _version(self._program)}

    def join(self, others: Sequence[Contact]) -> None:
        """Web servers need not know each other."""

    def publish(self, file: Path, deadline_s: float) -> Published:
        """Copy the file. Its name becomes the handle: another one each round, the same on every node."""
        begun = time.perf_counter()
        try:
            with file.open("rb") as source, (self.place.data / file.name).open("wb") as copy:
                while piece := source.read(PIECE):
                    copy.write(piece)
                    if time.perf_counter() - begun > deadline_s:
                        raise BadTransfer(f"{file.name} was not copied within {deadline_s:g} s")
        except OSError as error:
            raise BadTransfer(f"{file.name} could not be copied: {error}") from error
        return Published(Handle(file.name), {"publish_s": time.perf_counter() - begun})

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """Read the file from the seeder whose turn it is, and write it to the node's own folder."""
        source, path = want.sources[want.position % len(want.sources)], self.place.data / want.handle.id
        got = 0
        try:
            with path.open("wb") as file:
                for t_ns, piece in read_body(f"{source['url']}/{want.handle.id}", want.size, want.deadline_ns):
                    file.write(piece)
                    got += len(piece)
                    self._received += len(piece)
                    yield Arrival(t_ns, got, dict.fromkeys(self.views, got))
        except OSError as error:
            raise BadTransfer(f"{path.name} could not be written: {error}") from error
        return Fetched(path)

    def delete(self, handle: Handle) -> None:
        """Remove the file, or what there is of it."""
        (self.place.data / handle.id).unlink(missing_ok=True)

    def holds(self, handle: Handle | None) -> bool:
        """Whether any file is left: it stores one at a time."""
        return any(self.place.data.iterdir())

    def traffic(self) -> Traffic:
        """What was read for it; what it sent, a web server does not count."""
        return Traffic(payload_rx_bytes=self._received)


def _version(program: str | None) -> str:
    return output_of(program or "", "--version").strip()
