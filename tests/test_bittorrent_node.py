"""The BitTorrent node and its tracker, as processes on 127.0.0.x."""

from __future__ import annotations

import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pytest_codexbench.errors import AgentError, BadTransfer, NotReady, WrongInput
from pytest_codexbench.rpc import TOKEN_VARIABLE, Message, call, stream

pytest.importorskip("libtorrent", reason="libtorrent has no wheel for this Python")

TOKEN = "swarm"
SIZE = 20_000_000
NODE = "pytest_codexbench.nodes.bittorrent"
needs_aria2 = pytest.mark.skipif(shutil.which("aria2c") is None, reason="aria2c, the foreign client, is not installed")


@dataclass(frozen=True)
class Member:
    """One node of a swarm, its control socket and its folder."""

    process: subprocess.Popen[bytes]
    url: str
    data: Path

    def ask(self, verb: str, **body: Any) -> Message:
        return call(self.url, verb, body, token=TOKEN)

    def fetch(self, ticket: str) -> Iterator[Message]:
        return stream(self.url, "fetch", {"ticket": ticket, "folder": str(self.data)}, token=TOKEN, timeout_s=10)

    def fetched(self, ticket: str) -> list[Message]:
        end_s = time.monotonic() + 30
        messages = []
        for message in self.fetch(ticket):
            assert time.monotonic() < end_s, f"not fetched within 30 s; last {message}"
            messages.append(message)
        return messages

    def file(self, size: int = SIZE, seed: int = 1) -> Path:
        path = self.data / "payload"
        path.write_bytes(random.Random(seed).randbytes(size))
        return path


@dataclass
class Swarm:
    """A tracker and the nodes that were started so far, each on an address of its own."""

    folder: Path
    stack: ExitStack
    tracker: str = ""
    members: list[Member] = field(default_factory=list)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, env={**os.environ, TOKEN_VARIABLE: TOKEN}, stdout=subprocess.DEVNULL)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def track(self) -> None:
        port = free_port("127.0.0.1")
        module = "pytest_codexbench.nodes.tracker"
        self.start(sys.executable, "-m", module, "--address", "127.0.0.1", "--port", str(port))
        self.tracker = f"http://127.0.0.1:{port}/announce"
        until(lambda: connects("127.0.0.1", port), "the tracker listens")

    def scraped(self) -> bytes:
        """What the tracker knows of all torrents."""
        with urlopen(self.tracker.replace("announce", "scrape")) as answer:  # noqa: S310 - http, to the tracker above
            body: bytes = answer.read()
        return body

    def node(self, profile: str = "tuned", before: str = "", tracker: str = "") -> Member:
        """A ready node; ``before`` is Python that runs in its process first."""
        name, address = f"n{len(self.members)}", f"127.0.0.{len(self.members) + 2}"
        data, url = self.folder / name, f"unix:{self.folder}/{name}.sock"
        argv = ["--control", url, "--address", address, "--data", str(data), "--profile", profile]
        program = f"from {NODE} import main\nfrom pytest_codexbench.nodes import bittorrent\n{before}\nmain()"
        process = self.start(sys.executable, "-c", program, *argv, "--tracker", tracker or self.tracker)
        member = Member(process, url, data)
        self.members.append(member)
        until(lambda: answers(member), f"{name} is ready")
        return member

    def aria2(self, ticket: str, *more: str, holds: bytes = b"") -> tuple[subprocess.Popen[bytes], Path]:
        """A foreign client with the torrent of ``ticket``, on 127.0.0.99, and where it has the file."""
        folder = self.folder / "aria2"
        folder.mkdir()
        if holds:
            (folder / "payload").write_bytes(holds)
        torrent = folder / "ticket.torrent"
        torrent.write_bytes(base64.b64decode(ticket))
        argv = ["aria2c", "--no-conf", "--quiet", "--enable-dht=false", "--bt-enable-lpd=false", f"--dir={folder}"]
        argv += ["--interface=127.0.0.99", f"--listen-port={free_port('127.0.0.99')}", "--file-allocation=none"]
        return self.start(*argv, *more, str(torrent)), folder / "payload"


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    """A tracker without peers; the sockets' folder has a short name, as a socket's path must."""
    with tempfile.TemporaryDirectory(prefix="swarm") as folder, ExitStack() as stack:
        swarm = Swarm(Path(folder), stack)
        swarm.track()
        yield swarm


def until(happens: Callable[[], bool], what: str, deadline_s: float = 10) -> None:
    """Wait for it."""
    end_s = time.monotonic() + deadline_s
    while not happens():
        assert time.monotonic() < end_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


def free_port(address: str) -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind((address, 0))
        port: int = free.getsockname()[1]
        return port


def connects(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def answers(member: Member) -> bool:
    """Whether the node is ready; it has no socket before."""
    assert member.process.poll() is None, "the node ended"
    try:
        return bool(member.ask("health")["ready"])
    except AgentError:
        return False


def progress(messages: list[Message]) -> list[Message]:
    """Those that tell bytes."""
    return [message for message in messages if "available" in message]


def test_every_leecher_gets_every_byte(swarm: Swarm, record_property: Callable[[str, object], None]) -> None:
    """One seeder, three leechers at once: each has the file when it says so, after progress that never goes back."""
    seeder, *leechers = (swarm.node() for _ in range(4))
    file = seeder.file()
    ticket = seeder.ask("seed", path=str(file))["ticket"]
    told: dict[str, list[Message]] = {}
    same: dict[str, bool] = {}
    start_ns = time.perf_counter_ns()

    def one(leecher: Member) -> None:
        for message in leecher.fetch(ticket):
            told.setdefault(leecher.url, []).append(message)
            if "done" in message:
                same[leecher.url] = Path(message["path"]).read_bytes() == file.read_bytes()

    threads = [threading.Thread(target=one, args=(leecher,)) for leecher in leechers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [True] * 3 == list(same.values())
    for leecher in leechers:
        messages = told[leecher.url]
        states = [(m["t_ns"], m["received"], m["available"], m["contiguous"]) for m in progress(messages)]
        assert all(now >= before for a, b in pairwise(states) for before, now in zip(a, b, strict=True))
        assert all(contiguous <= available <= received for _, received, available, contiguous in states)
        assert (SIZE, SIZE) == states[-1][2:]
        assert {"done": True, "path": str(leecher.data / "payload")} == messages[-1]
        assert 1 == sum("first_block" in message for message in messages)
        first_piece_s = (next(t_ns for t_ns, _, available, _ in states if available) - start_ns) / 1e9
        record_property("first_piece_s", first_piece_s)
        assert first_piece_s < 5


def test_traffic_adds_up(swarm: Swarm) -> None:
    """What the leecher counts is what the seeder counts, over TCP alone, and every figure is a number."""
    seeder, leecher = swarm.node(), swarm.node()
    ticket = seeder.ask("seed", path=str(seeder.file()))["ticket"]
    leecher.fetched(ticket)

    sent, got = seeder.ask("counters"), leecher.ask("counters")

    assert SIZE == sent["payload_tx_bytes"] == got["payload_rx_bytes"] - got["more"]["redundant_bytes"]
    assert (1, 0, 0) == tuple(got["more"][name] for name in ("tcp_peers", "utp_peers", "pieces_failed"))
    assert got["more"]["tracker_bytes"] > 0


def test_seeders_agree(swarm: Swarm) -> None:
    """The same file has the same id and the same ticket at every seeder."""
    first, second = swarm.node(), swarm.node()

    told = [member.ask("seed", path=str(member.file())) for member in (first, second)]

    assert told[0]["id"] == told[1]["id"]
    assert told[0]["ticket"] == told[1]["ticket"]
    assert {"hash_s", "announce_s"} == set(told[0]["seconds"])


def test_forget_frees_the_room(swarm: Swarm) -> None:
    """After a forget neither session nor disk has anything of the file, and it can be fetched anew."""
    seeder, leecher = swarm.node(), swarm.node()
    told = seeder.ask("seed", path=str(seeder.file()))
    leecher.fetched(told["ticket"])
    held = leecher.ask("holds", id=told["id"])

    leecher.ask("forget", id=told["id"])
    empty = list(leecher.data.iterdir())
    again = leecher.fetched(told["ticket"])
    for member in (seeder, leecher, leecher):
        member.ask("forget", id=told["id"])

    assert {"holds": True} == held
    assert [] == empty
    assert "done" in again[-1]
    assert [[], []] == [list(member.data.iterdir()) for member in (seeder, leecher)]
    assert [{"holds": False}] * 2 == [member.ask("holds", id=told["id"]) for member in (seeder, leecher)]


def test_streaming_is_in_order(swarm: Swarm) -> None:
    """With ``streaming`` a reader could follow: what is verified is mostly what lies before the first gap."""
    seeder = swarm.node()
    ticket = seeder.ask("seed", path=str(seeder.file()))["ticket"]

    shares = {}
    for profile in ("streaming", "tuned"):
        states = progress(swarm.node(profile).fetched(ticket))
        shares[profile] = sum(m["contiguous"] for m in states) / sum(m["available"] for m in states)

    assert shares["streaming"] > 0.8
    assert shares["tuned"] < 0.8


def test_stock_is_a_plain_client(swarm: Swarm) -> None:
    """``stock`` has pieces of 256 KiB, and uses uTP, as a plain libtorrent client does."""
    seeder, leecher = swarm.node("stock"), swarm.node("stock")
    ticket = seeder.ask("seed", path=str(seeder.file(1_000_000)))["ticket"]

    states = progress(leecher.fetched(ticket))

    sizes = {m["available"] for m in states}
    assert all(size % (256 << 10) in (0, 1_000_000 % (256 << 10)) for size in sizes)
    assert (0, 1) == tuple(leecher.ask("counters")["more"][name] for name in ("tcp_peers", "utp_peers"))


@needs_aria2
def test_a_foreign_leecher_joins(swarm: Swarm) -> None:
    """A ready-made client finds our seeder through our tracker, and gets every byte."""
    seeder = swarm.node()
    file = seeder.file()
    told = seeder.ask("seed", path=str(file))

    process, path = swarm.aria2(told["ticket"], "--seed-time=0")

    assert 0 == process.wait(20)
    assert file.read_bytes() == path.read_bytes()


@needs_aria2
def test_a_foreign_seeder_serves(swarm: Swarm) -> None:
    """Our leecher completes from a ready-made client alone, found through our tracker."""
    maker, leecher = swarm.node(), swarm.node()
    told = maker.ask("seed", path=str(maker.file()))
    content = (maker.data / "payload").read_bytes()
    maker.ask("forget", id=told["id"])

    process, _ = swarm.aria2(told["ticket"], "--seed-ratio=0", "--check-integrity=true", holds=content)
    messages = leecher.fetched(told["ticket"])

    assert process.poll() is None
    assert content == Path(messages[-1]["path"]).read_bytes()


def test_silence_is_told(swarm: Swarm) -> None:
    """A fetch that nobody serves still says every second that it lives, with no bytes."""
    seeder, leecher = swarm.node(), swarm.node()
    told = seeder.ask("seed", path=str(seeder.file()))
    seeder.ask("forget", id=told["id"])

    with closing(leecher.fetch(told["ticket"])) as messages:  # type: ignore[type-var]  # a generator
        states = [next(messages) for _ in range(2)]

    assert {(0, 0, 0)} == {(m["received"], m["available"], m["contiguous"]) for m in states}
    assert all((b["t_ns"] - a["t_ns"]) / 1e9 < 1.5 for a, b in pairwise(states))


def test_a_lost_consumer_leaves_nothing(swarm: Swarm) -> None:
    """When the consumer of a fetch goes away in the middle, the torrent and its part of the file go too."""
    # uTP is slow enough on one machine to be interrupted.
    seeder, leecher = swarm.node("stock"), swarm.node("stock")
    told = seeder.ask("seed", path=str(seeder.file(2 * SIZE)))

    with closing(leecher.fetch(told["ticket"])) as messages:  # type: ignore[type-var]  # a generator
        state = next(message for message in messages if message.get("available"))
        there = (leecher.data / "payload").exists()

    until(lambda: not leecher.ask("holds", id=told["id"])["holds"], "the torrent is gone")
    until(lambda: not list(leecher.data.iterdir()), "the file is gone")
    assert 0 < state["available"] < 2 * SIZE
    assert there


def test_forgotten_while_fetching(swarm: Swarm) -> None:
    """A forget in the middle of a fetch ends it with an error that says so."""
    seeder, leecher = swarm.node(), swarm.node()
    told = seeder.ask("seed", path=str(seeder.file()))
    seeder.ask("forget", id=told["id"])
    messages = leecher.fetch(told["ticket"])
    next(messages)

    leecher.ask("forget", id=told["id"])

    with pytest.raises(BadTransfer, match="forgotten"):
        list(messages)
    assert {"holds": False} == leecher.ask("holds", id=told["id"])


def test_a_full_disk_fails_the_fetch(swarm: Swarm) -> None:
    """When a file cannot be written to its end, the fetch fails with the system's reason, and leaves nothing."""
    seeder = swarm.node()
    ticket = seeder.ask("seed", path=str(seeder.file()))["ticket"]
    leecher = swarm.node(before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))")

    with pytest.raises(BadTransfer, match=r"payload.*File too large"):
        leecher.fetched(ticket)

    assert [] == list(leecher.data.iterdir())


def test_a_dead_tracker_is_named(swarm: Swarm) -> None:
    """A seed that no tracker hears of is an error of set-up that names the tracker and what it said last."""
    tracker = f"http://127.0.0.1:{free_port('127.0.0.1')}/announce"
    seeder = swarm.node(before="bittorrent.ANNOUNCE_DEADLINE_S = 1", tracker=tracker)

    with pytest.raises(NotReady, match=f"{tracker}.*refused"):
        seeder.ask("seed", path=str(seeder.file()))


def test_wrong_requests_are_refused(swarm: Swarm) -> None:
    """What cannot be done is refused before it begins: no ticket, no file, a torrent that is here already."""
    node = swarm.node()
    told = node.ask("seed", path=str(node.file()))
    junk = base64.b64encode(b"d4:infod4:name1:xee").decode()

    for body in ({}, {"ticket": "?"}, {"ticket": junk}, {"ticket": told["ticket"]}):
        with pytest.raises(WrongInput):
            node.ask("fetch", folder=str(node.data), **body)
    for path in (node.data, node.data / "nothing", node.data / "payload"):
        with pytest.raises(WrongInput):
            node.ask("seed", path=str(path))


def test_a_file_in_the_way_is_no_progress(swarm: Swarm) -> None:
    """A file of that name would pass for downloaded bytes: the fetch is refused."""
    seeder, leecher = swarm.node(), swarm.node()
    ticket = seeder.ask("seed", path=str(seeder.file()))["ticket"]
    leecher.file()

    with pytest.raises(WrongInput, match="there already"):
        leecher.fetched(ticket)


def test_sigterm_ends_it(swarm: Swarm) -> None:
    """SIGTERM ends a node quickly and with success, and the tracker no longer tells of it."""
    seeder = swarm.node()
    seeder.ask("seed", path=str(seeder.file()))
    before = swarm.scraped()

    seeder.process.send_signal(signal.SIGTERM)

    assert 0 == seeder.process.wait(2)
    assert b"8:completei1e" in before
    assert b"d5:filesdee" == swarm.scraped()


def test_an_address_of_others_is_refused(swarm: Swarm) -> None:
    """A node that cannot listen ends, and says why."""
    argv = ["--control", f"unix:{swarm.folder}/n.sock", "--address", "192.0.2.1", "--data", str(swarm.folder)]
    environment = {**os.environ, TOKEN_VARIABLE: TOKEN}

    run = subprocess.run(
        [sys.executable, "-m", NODE, *argv, "--profile", "tuned"],
        env=environment, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip

    assert 1 == run.returncode
    assert "cannot listen on 192.0.2.1" in run.stderr
