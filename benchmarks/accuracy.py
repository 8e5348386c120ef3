"""How far the measured times are from what the link's rate gives."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from pytest_codexbench.agent.client import Node
from pytest_codexbench.backends.local import Local
from pytest_codexbench.backends.network import burst_bytes
from pytest_codexbench.errors import BenchError, NotReady
from pytest_codexbench.experiment import Setting, disseminate
from pytest_codexbench.matrix import Block, Cell, Shape, Variant, parse_rate, rate_text, size_text
from pytest_codexbench.plan import deadline_s, draw
from pytest_codexbench.records import Round
from pytest_codexbench.stats import median
from pytest_codexbench.timeline import MIB

MARKS = (50, 90, 100)
MOST_ERROR = 0.02
MOST_TTFB_DIFFERENCE_S = 0.005
# A full segment with TCP timestamps: 1448 bytes of payload in an Ethernet frame of 1514, as the shaper counts them.
FRAME_TO_PAYLOAD = 1514 / 1448
FIRST_BYTE_SIZE = 10**6
# A program that was just started is still being paged in; a node that fetches never was.
SETTLE_S = 0.2
HTTP = Variant("http", "http")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one transfer, from just before the request: to the first byte, and by mark in percent."""

    first_s: float
    marks_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One round: what the records say, what a plain socket saw in its turn, and the bytes that the shaper let pass."""

    ours: Times
    plain: Times
    wire_bytes: int


def main() -> int:
    """Measure on each link, print, and end with status 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", default="10mbit,100mbit,500mbit", help="rates, by default %(default)s")
    parser.add_argument("--seconds", type=float, default=4, help="length of a transfer, by default %(default)s")
    parser.add_argument("--rounds", type=int, default=6, help="transfers a link, by default %(default)s")
    parser.add_argument("--first-byte-rounds", type=int, default=15, help="of 1 MB each, by default %(default)s")
    parser.add_argument("--plain", nargs=2, metavar=("URL", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        return plain_client(options.plain[0], int(options.plain[1]))

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is taken down
    good = True
    with tempfile.TemporaryDirectory(prefix="accuracy-") as logs:
        local = Local(Path(logs))
        if local.why_loopback is not None:
            sys.exit(f"there are no shaped links here: {local.why_loopback}")
        _print_head()
        firsts: list[str] = []
        for link in (parse_rate(text) for text in options.links.split(",")):
            bench = Bench(local, link)
            size = max(1, round(link / 8e6 * options.seconds)) * 10**6
            small, large = bench.run([(FIRST_BYTE_SIZE, options.first_byte_rounds), (size, options.rounds)])
            good &= _print_marks(link, size, large)
            text, met = _first_byte(link, small)
            firsts.append(text)
            good &= met
    print("\nTime to the first byte of 1 MB, ms, median (least..most):")
    print("link         ours                    plain socket            difference   goal < 5 ms")
    print("\n".join(firsts))
    return 0 if good else 1


class Bench:
    """Two nodes on links of one rate, and a plain socket beside the one that fetches."""

    def __init__(self, local: Local, link: int) -> None:
        self.local, self.link = local, link
        self.shape = Shape(HTTP, 2, link)

    def run(self, series: Sequence[tuple[int, int]]) -> list[list[Measured]]:
        """For each (size, rounds) its rounds; in each one ours and the plain socket fetch in drawn order."""
        with self.local.cluster(self.shape, lambda line: None, 10**9) as cluster:
            return [[self._round(cluster.nodes, size, index) for index in range(rounds)] for size, rounds in series]

    def _round(self, nodes: Sequence[Node], size: int, index: int) -> Measured:
        cell = Cell(self.shape, 1, size)
        drawn = draw(Block(2, 1, size, self.link, (HTTP,)), index, 1)
        seeder, leecher = nodes[drawn.seeders[0]], nodes[drawn.leechers[0]]
        setting = Setting(nodes, self.local.environment(1), deadline_s(size, None))
        rounds: list[Round] = []
        plains: list[Times] = []
        turns: list[Callable[[], None]] = [
            lambda: rounds.append(disseminate(cell, drawn, setting)),
            lambda: plains.append(_plain(seeder, leecher, size, drawn.seed)),
        ]
        random.Random(drawn.seed).shuffle(turns)
        for turn in turns:
            turn()
        ours, wire_bytes = _recorded(rounds[0], leecher)
        return Measured(ours, plains[0], wire_bytes)


def _recorded(record: Round, leecher: Node) -> tuple[Times, int]:
    if not record.success:
        raise NotReady(f"round {record.index} of {record.cell} failed: {record.failure}")
    if record.flags:
        print(f"{record.cell} round {record.index}: {'; '.join(record.flags)}")
    timeline = record.transfers[0].timelines["contiguous"]
    wire_bytes = record.nodes[leecher.name].wire_rx_bytes
    if wire_bytes is None:
        raise NotReady(f"round {record.index} of {record.cell}: the bytes on the wire were not counted")
    return Times(timeline.seconds_to(0), tuple(timeline.seconds_to(mark) for mark in MARKS)), wire_bytes


def _plain(seeder: Node, leecher: Node, size: int, seed: int) -> Times:
    """The same bytes from the same origin, fetched in the leecher's network namespace by a socket and nothing else."""
    name = f"plain{seed:x}"
    seeder.make(name, size, seed)
    handle = seeder.publish(name, deadline_s(size, None)).handle
    try:
        for node in (seeder, leecher):
            node.drop_cache()
        client = [sys.executable, __file__, "--plain", f"{seeder.contact['origin']}/{handle.id}", str(size)]
        run = subprocess.run(
            [*_beside(leecher), *client], capture_output=True, text=True, timeout=deadline_s(size, None), check=False
        )
        if run.returncode != 0:
            raise NotReady(f"the plain client failed: {run.stderr.strip()}")
        told = json.loads(run.stdout)
        return Times(told["first_s"], tuple(told["marks_s"]))
    finally:
        seeder.delete(name, handle)


def _beside(node: Node) -> list[str]:
    """The command line prefix that puts a program in the node's network namespace."""
    agent = next(process.pid for process in psutil.process_iter() if _listens_at(process, node.url))
    shared = Path(f"/proc/{agent}/ns/user").samefile("/proc/self/ns/user")
    user = [] if shared else ["--user", "--preserve-credentials"]
    return ["nsenter", f"--target={agent}", *user, "--net", "--"]


def _listens_at(process: psutil.Process, url: str) -> bool:
    try:
        return url in process.cmdline() and "pytest_codexbench.agent" in process.cmdline()
    except psutil.Error:
        return False


def plain_client(url: str, size: int) -> int:
    """GET with a bare socket: stamps every receive, and prints the seconds to the first byte and to each mark."""
    parts = urlsplit(url)
    piece, first_s, got, head = bytearray(MIB), 0.0, 0, b""
    marks_s: list[float] = []
    "localhost".encode("idna")  # what connecting would import inside the clock
    time.sleep(SETTLE_S)
    start = time.perf_counter()
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) as connection:
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        while got < size:
            length = connection.recv_into(piece)
            now = time.perf_counter() - start
            if not length:
                sys.exit(f"the body ended after {got} of {size} bytes; the head was {head!r}")
            if not got:
                head += piece[:length]
                length = len(head.partition(b"\r\n\r\n")[2])
                first_s = now
            got += length
            while len(marks_s) < len(MARKS) and got * 100 >= size * MARKS[len(marks_s)]:
                marks_s.append(now)
    print(json.dumps({"first_s": first_s, "marks_s": marks_s}))
    return 0


def expected_s(share: float, wire_bytes: float, link: int) -> float:
    """When this share of the bytes on the wire has passed a link whose bucket was full at the start."""
    return max(0.0, share * wire_bytes - burst_bytes(link)) * 8 / link


def _print_head() -> None:
    print(
        "Times of one seeder to one leecher over http, against (bytes on the wire - burst) / rate of the link. Bytes\n"
        "on the wire are what the link's own queue counted in that round, and in the last two columns the formula\n"
        f"size x 1514 / 1448 = size x {FRAME_TO_PAYLOAD:.4f}. Errors are medians over the rounds. A plain socket\n"
        "fetched the same bytes in the same place, in turn: what it shares with ours is the link's own error.\n"
        f"Load of this machine over the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n"
    )
    print(
        f"{'link':8} {'size':>6} {'rounds':>6} {'wire/size':>9} {'mark':>5} {'expected':>9} {'measured':>9}"
        f" {'error':>7} {'worst':>7} {'goal':>10} {'formula':>8} {'plain':>7}"
    )


def _print_marks(link: int, size: int, rounds: Sequence[Measured]) -> bool:
    good = True
    wire = median(each.wire_bytes for each in rounds)
    for position, mark in enumerate(MARKS):
        errors = [e.ours.marks_s[position] / expected_s(mark / 100, e.wire_bytes, link) - 1 for e in rounds]
        by_formula = expected_s(mark / 100, size * FRAME_TO_PAYLOAD, link)
        error, measured = median(errors), median(e.ours.marks_s[position] for e in rounds)
        formula = median(e.ours.marks_s[position] for e in rounds) / by_formula - 1
        plain = median(e.plain.marks_s[position] for e in rounds) / by_formula - 1
        met = abs(error) <= MOST_ERROR
        good &= met
        print(
            f"{rate_text(link):8} {size_text(size):>6} {len(rounds):6} {wire / size:9.4f} {f't{mark}':>5}"
            f" {expected_s(mark / 100, wire, link):7.3f} s {measured:7.3f} s {error:+7.2%}"
            f" {max(errors, key=abs):+7.2%} {'PASS' if met else 'FAIL'}  2 % {formula:+8.2%} {plain:+7.2%}",
            flush=True,
        )
    return good


def _first_byte(link: int, rounds: Sequence[Measured]) -> tuple[str, bool]:
    ours, plain = [e.ours.first_s * 1e3 for e in rounds], [e.plain.first_s * 1e3 for e in rounds]
    difference = median(ours) - median(plain)
    met = abs(difference) < MOST_TTFB_DIFFERENCE_S * 1e3

    def told(values: Sequence[float]) -> str:
        return f"{median(values):6.2f} ({min(values):.2f}..{max(values):.2f})"

    text = f"{rate_text(link):8} {told(ours):>24} {told(plain):>23} {difference:+13.2f}   {'PASS' if met else 'FAIL'}"
    return text, met


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BenchError as error:
        sys.exit(str(error))
