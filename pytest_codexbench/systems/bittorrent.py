"""BitTorrent: libtorrent nodes and the HTTP tracker that their cluster owns."""

from __future__ import annotations

import http.client
import importlib.util
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.matrix import PROFILES, Variant
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

LEAST_PIECE = 1 << 14


class Bittorrent:
    """Swarms of libtorrent nodes, a profile a variant: ``tuned``, ``stock`` or ``streaming``."""

    name = "bittorrent"
    views = (AVAILABLE, CONTIGUOUS)
    needs_bootstrap = False
    copies = False
    publishing = "hash, add in seed mode, until the first announce is answered; nothing is copied"

    def wrong(self, variant: Variant) -> str | None:
        """A profile, and the size of a piece in bytes."""
        profile = variant.setting("profile", "tuned")
        if profile not in PROFILES:
            return f"profile = {profile!r}: no such profile; there are {', '.join(PROFILES)}"
        piece = dict(variant.settings).get("piece_size", LEAST_PIECE)
        if not isinstance(piece, int) or piece < LEAST_PIECE or piece & (piece - 1):
            return f"piece_size = {piece!r}: a power of two of bytes, from {LEAST_PIECE} on, is needed"
        return unknown_setting(variant, ("profile", "piece_size"))

    def missing(self, variant: Variant) -> str | None:
        """Libtorrent has no wheel for every Python."""
        if importlib.util.find_spec("libtorrent") is None:
            python = f"{sys.version_info.major}.{sys.version_info.minor}"
            return f"libtorrent is not installed for Python {python}; pip install it, or use Python 3.11 to 3.13"
        return None

    def needs(self, variant: Variant) -> Needs:
        """One file a node: a seeder seeds from the file itself."""
        rate = 60 if variant.setting("profile") == "stock" else 120
        return Needs(seeder_copies=1, leecher_copies=1, memory=160 << 20, mb_per_s=rate)

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """The tracker."""
        module = (sys.executable, "-m", "pytest_codexbench.nodes.tracker")
        return {"tracker": Command((*module, "--address", "{address}", "--port", "{port}"))}

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """The library's version."""
        return {"bittorrent": f"libtorrent {version('libtorrent')}"}

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return BittorrentNode(place)


class BittorrentNode:
    """Drives one node of ``pytest_codexbench.nodes.bittorrent``."""

    views = Bittorrent.views

    def __init__(self, place: Place) -> None:
        self.place = place
        self._versions: Mapping[str, str] = {}

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """One libtorrent session in a process of its own."""
        place = self.place
        argv = [sys.executable, "-m", "pytest_codexbench.nodes.bittorrent", "--control", place.control]
        argv += ["--address", place.address, "--data", str(place.data)]
        argv += ["--profile", str(place.settings.get("profile", "tuned"))]
        argv += ["--tracker", f"{place.services['tracker']}/announce"]
        if "piece_size" in place.settings:
            argv += ["--piece-size", str(place.settings["piece_size"])]
        return Command(tuple(argv), {TOKEN_VARIABLE: place.token})

    def ready(self) -> Contact | None:
        """Ready when the session listens and the tracker answers from here."""
        if not _answers(self.place.services["tracker"]):
            return None
        health = call(self.place.control, "health", token=self.place.token, timeout_s=5)
        if not health["ready"]:
            return None
        self._versions = {"bittorrent": f"libtorrent {health['versions']['libtorrent']}"}
        return {"name": self.place.name, "address": f"{health['address']}", "port": f"{health['port']}"}

    def versions(self) -> Mapping[str, str]:
        """The library's version, as the running node tells it."""
        return self._versions

    def join(self, others: Sequence[Contact]) -> None:
        """Nodes meet through the tracker alone."""

    def publish(self, file: Path, deadline_s: float) -> Published:
        """Hash, add in seed mode, announce."""
        start = time.perf_counter()
        told = call(self.place.control, "seed", {"path": str(file)}, token=self.place.token, timeout_s=deadline_s)
        return Published(
            Handle(told["id"], told["ticket"]), {"publish_s": time.perf_counter() - start, **told["seconds"]}
        )

    def serve_again(self, file: Path, handle: Handle, deadline_s: float) -> None:
        """A session that was killed knows of no torrent: hash, add and announce as at first."""
        self.publish(file, deadline_s)

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """Have the node fetch the torrent's file from whoever the tracker tells of."""
        request = {"ticket": want.handle.ticket, "folder": str(self.place.data), "again": want.again}
        received, held = 0, dict.fromkeys(self.views, 0)
        for line in stream(self.place.control, "fetch", request, token=self.place.token):
            if "done" in line:
                return Fetched(Path(line["path"]))
            if "first_block" in line:
                yield Arrival(line["t_ns"], received, held, news="first_block_s")
                continue
            received, held = line["received"], {view: line[view] for view in self.views}
            yield Arrival(line["t_ns"], received, held)
        raise BadTransfer(f"{self.place.name}: the node's answer ended before the fetch did")

    def delete(self, handle: Handle) -> None:
        """Remove the torrent with its files."""
        call(self.place.control, "forget", {"id": handle.id}, token=self.place.token, timeout_s=60)

    def holds(self, handle: Handle | None) -> bool:
        """Whether the session still has the torrent."""
        request = {"id": handle.id} if handle else None
        return request is not None and bool(call(self.place.control, "holds", request, token=self.place.token)["holds"])

    def traffic(self) -> Traffic:
        """The session's own counters."""
        told = call(self.place.control, "counters", token=self.place.token)
        return Traffic(told["payload_rx_bytes"], told["payload_tx_bytes"], told["more"])


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
