"""A double for the tests: real nodes of the http baseline, with one fault that a variant switches on."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.matrix import Variant
from pytest_codexbench.systems import (
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
from pytest_codexbench.systems.http import Http, HttpNode

# What a node runs in place of its program. It is told where its control socket would be.
PROGRAMS = {
    "exits": "print('no such flag'); sys.exit(3)",
    "hangs": "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('thinking', flush=True); signal.pause()",
    "answers garbage": """
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        connection, _ = listener.accept()
        connection.recv(1 << 16)
        connection.sendall(bytes(range(256)))
        connection.close()
""",
    "talks and exits": "sys.stdout.write('blah ' * 20_000_000); sys.exit(3)",
}
TALKS = "import os, sys; os.write(1, b'blah ' * 20_000_000); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


class Faulty(Http):
    """Nodes of ``http`` with the fault that the setting ``fault`` names, unless FAULTY_MENDED is in the environment."""

    name = "faulty"

    def services(self, variant: Variant) -> Mapping[str, Command]:
        if variant.setting("fault") != "port taken" or "FAULTY_MENDED" in os.environ:
            return {}
        track = Command(
            (sys.executable, "-m", "pytest_codexbench.nodes.tracker", "--address", "{address}", "--port", "7070")
        )
        return {"tracker": track, "second": track}

    def wrong(self, variant: Variant) -> str | None:
        return unknown_setting(variant, ("fault", "version"))

    def missing(self, variant: Variant) -> str | None:
        if variant.setting("fault") == "missing":
            return "the program is not there; install it"
        return None

    def versions(self, variant: Variant) -> Mapping[str, str]:
        return {"faulty": variant.setting("version", "1")}

    def driver(self, place: Place) -> Driver:
        return FaultyNode(place)


class FaultyNode(HttpNode):
    """One node; ``fault`` is what goes wrong with it."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.fault = "" if "FAULTY_MENDED" in os.environ else str(place.settings.get("fault", ""))
        self._listener: socket.socket | None = None

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        if self.fault in PROGRAMS:
            program = f"import signal, socket, sys\n{PROGRAMS[self.fault]}"
            return Command((sys.executable, "-c", program, self.place.control.removeprefix("unix:")))
        if self.fault == "no program":
            return Command((str(self.place.folder / "absent"),))
        if self.fault in ("not executable", "wrong format"):
            program_file = self.place.folder / "program"
            program_file.write_bytes(b"\x7fELF\x01\x02\x01" + bytes(13))
            program_file.chmod(0o755 if self.fault == "wrong format" else 0o644)
            return Command((str(program_file),))
        command = super().command(bootstrap)
        return (
            replace(command, argv=(sys.executable, "-c", TALKS, *command.argv[1:]))
            if self.fault == "talks"
            else command
        )

    def ready(self) -> Contact | None:
        contact = super().ready()
        if contact is not None and self.fault == "no address":
            return {key: text for key, text in contact.items() if key != "address"}
        return contact

    def publish(self, file: Path, deadline_s: float) -> Published:
        published = super().publish(file, deadline_s)
        if self.fault == "no seconds":
            return Published(published.handle, {})
        stored = self.place.data / file.name
        if self.fault == "wrong byte":
            with stored.open("r+b") as data:
                data.seek(stored.stat().st_size // 2)
                byte = data.read(1)
                data.seek(-1, os.SEEK_CUR)
                data.write(bytes([byte[0] ^ 1]))
        if self.fault == "short":
            os.truncate(stored, stored.stat().st_size - 1)
        if self.fault == "handles differ":
            return Published(Handle(f"{published.handle.id}{self.place.name}"), published.seconds)
        if self.fault == "full disk":
            self._fill()
        return published

    def _fill(self) -> None:
        with (self.place.folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(1 << 16))
            except OSError:
                return

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        if self.fault in ("silent", "serves garbage"):
            self._listener = socket.create_server((self.place.address, 0))
            host, port = self._listener.getsockname()
            if self.fault == "serves garbage":
                threading.Thread(target=self._serve_garbage, daemon=True).start()
            want = replace(want, sources=[{"origin": f"http://{host}:{port}"}])
        arrivals = super().fetch(want)
        while True:
            try:
                arrival = next(arrivals)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the generator of HttpNode returns
            if self.fault == "tells too much":
                arrival = replace(arrival, held={view: 2 * held for view, held in arrival.held.items()})
            yield arrival
            if self.fault == "breaks" and arrival.received > want.size // 2:
                raise RuntimeError("boom")
            if self.fault == "dies" and arrival.received > want.size // 2:
                for child in psutil.Process().children():
                    child.kill()

    def _serve_garbage(self) -> None:
        while self._listener is not None:
            connection, _ = self._listener.accept()
            connection.recv(1 << 16)
            connection.sendall(bytes(range(256)) * 100)
            connection.close()

    def traffic(self) -> Traffic:
        if self.fault == "no traffic":
            raise LookupError("no such counter")
        return super().traffic()

    def delete(self, handle: Handle) -> None:
        if self.fault == "cannot delete":
            raise BadTransfer("DELETE: status 500")
        if self.fault != "keeps":
            super().delete(handle)
