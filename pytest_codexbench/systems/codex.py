"""Codex, also called Logos Storage: nodes of both generations, told apart by asking them."""

from __future__ import annotations

import http.client
import re
import shlex
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_DGRAM, SOCK_STREAM

from pytest_codexbench.errors import AgentError, BadTransfer, NotReady
from pytest_codexbench.httpbody import read_answer, read_body
from pytest_codexbench.matrix import Variant
from pytest_codexbench.payload import Hasher
from pytest_codexbench.plan import Needs
from pytest_codexbench.programs import free_ports, no_program, output_of, program_of, wrong_program
from pytest_codexbench.restapi import Answer, Api, Upload
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

PROGRAMS = ("codex", "storage")
BLOCK = 1 << 16
# The CID depends on both: every seeder of a round must give the same.
HEADERS = {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="codexbench.bin"'}
CID = re.compile(r"z[1-9A-HJ-NP-Za-km-z]{40,80}")
FLAG = re.compile(r"^\s+(?:-\w+, )?--([a-z0-9-]+)", re.MULTILINE)
# What a driver sets itself; a variant's own flags are for the rest.
OURS = frozenset(
    [
        *("data-dir", "config-file", "log-level", "log-format", "storage-quota", "network", "nat", "disc-port"),
        *("bootstrap-node", "no-bootstrap-node", "listen-addrs", "listen-ip", "listen-port"),
        *("api-bindaddr", "api-port", "metrics", "metrics-address", "metrics-port"),
    ]
)
TELLING = re.compile(r"(?:version|revision)\W*(\S+)", re.IGNORECASE)
WAYS = ("stream", "background")
LOOK_S = 0.05
JOIN_S, DIAL_S, FREED_S = 10.0, 20.0, 10.0


@dataclass(frozen=True, slots=True)
class Generation:
    """What one generation calls things: the base of its paths, the key of its version, the prefix of its metrics."""

    base: str
    word: str


GENERATIONS = (Generation("/api/codex/v1", "codex"), Generation("/api/storage/v1", "storage"))


class Codex:
    """Private networks of Codex nodes; variants differ in ``bin`` (two builds), ``download`` or ``flags``."""

    name = "codex"
    views = (CONTIGUOUS, AVAILABLE)
    needs_bootstrap = True
    copies = True
    publishing = "POST of the file to its node, until the answer with its CID"

    def wrong(self, variant: Variant) -> str | None:
        """The program, the way to download, flags of the variant's own."""
        way = variant.setting("download", WAYS[0])
        if way not in WAYS:
            return f"download = {way!r}: no such way; there are {', '.join(WAYS)}"
        try:
            flags = shlex.split(variant.setting("flags"))
        except ValueError as error:
            return f"flags = {variant.setting('flags')!r}: {error}"
        for flag in flags:
            name = flag.removeprefix("--").partition("=")[0]
            if not re.fullmatch(r"--[a-z0-9-]+(=.*)?", flag):
                return f"flags = {variant.setting('flags')!r}: {flag!r}; write each as --name=value"
            if name in OURS:
                return f"flags = {variant.setting('flags')!r}: --{name} is set by the benchmark"
        if (generation := variant.setting("generation", "first")) not in ("first", "second"):
            return f"generation = {generation!r}: first or second is needed, and only for an image"
        return wrong_program(variant) or unknown_setting(variant, ("bin", "image", "generation", "download", "flags"))

    def missing(self, variant: Variant) -> str | None:
        """A program of either generation is needed."""
        program = program_of(variant, PROGRAMS)
        if program is None:
            return no_program(self.name, PROGRAMS)
        lacking = {"data-dir", "api-port"} - _flags(program)
        return f"{program} is no Codex: its --help knows no --{min(lacking)}" if lacking else None

    def needs(self, variant: Variant) -> Needs:
        """The seeder's file and its node's blocks; the leecher's blocks."""
        return Needs(seeder_copies=2.01, leecher_copies=1.01, memory=250 << 20, mb_per_s=25)

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """None: nodes find each other through the first of them."""
        return {}

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """What the program says of itself; two builds of one version differ in their revision."""
        told = output_of(program_of(variant, PROGRAMS) or "", "--version")
        return {variant.name: " ".join(TELLING.findall(told)) or "unknown"}

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return CodexNode(place)


class CodexNode:
    """Drives one node through its REST API."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.background = place.settings.get("download") == "background"
        self.views = (AVAILABLE,) if self.background else (CONTIGUOUS,)
        self._generation: Generation | None = None
        # a program that others started is asked at the Pod's own loopback address
        self._root, self._metrics = (f"http://127.0.0.1:{place.ports.get(name)}" for name in ("api", "metrics"))
        self._versions: Mapping[str, str] = {}
        self._ports: tuple[int, ...] = ()

    @property
    def _api(self) -> Api:
        return Api(self._root + (self._generation or GENERATIONS[0]).base)

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """One node of a private network: no public preset, its own address, a quota for this matrix's files."""
        program = program_of(Variant("codex", "codex", tuple(self.place.settings.items())), PROGRAMS)
        if program is None:
            raise NotReady(no_program("codex", PROGRAMS))
        address, known = self.place.address, _flags(program)
        # started again, it is where others know it; whatever its flags say, discovery binds to all addresses
        self._ports = self._ports or (
            *free_ports(address, SOCK_STREAM, SOCK_STREAM, SOCK_STREAM),
            *free_ports("0.0.0.0", SOCK_DGRAM),  # noqa: S104 - only to find a free port
        )
        listen, api, metrics, discovery = self._ports
        self._root, self._metrics = f"http://{address}:{api}", f"http://{address}:{metrics}"
        flags: dict[str, str] = {
            "log-level": "INFO",
            "log-format": "nocolors",
            "data-dir": str(self.place.data),
            "nat": f"extip:{address}",
            "disc-port": str(discovery),
            "api-bindaddr": address,
            "api-port": str(api),
            "metrics-address": address,
            "metrics-port": str(metrics),
            "storage-quota": str(quota(self.place.largest)),
        }
        if "listen-addrs" in known:
            flags["listen-addrs"] = f"/ip4/{address}/tcp/{listen}"
        else:
            flags |= {"listen-ip": address, "listen-port": str(listen)}
        # nodes that share an address must all get into each other's tables
        limits = {name: "1000" for name in ("discovery-table-ip-limit", "discovery-bucket-ip-limit") if name in known}
        argv = [program, *(f"--{name}={value}" for name, value in (flags | limits).items()), "--metrics"]
        argv += [f"--bootstrap-node={contact['spr']}" for contact in bootstrap]
        if not bootstrap and "no-bootstrap-node" in known:
            argv.append("--no-bootstrap-node")  # or it would join the public network
        return Command((*argv, *shlex.split(str(self.place.settings.get("flags", "")))))

    @property
    def metrics_url(self) -> str | None:
        """Where the node tells metrics of its own."""
        return f"{self._metrics}/metrics"

    def ready(self) -> Contact | None:
        """Ready when it answers in the words of its generation, and so do its metrics."""
        try:
            told = self._asked()
            Api(self._metrics).ask("GET", "/health", timeout_s=5)
        except BadTransfer as error:
            raise AgentError(str(error)) from error
        if told is None or self._generation is None:
            return None
        word = self._generation.word
        version, revision = (told.at(word, key) for key in ("version", "revision"))
        self._versions = {"codex": f"{word} {version} {revision}"}
        peer, addresses = told.at("id"), told.at("addrs", kind=list)
        contact = {"name": self.place.name, "address": self.place.address, "peer": peer, "spr": told.at("spr")}
        return {**contact, "reach": ",".join(map(str, addresses))}

    def _asked(self) -> Answer | None:
        """What it tells of itself; from the first answer on it is known of which generation it is."""
        for generation in (self._generation,) if self._generation else GENERATIONS:
            path = f"{generation.base}/debug/info"
            told = Api(self._root).ask("GET", path, (http.client.OK, http.client.NOT_FOUND), timeout_s=5)
            if told.status == http.client.OK:
                self._generation = generation
                return told
        return None

    def versions(self) -> Mapping[str, str]:
        """As the running node tells it."""
        return self._versions

    def join(self, others: Sequence[Contact]) -> None:
        """Wait until it has found another node by itself; if it has not, dial the others.

        Raises:
            NotReady: if it can reach none of them.
        """
        end = time.monotonic() + JOIN_S
        while time.monotonic() < end:
            if self._api.ask("GET", "/debug/info").at("table", "nodes", kind=list):
                return
            time.sleep(LOOK_S)
        refusals = [refusal for other in others if (refusal := self._refused(other))]
        if others and len(refusals) == len(others):
            raise NotReady(f"{self.place.name} found none of the {len(others)} other nodes; dialled: {refusals[0]}")

    def _refused(self, other: Contact) -> str | None:
        """Why it cannot connect to another node; None if it did."""
        path = f"/connect/{other['peer']}?addrs={other['reach'].partition(',')[0]}"
        try:
            self._api.ask("GET", path, timeout_s=DIAL_S)
        except BadTransfer as error:
            return str(error)
        return None

    def publish(self, file: Path, deadline_s: float) -> Published:
        """POST the file, streamed from the disk, with the same type and name on every node."""
        answer, seconds = self._api.send("/data", Upload(file, HEADERS), deadline_s)
        if not CID.fullmatch(answer.text):
            raise BadTransfer(f"{answer.request}: status {answer.status}, but no CID: {answer.body[:300]!r}")
        return Published(Handle(answer.text), seconds)

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """Look the manifest up, then fetch: through the node to a reader, or into the node in the background."""
        path = f"/data/{want.handle.id}/network"
        nothing = dict.fromkeys(self.views, 0)
        looked_up = read_answer(f"{self._api.base}{path}/manifest", want.deadline_ns)
        body = yield from _waiting(looked_up, nothing)
        told = Answer(f"GET {self._api.base}{path}/manifest", http.client.OK, body)
        if (size := told.at("manifest", "datasetSize", kind=int)) != want.size:
            raise BadTransfer(f"{told.request}: the manifest tells of {size} bytes, not {want.size}")
        yield Arrival(time.perf_counter_ns(), 0, nothing, news="manifest_s")
        return (yield from self._background(want, path) if self.background else self._streamed(want, path))

    def _streamed(self, want: Want, path: str) -> Generator[Arrival, None, Fetched]:
        """What a reader of the file sees, in order; the digest is of what came."""
        hasher, got = Hasher(), 0
        for t_ns, piece in read_body(f"{self._api.base}{path}/stream", want.size, want.deadline_ns):
            got += len(piece)
            yield Arrival(t_ns, got, {CONTIGUOUS: got})
            hasher.update(piece)
        return Fetched(digest=hasher.hexdigest())

    def _background(self, want: Want, path: str) -> Generator[Arrival, None, Fetched]:
        """What the node holds, in any order, as it tells itself; the bytes are read back afterwards."""
        started = self._api.ask("POST", path)
        told = started.json()
        ticket = told.get("downloadId") if isinstance(told, dict) else None
        if not isinstance(ticket, int | str):
            raise BadTransfer(
                f"{started.request}: no downloadId in {started.body[:300]!r}, so this build tells no progress; take "
                "download = 'stream' for its variant"
            )
        try:
            yield from self._progress(want, f"{path}/progress/{ticket}")
        except BadTransfer:
            self._api.ask("DELETE", f"{path}/{ticket}", (200, 204, 404))
            raise
        return Fetched(url=f"{self._api.base}/data/{want.handle.id}")

    def _progress(self, want: Want, path: str) -> Generator[Arrival, None, None]:
        """Arrivals until all blocks are there."""
        held = 0
        while True:
            told = self._api.ask("GET", path)
            t_ns = time.perf_counter_ns()
            active = told.at("active", kind=bool)
            if active or "received" in told.json():
                received, total = (told.at(key, kind=int) for key in ("received", "total"))
                done = 0 < total <= received
                # the last block is padded
                held = want.size if done else max(held, min(told.at("bytes", kind=int), want.size - 1))
            elif done := self._stored(want.size):  # some builds say no more of a fetch that ended, well or not
                held = want.size
            if t_ns > want.deadline_ns:
                raise BadTransfer(f"{told.request}: the deadline passed with {held} of {want.size} bytes")
            yield Arrival(t_ns, held, {AVAILABLE: held})
            if done:
                return
            if not active:
                raise BadTransfer(f"{told.request}: it gave up with {held} of {want.size} bytes: {told.text}")
            time.sleep(LOOK_S)

    def _stored(self, size: int) -> bool:
        """Whether it has as many blocks as a file of ``size`` bytes, the one file that it stores, and its manifest."""
        blocks: int = self._api.ask("GET", "/space").at("totalBlocks", kind=int)
        return blocks > -(-size // BLOCK)

    def delete(self, handle: Handle) -> None:
        """DELETE until its space is free: a fetch whose reader has gone goes on for a while."""
        end = time.monotonic() + FREED_S + self.place.largest / 50e6
        while True:
            left_s = max(end - time.monotonic(), 1)
            self._api.ask("DELETE", f"/data/{handle.id}", (http.client.NO_CONTENT,), timeout_s=left_s)
            if not self.holds(handle) or time.monotonic() > end:
                return
            time.sleep(LOOK_S)

    def holds(self, handle: Handle | None) -> bool:
        """Whether any block is left: it stores one file at a time, and its list leaves out broken uploads."""
        return bool(self._api.ask("GET", "/space").at("totalBlocks", kind=int))

    def traffic(self) -> Traffic:
        """Blocks that it exchanged, as bytes: all are of 64 KiB, the last one padded, but for the manifest's."""
        from prometheus_client.parser import text_string_to_metric_families

        text = Api(self._metrics).ask("GET", "/metrics").text
        prefix = f"{(self._generation or GENERATIONS[0]).word}_"
        told: dict[str, float] = {}
        for family in text_string_to_metric_families(text + "\n"):
            for sample in family.samples:
                name = sample.name.removeprefix(prefix)
                if name.endswith("_total") and name.startswith(("block_exchange_", "dht_transport_", "api_")):
                    told[name] = told.get(name, 0.0) + sample.value
        sent, received = (told.get(f"block_exchange_blocks_{way}_total") for way in ("sent", "received"))
        return Traffic(_as_bytes(received), _as_bytes(sent), told)


def quota(largest: int) -> int:
    """Bytes for a node that stores files of ``largest`` bytes, one at a time, and the rest of a broken one."""
    return 2 * (largest // BLOCK + 2) * BLOCK + (64 << 20)


def _as_bytes(blocks: float | None) -> int | None:
    return None if blocks is None else int(blocks) * BLOCK


def _flags(program: str) -> frozenset[str]:
    """The flags that a program's help knows: they changed from generation to generation."""
    return frozenset(FLAG.findall(output_of(program, "--help")))


def _waiting(moments: Generator[int, None, bytes], held: Mapping[str, int]) -> Generator[Arrival, None, bytes]:
    """Arrivals of nothing while an answer is waited for."""
    while True:
        try:
            t_ns = next(moments)
        except StopIteration as end:
            body: bytes = end.value
            return body
        yield Arrival(t_ns, 0, held)
