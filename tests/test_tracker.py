"""The tracker of a cluster, asked as clients ask it."""

from __future__ import annotations

import http.client
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_codexbench.nodes.tracker import BadAnnounce, Swarms, bencode, parsed

HASH = bytes(range(236, 256))


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, target: str, source: str = "127.0.0.1") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5, source_address=(source, 0))
        with closing(connection):
            connection.request("GET", target)
            answer = connection.getresponse()
            return answer.status, answer.read()


@contextmanager
def tracking(log: Path) -> Iterator[Running]:
    """A tracker's process on a free port of 127.0.0.1, answering."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "pytest_codexbench.nodes.tracker", "--address", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output, subprocess.Popen(argv, stderr=output) as process:
        running = Running(process, port, log)
        deadline_s = time.monotonic() + 10
        while True:
            try:
                running.get("/health")
                break
            except OSError:
                assert time.monotonic() < deadline_s, f"no tracker within 10 s: {log.read_text()}"
                time.sleep(0.02)
        try:
            yield running
        finally:
            process.kill()


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process for all tests that leave it as it was."""
    with tracking(tmp_path_factory.mktemp("tracker") / "log") as running:
        yield running


def query(peer: int, **more: str | int) -> str:
    """What the peer of that number asks."""
    fields = {"port": 1000 + peer, "left": 1, "compact": 1, **more}
    pairs = "&".join(f"{key}={value}" for key, value in fields.items())
    return f"info_hash={quote(HASH)}&peer_id=-XX0000-{peer:012d}&{pairs}"


def announce(swarms: Swarms, peer: int, *, address: str = "", **more: str | int) -> Any:
    """The answer to the peer of that number."""
    return swarms.announce(parsed(query(peer, **more)), ip_address(address or f"10.0.0.{peer}"))


def endpoints(compact: bytes) -> set[tuple[str, int]]:
    """Addresses and ports out of the compact form."""
    entries = [compact[at : at + 6] for at in range(0, len(compact), 6)]
    return {(str(IPv4Address(entry[:4])), int.from_bytes(entry[4:], "big")) for entry in entries}


def bdecode(data: bytes) -> Any:
    """The one value of ``data``; strict about everything that BEP 3 is strict about."""
    value, end = _bdecode(data, 0)
    assert len(data) == end
    return value


def _bdecode(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        number = int(data[at + 1 : end])
        assert b"%d" % number == data[at + 1 : end]
        return number, end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = _bdecode(data, at)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        assert items[::2] == sorted(set(items[::2]))
        return dict(zip(items[::2], items[1::2], strict=True)), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    assert end <= len(data)
    return data[colon + 1 : end], end


def test_peers_learn_of_those_before_them() -> None:
    """Of any two peers the later one is told of the earlier, and nobody of itself: first announces make a full mesh."""
    swarms = Swarms()

    told = [endpoints(announce(swarms, peer)[b"peers"]) for peer in (1, 2, 3, 1)]

    first, second, third = ((f"10.0.0.{peer}", 1000 + peer) for peer in (1, 2, 3))
    assert [set(), {first}, {first, second}, {second, third}] == told


def test_source_address_counts() -> None:
    """A peer is where its announce came from, whatever ``ip`` it claims."""
    swarms = Swarms()
    announce(swarms, 1, address="127.0.0.7", ip="192.0.2.1")

    told = announce(swarms, 2)

    assert {("127.0.0.7", 1001)} == endpoints(told[b"peers"])


def test_non_compact_answers_are_dictionaries() -> None:
    """A client that does not ask for the compact form gets BEP 3's list, with peer ids unless it declines them."""
    swarms = Swarms()
    announce(swarms, 1)

    full, brief = (announce(swarms, 2, compact=0, no_peer_id=decline)[b"peers"] for decline in (0, 1))

    peer = {b"ip": b"10.0.0.1", b"port": 1001}
    assert [{**peer, b"peer id": b"-XX0000-000000000001"}] == full
    assert [peer] == brief


def test_ipv6_peers_come_apart() -> None:
    """BEP 7: addresses of 16 bytes are told in ``peers6``."""
    swarms = Swarms()
    announce(swarms, 1, address="fd00::1")

    told = announce(swarms, 2)

    assert (b"", IPv6Address("fd00::1").packed + (1001).to_bytes(2, "big")) == (told[b"peers"], told[b"peers6"])


def test_numwant_is_honoured() -> None:
    """No more peers than asked for, another sample each time, and 50 without the question."""
    swarms = Swarms(draw=random.Random(1))
    for peer in range(1, 101):
        announce(swarms, peer)

    samples = [frozenset(endpoints(announce(swarms, 101, numwant=10)[b"peers"])) for _ in range(5)]
    usual = [endpoints(announce(swarms, 101)[b"peers"]), endpoints(announce(swarms, 101, numwant=-1)[b"peers"])]
    none = announce(swarms, 101, numwant=0)

    assert [10] * 5 == [len(sample) for sample in samples]
    assert len(set(samples)) > 1
    assert [50, 50] == [len(peers) for peers in usual]
    assert b"" == none[b"peers"]


def test_stopped_peers_are_gone() -> None:
    """``event=stopped`` takes a peer off the list at once."""
    swarms = Swarms()
    announce(swarms, 1)
    announce(swarms, 1, event="stopped")

    told = announce(swarms, 2)

    assert b"" == told[b"peers"]


def test_silent_peers_expire() -> None:
    """A peer that was not heard of for the expiry's time is forgotten; one that came back in between is not."""
    clock = Clock()
    swarms = Swarms(clock=clock, expire_s=60)
    announce(swarms, 1)
    announce(swarms, 2)
    clock.now_s = 50
    announce(swarms, 2)
    clock.now_s = 70

    told = announce(swarms, 3)

    assert {("10.0.0.2", 1002)} == endpoints(told[b"peers"])


def test_a_new_id_is_no_new_peer() -> None:
    """A client that was started again on its port replaces itself."""
    swarms = Swarms()
    announce(swarms, 1)
    announce(swarms, 7, address="10.0.0.1", port=1001)

    told = announce(swarms, 2)

    assert {("10.0.0.1", 1001)} == endpoints(told[b"peers"])
    assert (0, 2) == (told[b"complete"], told[b"incomplete"])


def test_seeders_have_no_use_for_seeders() -> None:
    """A seeder is told of leechers only."""
    swarms = Swarms()
    announce(swarms, 1, left=0)
    announce(swarms, 2, left=5)

    told = announce(swarms, 3, left=0)

    assert {("10.0.0.2", 1002)} == endpoints(told[b"peers"])


def test_scrape_counts() -> None:
    """A scrape tells seeders, leechers and completed downloads of the torrents it names, or of all."""
    swarms = Swarms()
    announce(swarms, 1, left=0, event="completed")
    announce(swarms, 2)
    announce(swarms, 3)

    named, every = swarms.scrape(parsed(f"info_hash={quote(HASH)}")), swarms.scrape({})

    assert {b"files": {HASH: {b"complete": 1, b"downloaded": 1, b"incomplete": 2}}} == named
    assert named == every


@pytest.mark.parametrize(
    "wrong", ["port=0", "port=65536", "port=x", "port=", "left=-1", "numwant=many", "event=gone", "info_hash=ab"]
)
def test_wrong_announces_are_refused(wrong: str) -> None:
    """What no client should send is refused, with the name of the wrong part."""
    key, _, value = wrong.partition("=")
    asked = parsed(query(1)) | {key.encode(): [value.encode()]}

    with pytest.raises(BadAnnounce, match=key):
        Swarms().announce(asked, IPv4Address("10.0.0.1"))


def test_a_failure_reason_has_status_200(tracker: Running) -> None:
    """Clients read a failure's reason only from an answer that is a success for HTTP."""
    status, body = tracker.get("/announce?info_hash=abc")

    assert 200 == status
    assert {b"failure reason": b"info_hash has 3 bytes instead of 20"} == bdecode(body)


def test_health(tracker: Running) -> None:
    """``/health`` says ok, and strange paths are not found."""
    assert (200, b"ok") == tracker.get("/health")
    assert 404 == tracker.get("/announcement")[0]


KEYS = ["info_hash", "peer_id", "port", "left", "numwant", "event", "compact", "no_peer_id", "ip", "key", ""]
VALUES = st.one_of(
    st.text(max_size=30).map(quote),
    st.binary(min_size=20, max_size=20).map(quote),
    st.integers().map(str),
    st.sampled_from(["%", "%zz", "%f", "=", "²", "9" * 5000, "started", "stopped"]).map(
        lambda text: quote(text, safe="%=")
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(["/announce", "/scrape"]),
    pairs=st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=12),
    right=st.booleans(),
)
def test_any_query_gets_a_bencoded_answer(
    tracker: Running, path: str, pairs: list[tuple[str, str]], right: bool
) -> None:
    """However malformed an announce, its answer has status 200 and a body that is bencoded; nothing is logged."""
    text = "&".join([*(f"{key}={value}" for key, value in pairs), *([query(1)] if right else [])])

    status, body = tracker.get(f"{path}?{text}")

    assert 200 == status
    assert isinstance(bdecode(body), dict)
    assert "" == tracker.log.read_text()


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([b"", b"GET /announce", b"GET /announce?info_hash=", b"GET http://"]),
    line=st.binary(max_size=200),
    end=st.sampled_from([b"", b" HTTP/1.1\r\n\r\n", b" HTTP/1.0\r\nContent-Length: -1\r\n\r\n"]),
    reset=st.booleans(),
)
def test_any_bytes_leave_it_running(tracker: Running, start: bytes, line: bytes, end: bytes, reset: bool) -> None:
    """Whatever comes in, the tracker says no server error, logs nothing and goes on; also if the client hangs up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", tracker.port), timeout=5) as peer:
        peer.sendall(start + line + end)
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            peer.shutdown(socket.SHUT_WR)
            answer = peer.recv(100)

    assert b" 500 " not in answer
    assert (200, b"ok") == tracker.get("/health")
    assert "" == tracker.log.read_text()


def test_a_whole_swarm_at_once(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Of 32 nodes that announce at the same moment, any two learn of each other by one of them."""
    nodes = [f"127.0.0.{node}" for node in range(2, 34)]
    gate, pairs, seconds = threading.Barrier(len(nodes)), list[frozenset[str]](), list[float]()

    def one(running: Running, address: str) -> None:
        target = f"/announce?{query(int(address.rpartition('.')[2]), numwant=200)}"
        gate.wait()
        start = time.perf_counter()
        _, body = running.get(target, address)
        seconds.append(time.perf_counter() - start)
        pairs.extend(frozenset((address, other)) for other, _ in endpoints(bdecode(body)[b"peers"]))

    with tracking(tmp_path / "log") as running:
        threads = [threading.Thread(target=one, args=(running, address)) for address in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    record_property("slowest_announce_s", max(seconds))
    assert 32 * 31 // 2 == len(set(pairs))
    assert max(seconds) < 5


def test_sigterm_ends_it(tmp_path: Path) -> None:
    """SIGTERM ends the tracker at once, and with success."""
    with tracking(tmp_path / "log") as running:
        running.process.send_signal(signal.SIGTERM)

        assert 0 == running.process.wait(2)
        assert "" == running.log.read_text()


values = st.recursive(
    st.integers() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4),
)


@given(values)
def test_bencoding_can_be_read(value: Any) -> None:
    """What is encoded reads as what it was, by a reader that insists on sorted keys and canonical numbers."""
    assert value == bdecode(bencode(value))
