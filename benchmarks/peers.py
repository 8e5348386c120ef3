"""Our clients against others on the same work, in turn."""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import math
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_from_bytes

import libtorrent as lt
import psutil

from pytest_codexbench.backends.network import BRIDGE_ADDRESS, Bridge, Seat, entered, isolation
from pytest_codexbench.errors import BadTransfer, BenchError, NotReady, WrongInput
from pytest_codexbench.httpbody import read_body
from pytest_codexbench.matrix import Variant, parse_size, size_text
from pytest_codexbench.nodes.bittorrent import make_ticket
from pytest_codexbench.payload import Hasher, Payload, digest_of_file
from pytest_codexbench.programs import checked_program
from pytest_codexbench.rpc import TOKEN_VARIABLE, Message, call, stream
from pytest_codexbench.stats import Interval, median, median_interval, ratio
from pytest_codexbench.systems import Arrival, Command, Contact, Fetched, Handle, Place, Want
from pytest_codexbench.systems.ipfs import Ipfs, IpfsNode

T = TypeVar("T")

NS = 10**9
MIB = 1 << 20
READY_S = 60.0
LOOK_S = 0.01
END_S = 10.0
LEAST_MB_S = 3
TRACKER_PORT, PEER_PORT, CONTROL_PORT = 6969, 6881, 9091
ANNOUNCE = f"http://{BRIDGE_ADDRESS}:{TRACKER_PORT}/announce"
TOKEN = "peers"  # noqa: S105 - guards nothing: nobody else is in the namespaces
BEST_BITTORRENT, CURL_SHARE = 1.0, 0.95
# A GET is over in half a second, and depends on which cores its two ends run on: it takes more of them.
HTTP_TURNS = 4
CURL = ("curl", "--silent", "--show-error", "--noproxy", "*")


@dataclass(frozen=True, slots=True)
class Turn:
    """One transfer. ``first_s`` is when 1 MiB had come over the leecher's link, for HTTP the first byte."""

    seconds: float
    first_s: float
    leecher_cpu_s: float
    seeder_cpu_s: float

    def mb_s_after_first(self, size: int) -> float:
        """10^6 bytes a second without what it took to start."""
        return size / 1e6 / (self.seconds - self.first_s) if self.seconds > self.first_s else math.inf


@dataclass(slots=True)
class Scene:
    """The namespaces, the file that is spread, and the processes of the turn that is on."""

    folder: Path
    seats: Sequence[Seat]
    size: int
    payload: Path
    digest: str
    ticket: bytes
    ipfs: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def deadline_s(self) -> float:
        """How long one transfer may take."""
        return 30 + self.size / (LEAST_MB_S * 1e6)

    @contextmanager
    def turn(self) -> Iterator[Path]:
        """A folder for one turn; processes started inside are killed, the folder goes."""
        folder = Path(tempfile.mkdtemp(prefix="turn-", dir=self.folder))
        try:
            yield folder
        finally:
            for process in self.processes:
                process.kill()
            while self.processes:
                self.processes.pop().wait()
            shutil.rmtree(folder)

    def start(
        self, argv: Sequence[str], seat: Seat | None, folder: Path, more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Run a program in the seat's network, or on the bridge; its output goes to ``log`` in its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        own = {"HOME": str(folder), TOKEN_VARIABLE: TOKEN, "PYTHONDONTWRITEBYTECODE": "1"}
        env = {**os.environ, **own, **(more or {})}
        with (folder / "log").open("ab") as log, _place(seat):
            process = subprocess.Popen(
                argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def warm(self) -> None:
        """The seeder's file is in the page cache."""
        with self.payload.open("rb", buffering=0) as file:
            piece = bytearray(MIB)
            while file.readinto(piece):
                pass


def _place(seat: Seat | None) -> contextlib.AbstractContextManager[None]:
    return entered(seat.netns) if seat else contextlib.nullcontext()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and see that it has."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(what: str, look: Callable[[], T | None], deadline_s: float = READY_S, every_s: float = LOOK_S) -> T:
    """What ``look`` finds; it is asked again until then."""
    until_s = time.monotonic() + deadline_s
    while (found := look()) is None:
        if time.monotonic() > until_s:
            raise NotReady(f"{what}: not within {deadline_s:g} s")
        time.sleep(every_s)
    return found


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Processor time of a running program and its children."""
    with suppress(psutil.Error):
        times = psutil.Process(process.pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


# --- BitTorrent clients -----------------------------------------------------------------------------------------------


class Client:
    """One BitTorrent client in a process of its own, in a seat's network namespace."""

    program = ""
    signal = ""

    def __init__(self, scene: Scene, seat: Seat, folder: Path) -> None:
        self.scene, self.seat, self.folder = scene, seat, folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self._prepare()
        self.process = scene.start(self.command(), seat, folder)
        until(f"{self.program} to answer", self._answered)

    @classmethod
    def missing(cls) -> bool:
        """Whether it is not installed."""
        return shutil.which(cls.program) is None

    def command(self) -> list[str]:
        """How it is started: with no torrent yet."""
        raise NotImplementedError

    def seed(self) -> None:
        """Seed the payload from where it lies, without copying it."""
        raise NotImplementedError

    def fetch(self) -> int:
        """Add the torrent, and wait for the client's own word that it has all: the moment of ``perf_counter_ns``."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Write what it reads when it starts."""

    def _ready(self) -> bool:
        raise NotImplementedError

    def _answered(self) -> bool | None:
        if self.process.poll() is not None:
            raise NotReady(f"{self.program} ended with status {self.process.returncode}; {self.log()}")
        with suppress(OSError, http.client.HTTPException, BenchError):
            return self._ready() or None
        return None

    def log(self) -> str:
        """The end of what it said."""
        return f"the end of its log: {(self.folder / 'log').read_text(errors='replace')[-1000:] or '(empty)'}"

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
        """One request to its control port on its own loopback: status, body, transmission's session."""
        connection = http.client.HTTPConnection("127.0.0.1", CONTROL_PORT, timeout=30)
        with closing(connection):
            with entered(self.seat.netns):
                connection.connect()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("X-Transmission-Session-Id", "")


class Ours(Client):
    """The project's node, profile ``tuned``."""

    program = "codexbench"
    signal = "its fetch ends"

    @classmethod
    def missing(cls) -> bool:
        return False

    def command(self) -> list[str]:
        module = [sys.executable, "-m", "pytest_codexbench.nodes.bittorrent", "--profile", "tuned"]
        return [
            *module, "--control", self._url, "--address", self.seat.address, "--data", str(self.data),
            "--tracker", ANNOUNCE,
        ]  # fmt: skip

    @property
    def _url(self) -> str:
        return f"unix:{self.folder}/node.sock"

    def _ready(self) -> bool:
        return bool(call(self._url, "health", token=TOKEN)["ready"])

    def seed(self) -> None:
        call(self._url, "seed", {"path": str(self.scene.payload)}, token=TOKEN, timeout_s=READY_S)

    def fetch(self) -> int:
        request = {"ticket": base64.b64encode(self.scene.ticket).decode(), "folder": str(self.data)}
        for line in stream(self._url, "fetch", request, token=TOKEN, timeout_s=self.scene.deadline_s):
            if "done" in line:
                return time.perf_counter_ns()
        raise BadTransfer("the answer ended before the fetch did")


class Hooked(Client):
    """A client that runs a program when it is done, here one that writes a line into a pipe."""

    def _prepare(self) -> None:
        os.mkfifo(self._pipe)
        # opened for both directions, it does not wait for a reader: a seeder's has none
        self.hook.write_text(f"#!/bin/sh\necho done 1<>{self._pipe}\n", encoding="ascii")
        self.hook.chmod(0o755)

    @property
    def hook(self) -> Path:
        """The program."""
        return self.folder / "hook"

    @property
    def _pipe(self) -> Path:
        return self.folder / "done"

    def add(self) -> None:
        """Add the torrent, to be fetched."""
        raise NotImplementedError

    def fetch(self) -> int:
        pipe = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        try:
            self.add()
            ready, _, _ = select.select([pipe], [], [], self.scene.deadline_s)
            moment = time.perf_counter_ns()
        finally:
            os.close(pipe)
        if not ready:
            raise BadTransfer(f"{self.program} was not done within {self.scene.deadline_s:g} s; {self.log()}")
        return moment


class Aria2(Hooked):
    """Started with its JSON-RPC; files are not filled with zeros first, which would write each byte twice."""

    program = "aria2c"
    signal = "it runs its program for that (--on-bt-download-complete)"

    def command(self) -> list[str]:
        return [
            "aria2c", "--no-conf", "--enable-rpc", f"--rpc-listen-port={CONTROL_PORT}",
            "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
            "--disable-ipv6", f"--listen-port={PEER_PORT}", "--file-allocation=none", "--seed-ratio=0",
            "--bt-require-crypto=false", "--bt-min-crypto-level=plain", "--bt-seed-unverified",
            "--max-overall-upload-limit=0", "--max-overall-download-limit=0", "--summary-interval=0",
            f"--on-bt-download-complete={self.hook}",
        ]  # fmt: skip

    def _ready(self) -> bool:
        return "version" in self._rpc("aria2.getVersion")

    def _rpc(self, method: str, *parameters: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
        status, answer, _ = self.ask("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        if status != http.client.OK:
            raise BadTransfer(f"aria2 {method}: {answer[:300]!r}")
        return json.loads(answer)["result"]

    def _add(self, folder: Path) -> None:
        self._rpc("aria2.addTorrent", base64.b64encode(self.scene.ticket).decode(), [], {"dir": str(folder)})

    def seed(self) -> None:
        self._add(self.scene.payload.parent)

    def add(self) -> None:
        self._add(self.data)


class Transmission(Client):
    """Asked for the bytes it lacks, ever finer towards the end: its script for the end is up to 0.5 s late.

    It is slow between two peers, and idle for most of the time; others found 4 to 16 MB/s
    (https://github.com/transmission/transmission/issues/6986).
    """

    program = "transmission-daemon"
    signal = "its RPC says that nothing is left to get, asked at least every 10 ms towards the end"
    _session = ""

    def _prepare(self) -> None:
        settings = {
            "dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False, "encryption": 0,
            "port-forwarding-enabled": False, "peer-port": PEER_PORT, "download-dir": str(self.data),
            "rpc-port": CONTROL_PORT, "rpc-bind-address": "127.0.0.1", "rpc-authentication-required": False,
            "rpc-whitelist-enabled": False, "rpc-host-whitelist-enabled": False,
            "speed-limit-down-enabled": False, "speed-limit-up-enabled": False, "ratio-limit-enabled": False,
        }  # fmt: skip
        (self.folder / "settings.json").write_text(json.dumps(settings), encoding="ascii")

    def command(self) -> list[str]:
        return ["transmission-daemon", "--foreground", "--config-dir", str(self.folder), "--log-error"]

    def _ready(self) -> bool:
        return "version" in self._rpc("session-get", {})

    def _rpc(self, method: str, arguments: Mapping[str, object]) -> Message:
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        status, answer, session = self.ask("POST", "/transmission/rpc", body, self._headers())
        if status == http.client.CONFLICT:
            self._session = session
            status, answer, _ = self.ask("POST", "/transmission/rpc", body, self._headers())
        told = json.loads(answer)
        if told["result"] != "success":
            raise BadTransfer(f"transmission {method}: {told['result']}")
        arguments_back: Message = told["arguments"]
        return arguments_back

    def _headers(self) -> Mapping[str, str]:
        return {"X-Transmission-Session-Id": self._session}

    def _add(self, folder: Path) -> None:
        metainfo = base64.b64encode(self.scene.ticket).decode()
        self._rpc("torrent-add", {"metainfo": metainfo, "download-dir": str(folder), "paused": False})

    def seed(self) -> None:
        self._add(self.scene.payload.parent)

    def fetch(self) -> int:
        start_ns = time.perf_counter_ns()
        self._add(self.data)
        while True:
            torrent = self._rpc("torrent-get", {"fields": ["leftUntilDone"]})["torrents"][0]
            now_ns = time.perf_counter_ns()
            left = torrent["leftUntilDone"]
            if not left:
                return now_ns
            spent_s = (now_ns - start_ns) / NS
            if spent_s > self.scene.deadline_s:
                raise BadTransfer(f"{self.program} lacked {left} bytes after {spent_s:.0f} s; {self.log()}")
            got = self.scene.size - left
            time.sleep(min(0.2, max(0.005, spent_s * left / got / 4)) if got else 0.05)


class Qbittorrent(Hooked):
    """Its own look at its torrents is set to 10 ms, because it tells of an end only then; by default that is 1.5 s."""

    program = "qbittorrent-nox"
    signal = "it runs its program for that, at most 10 ms late"

    def _prepare(self) -> None:
        super()._prepare()
        place = self.folder / "qBittorrent" / "config" / "qBittorrent.conf"
        place.parent.mkdir(parents=True)
        place.write_text(
            f"""[AutoRun]
enabled=true
program={self.hook}

[BitTorrent]
Session\\BTProtocol=TCP
Session\\DHTEnabled=false
Session\\DefaultSavePath={self.data}
Session\\Encryption=2
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\Port={PEER_PORT}
Session\\Preallocation=false
Session\\QueueingSystemEnabled=false
Session\\RefreshInterval=10

[LegalNotice]
Accepted=true

[Network]
PortForwardingEnabled=false

[Preferences]
Connection\\UPnP=false
WebUI\\Address=127.0.0.1
WebUI\\CSRFProtection=false
WebUI\\HostHeaderValidation=false
WebUI\\LocalHostAuth=false
WebUI\\Port={CONTROL_PORT}
WebUI\\UseUPnP=false
""",
            encoding="ascii",
        )

    def command(self) -> list[str]:
        return ["qbittorrent-nox", f"--profile={self.folder}"]

    def _ready(self) -> bool:
        return self.ask("GET", "/api/v2/app/version", b"", {})[0] == http.client.OK

    def _add(self, folder: Path, *, whole: bool) -> None:
        edge = "end-of-part"
        fields = {"savepath": str(folder), "skip_checking": str(whole).lower(), "autoTMM": "false"}
        parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        parts.append(f'--{edge}\r\nContent-Disposition: form-data; name="torrents"; filename="a.torrent"\r\n')
        parts.append("Content-Type: application/x-bittorrent\r\n\r\n")
        body = "".join(parts).encode() + self.scene.ticket + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        status, answer, _ = self.ask("POST", "/api/v2/torrents/add", body, headers)
        if status != http.client.OK or answer.strip() != b"Ok.":
            raise BadTransfer(f"qbittorrent did not take the torrent: status {status}, {answer[:300]!r}")

    def seed(self) -> None:
        self._add(self.scene.payload.parent, whole=True)

    def add(self) -> None:
        self._add(self.data, whole=False)


def bittorrent_turn(scene: Scene, kind: type[Client]) -> Turn:
    """One transfer from a fresh client to another one, which meet through a fresh tracker."""
    with scene.turn() as folder:
        module = [sys.executable, "-m", "pytest_codexbench.nodes.tracker"]
        scene.start([*module, "--address", BRIDGE_ADDRESS, "--port", str(TRACKER_PORT)], None, folder / "tracker")
        until("the tracker to answer", lambda: _tracked("/health"))
        seeder, leecher = (kind(scene, seat, folder / f"n{seat.index}") for seat in scene.seats)
        seeder.seed()
        until("the seeder to announce itself", lambda: _seeders(scene.ticket))
        scene.warm()
        used = [cpu_s(client.process) for client in (seeder, leecher)]
        with _first_mib(leecher.seat) as first_ns:
            start_ns = time.perf_counter_ns()
            end_ns = leecher.fetch()
        seeder_cpu_s, leecher_cpu_s = (
            cpu_s(client.process) - before for client, before in zip((seeder, leecher), used, strict=True)
        )
        _check(leecher)
        return Turn(
            (end_ns - start_ns) / NS, (min(first_ns, default=end_ns) - start_ns) / NS, leecher_cpu_s, seeder_cpu_s
        )


def _check(leecher: Client) -> None:
    path = leecher.data / leecher.scene.payload.name
    until(f"{path.name} to get its name", lambda: path.exists() or None)
    end(leecher.process)
    if (found := digest_of_file(path)) != leecher.scene.digest:
        raise BadTransfer(f"{leecher.program} says it is done, but the digest of its file is {found}")


def _tracked(path: str) -> bytes | None:
    with closing(http.client.HTTPConnection(BRIDGE_ADDRESS, TRACKER_PORT, timeout=5)) as connection, suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().read()
    return None


def _seeders(ticket: bytes) -> bool | None:
    told = _tracked(f"/scrape?info_hash={quote_from_bytes(_info_hash(ticket), safe='')}") or b""
    return True if b"8:completei1e" in told else None


def _info_hash(ticket: bytes) -> bytes:
    return lt.load_torrent_buffer(ticket).info_hashes.v1.to_bytes()


@contextmanager
def _first_mib(seat: Seat) -> Iterator[list[int]]:
    """The moment when 1 MiB had gone to the seat, looked for every 5 ms until then."""
    moments: list[int] = []
    over = threading.Event()
    before = _sent_to(seat)

    def look() -> None:
        while not over.wait(0.005):
            if _sent_to(seat) - before > MIB:
                moments.append(time.perf_counter_ns())
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield moments
    finally:
        over.set()
        thread.join()


def _sent_to(seat: Seat) -> int:
    for line in Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == seat.port:
            return int(counters.split()[8])
    raise NotReady(f"{seat.port} is not there")


# --- HTTP clients -----------------------------------------------------------------------------------------------------


def http_turn(scene: Scene, client: Callable[[str, int], list[str]]) -> Turn:
    """One GET from the project's origin, by a program that prints its seconds as JSON."""
    with scene.turn() as folder:
        server, reader = scene.seats
        control = f"unix:{folder}/node.sock"
        module = [sys.executable, "-m", "pytest_codexbench.nodes.http", "--control", control]
        argv = [*module, "--address", server.address, "--data", str(scene.payload.parent)]
        origin = scene.start(argv, server, folder / "origin")
        url: str = until("the origin to answer", lambda: _origin(control))
        scene.warm()
        before = cpu_s(origin)
        process = scene.start(client(f"{url}/{scene.payload.name}", scene.size), reader, folder / "client")
        told = _told(scene, process, folder / "client")
        return Turn(told["seconds"], told["first_s"], told["cpu_s"], cpu_s(origin) - before)


def _origin(control: str) -> str | None:
    with suppress(BenchError):
        return str(call(control, "health", token=TOKEN)["origin"])
    return None


def _told(scene: Scene, process: subprocess.Popen[bytes], folder: Path) -> Message:
    """What a reader prints in the end, and its processor time if it does not say it."""
    status, own_cpu_s = _ended(process, scene.deadline_s)
    text = (folder / "log").read_text(errors="replace")
    if status != 0:
        raise BadTransfer(f"{process.args!r} ended with status {status}: {text[-1000:]}")
    told: Message = json.loads(text)
    if told["size"] != scene.size or told.get("digest", scene.digest) != scene.digest:
        raise BadTransfer(f"{process.args!r} got something else: {text}")
    return {"cpu_s": own_cpu_s, **told}


def _ended(process: subprocess.Popen[bytes], deadline_s: float) -> tuple[int, float]:
    """Its status and the processor time it took."""
    timer = threading.Timer(deadline_s, process.kill)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def our_reader(url: str, size: int) -> list[str]:
    """The project's reader of HTTP bodies, with the digest of what it reads."""
    return [sys.executable, __file__, "--reader", url, str(size)]


def curl(url: str, size: int) -> list[str]:
    """Curl by its own clock."""
    told = '{"seconds": %{time_total}, "first_s": %{time_starttransfer}, "size": %{size_download}}'
    return [*CURL, "--output", "/dev/null", "--write-out", told, url]


def read(url: str, size: int) -> int:
    """What ``our_reader`` runs."""
    hasher, got, first_ns = Hasher(), 0, 0
    spent_s, start_ns = time.process_time(), time.perf_counter_ns()
    for moment, piece in read_body(url, size, start_ns + 3600 * NS):
        first_ns = first_ns or moment
        hasher.update(piece)
        got += len(piece)
    digest, end_ns = hasher.hexdigest(), time.perf_counter_ns()
    told = {"seconds": (end_ns - start_ns) / NS, "first_s": (first_ns - start_ns) / NS, "size": got, "digest": digest}
    print(json.dumps({**told, "cpu_s": time.process_time() - spent_s}))
    return 0


# --- downloads from a Kubo node ---------------------------------------------------------------------------------------


class Kubo:
    """A node of ours, asked in its own network namespace, as its agent asks it."""

    def __init__(self, scene: Scene, seat: Seat, folder: Path) -> None:
        self.scene, self.seat, self.folder = scene, seat, folder
        place = Place(f"n{seat.index}", seat.address, folder, TOKEN, {"bin": scene.ipfs}, largest=scene.size)
        place.data.mkdir(parents=True)
        self.driver = IpfsNode(place)
        with entered(seat.netns):
            self._command: Command = self.driver.command(())
            self.process = scene.start(self._command.argv, seat, folder, self._command.env)
            self.contact: Contact = until("Kubo to answer", self._answered)

    def _answered(self) -> Contact | None:
        if self.process.poll() is not None:
            said = (self.folder / "log").read_text(errors="replace")[-1000:]
            raise NotReady(f"{self.scene.ipfs} ended with status {self.process.returncode}: {said or '(silent)'}")
        return self.driver.ready()

    def url(self, handle: Handle) -> str:
        """What the driver asks for, at the address that the daemon wrote down."""
        _, _, host, _, port = Path(self._command.env["IPFS_PATH"], "api").read_text(encoding="ascii").strip().split("/")
        return f"http://{host}:{port}/api/v0/cat?arg={handle.id}"


@dataclass(frozen=True, slots=True)
class Swarm:
    """A node that has all of the file, and others that join it."""

    scene: Scene
    folder: Path
    first: Kubo
    handle: Handle

    @contextmanager
    def another(self) -> Iterator[Kubo]:
        """A fresh node that knows the first, for one download.

        One that fetches what it had before and collected stalls at times, whoever asks it: Kubo 0.38 in 4 of 33.
        """
        folder = Path(tempfile.mkdtemp(prefix="another-", dir=self.folder))
        node = Kubo(self.scene, self.scene.seats[1], folder)
        try:
            with entered(node.seat.netns):
                node.driver.join([self.first.contact])
            yield node
        finally:
            end(node.process)
            shutil.rmtree(folder)


@contextmanager
def swarm(scene: Scene) -> Iterator[Swarm]:
    """A fresh node with the file; what curl gets of it is checked, which brings its blocks into the page cache."""
    with scene.turn() as folder:
        first = Kubo(scene, scene.seats[0], folder / "first")
        with entered(first.seat.netns):
            handle = first.driver.publish(scene.payload, scene.deadline_s).handle
            argv = [*CURL, "--max-time", f"{scene.deadline_s:.0f}", "--request", "POST", first.url(handle)]
            with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
                hasher = Hasher()
                while process.stdout and (piece := process.stdout.read(MIB)):
                    hasher.update(piece)
        if process.returncode != 0 or hasher.hexdigest() != scene.digest:
            raise BadTransfer(f"{argv!r}: status {process.returncode}, digest {hasher.hexdigest()}")
        yield Swarm(scene, folder, first, handle)


def ipfs_turn(client: Callable[[Swarm, Kubo], Message], far: bool, nodes: Swarm) -> Turn:
    """One download from the node that has all, or (``far``) from one beside the client that gets it from there."""
    with nodes.another() if far else contextlib.nullcontext(nodes.first) as node:
        processes = {nodes.first.process, node.process}
        before = sum(map(cpu_s, processes))
        told = client(nodes, node)
        return Turn(told["seconds"], told["first_s"], told["cpu_s"], sum(map(cpu_s, processes)) - before)


def our_fetch(nodes: Swarm, node: Kubo) -> Message:
    """The driver's own, with the digest of what it reads, in this process."""
    scene = nodes.scene
    with entered(node.seat.netns):
        spent_s, start_ns = time.process_time(), time.perf_counter_ns()
        deadline_ns = start_ns + round(scene.deadline_s * NS)
        want = Want(nodes.handle, scene.size, (nodes.first.contact,), 0, start_ns, deadline_ns)
        first_ns, fetched = _followed(node.driver.fetch(want))
        end_ns, own_cpu_s = time.perf_counter_ns(), time.process_time() - spent_s
    if fetched.digest != scene.digest:
        raise BadTransfer(f"our fetch ended, but the digest of what came is {fetched.digest}")
    return {"seconds": (end_ns - start_ns) / NS, "first_s": (first_ns - start_ns) / NS, "cpu_s": own_cpu_s}


def _followed(arrivals: Generator[Arrival, None, Fetched]) -> tuple[int, Fetched]:
    """When its first bytes came, and its end."""
    first_ns = 0
    while True:
        try:
            arrival = next(arrivals)
        except StopIteration as end_of_it:
            return first_ns, end_of_it.value
        if arrival.received and not first_ns:
            first_ns = arrival.t_ns


def curl_fetch(nodes: Swarm, node: Kubo) -> Message:
    """Curl's, of the same request, by its own clock."""
    folder = Path(tempfile.mkdtemp(prefix="curl-", dir=nodes.folder))
    argv = [*curl(node.url(nodes.handle), nodes.scene.size), "--request", "POST"]
    return _told(nodes.scene, nodes.scene.start(argv, node.seat, folder), folder)


# --- the run ----------------------------------------------------------------------------------------------------------

BITTORRENT: Mapping[str, type[Client]] = {
    "bittorrent": Ours,
    "aria2": Aria2,
    "transmission": Transmission,
    "qbittorrent": Qbittorrent,
}
HTTP: Mapping[str, Callable[[str, int], list[str]]] = {"http": our_reader, "curl": curl}
IPFS: Mapping[str, Callable[[Swarm], Turn]] = {
    "ipfs": partial(ipfs_turn, our_fetch, False),
    "ipfs-curl": partial(ipfs_turn, curl_fetch, False),
}
SWARM: Mapping[str, Callable[[Swarm], Turn]] = {
    "swarm": partial(ipfs_turn, our_fetch, True),
    "swarm-curl": partial(ipfs_turn, curl_fetch, True),
}
KUBO = {**IPFS, **SWARM}
NAMES = (*BITTORRENT, *HTTP, *KUBO)
GOALS: Sequence[tuple[str, Mapping[str, object], float]] = (
    ("bittorrent", BITTORRENT, BEST_BITTORRENT),
    ("http", HTTP, CURL_SHARE),
    ("ipfs", IPFS, CURL_SHARE),
    ("swarm", SWARM, CURL_SHARE),
)


def inside(options: argparse.Namespace) -> int:
    """All turns, as the first process of the namespaces."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    folder: Path = options.inside
    try:
        with Bridge() as bridge:
            return _compete(options, folder, bridge.seats(2, None))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_caller() -> None:
    """The caller holds the other end of standard input."""
    while os.read(sys.stdin.fileno(), 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _compete(options: argparse.Namespace, folder: Path, seats: Sequence[Seat]) -> int:
    payload = folder / "payload" / "payload"
    payload.parent.mkdir()
    digest = Payload(options.size, options.seed).write(payload)
    scene = Scene(folder, seats, options.size, payload, digest, make_ticket(payload, ANNOUNCE), options.ipfs_bin)
    turns: dict[str, list[Turn | None]] = {name: [] for name in options.only}
    for number in range(options.rounds):
        for part in _order(options.only, random.Random(f"{options.seed} {number}")):
            for name, turn in _turns(scene, part):
                turns[name].append(turn)
                told = f"{options.size / turn.seconds / 1e6:7.1f} MB/s" if turn else "failed"
                print(f"round {number}: {name:12} {told}", flush=True)
    _report(options.size, turns)
    return 0 if _verdicts(turns) else 1


def _order(names: Sequence[str], chance: random.Random) -> Iterator[Sequence[str]]:
    """Each BitTorrent client once; readers in pairs, HTTP's several times, those of one swarm in one part."""
    parts = [[name] for name in names if name in BITTORRENT]
    parts += [[name for name in names if name in HTTP] for _ in range(HTTP_TURNS)]
    chance.shuffle(parts)
    for part in parts:
        chance.shuffle(part)
    pairs = [[name for name in names if name in pair] for pair in (*[IPFS] * HTTP_TURNS, SWARM)]
    for pair in pairs:
        chance.shuffle(pair)
    parts.insert(chance.randint(0, len(parts)), [name for pair in pairs for name in pair])
    yield from filter(None, parts)


def _turns(scene: Scene, part: Sequence[str]) -> Iterator[tuple[str, Turn | None]]:
    with ExitStack() as stack:
        nodes = _tried("ipfs", lambda: stack.enter_context(swarm(scene))) if part[0] in KUBO else None
        for name in part:
            if name in BITTORRENT:
                yield name, _tried(name, partial(bittorrent_turn, scene, BITTORRENT[name]))
            elif name in HTTP:
                yield name, _tried(name, partial(http_turn, scene, HTTP[name]))
            else:
                yield name, _tried(name, partial(KUBO[name], nodes)) if nodes else None


def _tried(name: str, act: Callable[[], T]) -> T | None:
    try:
        return act()
    except (BenchError, OSError, http.client.HTTPException) as error:
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
        return None


def _report(size: int, turns: Mapping[str, Sequence[Turn | None]]) -> None:
    print(
        "\nfirst s: until 1 MiB had come over the leecher's link (HTTP: the first byte); MB/s after: from there on;"
        " cores: busy with both."
        f"\n{'':12} {'done':>5} {'s, median':>10} {'(least..most)':>17} {'MB/s':>7} {'first s':>8} {'MB/s after':>10}"
        f" {'CPU s leecher':>14} {'seeder':>7} {'cores':>6}"
    )
    for name, each in turns.items():
        done = [turn for turn in each if turn]
        if not done:
            print(f"{name:12} 0/{len(each)} never finished")
            continue
        seconds = [turn.seconds for turn in done]
        spread = f"({min(seconds):.3f}..{max(seconds):.3f})"
        after = median(turn.mb_s_after_first(size) for turn in done)
        count, centre = f"{len(done)}/{len(each)}", median(seconds)
        print(
            f"{name:12} {count:>5} {centre:10.3f} {spread:>17} {size / centre / 1e6:7.1f}"
            f" {median(t.first_s for t in done):8.3f} {after:10.1f}"
            f" {median(t.leecher_cpu_s for t in done):14.2f} {median(t.seeder_cpu_s for t in done):7.2f}"
            f" {median((t.leecher_cpu_s + t.seeder_cpu_s) / t.seconds for t in done):6.2f}"
        )


def _verdicts(turns: Mapping[str, Sequence[Turn | None]]) -> bool:
    """Print the ratios of speeds by round; whether no goal is missed for certain."""
    print(
        "\nSpeed of ours / speed of theirs, paired by round: median and its 95 % interval (below 6 pairs the range).\n"
        "PASS or FAIL if all of the interval is above or below the goal; else open: more rounds, or a calmer machine."
    )
    good = True
    for ours, others, goal in GOALS:
        found = {name: _ratio(turns, ours, name) for name in others if name != ours}
        ratios = {name: interval for name, interval in found.items() if interval is not None}
        hardest = min(ratios, key=lambda name: ratios[name].median, default="")
        for name, interval in ratios.items():
            verdict = ""
            if name == hardest:
                met = _met(interval, goal)
                good &= met != "FAIL"
                verdict = f"  the fastest of the others; goal {goal:.2f}: {met}"
            print(f"{ours} / {name:13} {interval.median:6.3f} ({interval.low:.3f}..{interval.high:.3f}){verdict}")
    return good


def _met(interval: Interval, goal: float) -> str:
    if interval.level is None:
        return "open"
    return "PASS" if interval.low >= goal else "FAIL" if interval.high < goal else "open"


def _ratio(turns: Mapping[str, Sequence[Turn | None]], ours: str, theirs: str) -> Interval | None:
    """Of times, theirs over ours; who fails took for ever, and where both did there is no ratio."""
    pairs = zip(turns.get(ours, ()), turns.get(theirs, ()), strict=False)
    ratios = [ratio(*(turn.seconds if turn else math.inf for turn in (they, we))) for we, they in pairs if we or they]
    return median_interval(ratios) if ratios else None


def outside(options: argparse.Namespace) -> int:
    """Say what is compared, and run it in namespaces that end with it."""
    prefix, why_not = isolation()
    if why_not is not None:
        sys.exit(f"there are no network namespaces here: {why_not}")
    missing = {name: why for name in options.only if (why := _missing(name, options.ipfs_bin))}
    _print_head(options, missing)
    names = [name for name in options.only if name not in missing]
    if not names:
        sys.exit("nothing is left to compare")
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    argv = [sys.executable, __file__, "--inside", str(folder), "--only", ",".join(names)]
    argv += ["--size", f"{options.size}B", "--rounds", str(options.rounds), "--seed", str(options.seed)]
    argv += ["--ipfs-bin", options.ipfs_bin] if set(names) & set(KUBO) else []
    process = subprocess.Popen([*prefix, *argv], stdin=subprocess.PIPE, start_new_session=True)
    try:
        return process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()
        end_s = 2 * END_S
        try:
            process.wait(end_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _missing(name: str, ipfs: str) -> str | None:
    """Why it is left out, None if it is not."""
    if name in BITTORRENT:
        return "it is not installed" if BITTORRENT[name].missing() else None
    if name in KUBO and not ipfs:
        return "no `ipfs` program on PATH; give --ipfs-bin=PATH"
    if name in KUBO and (why := Ipfs().missing(Variant("ipfs", "ipfs", (("bin", ipfs),)))):
        return why
    return "curl is not installed" if name != "http" and shutil.which("curl") is None else None


def _print_head(options: argparse.Namespace, missing: Mapping[str, str]) -> None:
    print(
        f"{size_text(options.size)} from one node to another, each in a network namespace of its own, links not shaped."
        f" {options.rounds} rounds,\nall in each, in drawn order (HTTP {HTTP_TURNS} times). The seeder's file is in the"
        " page cache."
        " BitTorrent: from the request that adds\nthe torrent to the client's own word that all is verified; TCP, no"
        " DHT, LSD, PEX or encryption, our tracker, one\nticket for all. HTTP: from our origin, by the reader's own"
        f" clock after its start.\nipfs: from the Kubo node beside the client, which has all ({HTTP_TURNS} times);"
        " swarm: from one that gets it from another (once);\nPOST to /api/v0/cat, our driver's fetch with the digest,"
        f" curl's to /dev/null. Load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )
    for name in options.only:
        if name in missing:
            print(f"{name}: left out: {missing[name]}")
        elif name in BITTORRENT:
            print(f"{name}: done when {BITTORRENT[name].signal}")
    print(flush=True)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    return names


def _program(text: str) -> str:
    try:
        return checked_program(text) if text else ""
    except WrongInput as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def main() -> int:
    """One process watches, another one competes in namespaces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=parse_size, default=10**9, help="of the file, by default 1GB")
    parser.add_argument("--rounds", type=int, default=6, help="by default %(default)s, the least for an interval")
    parser.add_argument("--only", type=_names, default=list(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--seed", type=int, default=1, help="what the bytes and the order are drawn from")
    parser.add_argument(
        "--ipfs-bin", type=_program, default=shutil.which("ipfs") or "", help="Kubo's program, by default ipfs on PATH"
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reader", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        return read(options.reader[0], int(options.reader[1]))
    if options.inside:
        return inside(options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return outside(options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BenchError as error:
        sys.exit(str(error))
