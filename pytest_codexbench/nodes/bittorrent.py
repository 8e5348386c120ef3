"""A BitTorrent node: one libtorrent session that the agent beside it drives."""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import math
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import libtorrent as lt

from pytest_codexbench.errors import BadTransfer, BenchError, NotReady, WrongInput
from pytest_codexbench.rpc import Message, Server, token_from_environment
from pytest_codexbench.timeline import NS, passes_mark

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 16 * KIB
LISTEN_DEADLINE_S = 10
ANNOUNCE_DEADLINE_S = 30
REMOVE_DEADLINE_S = 30
STATS_DEADLINE_S = 10
# Enough for the announces that tell of the node's end to leave.
FAREWELL_S = 0.1
POLL_NS = NS // 20
# A poll's answer is to be there just before the whole second that it stands for.
POLL_LEAD_NS = 5_000_000
# Until the first block is here, polls come closer: it is then known to 2 ms or a tenth of the time it took. Alerts
# cannot tell: libtorrent posts that of a block when it was written, which is after its piece was verified.
FIRST_POLL_NS = 2_000_000
FIRST_POLL_PART = 10
IDLE_MS = 1000

PLAIN = 2
STOCK_PIECE = 256 * KIB

_CATEGORY = lt.alert.category_t
ALERTS = (
    _CATEGORY.error_notification
    | _CATEGORY.status_notification
    | _CATEGORY.storage_notification
    | _CATEGORY.tracker_notification
    | _CATEGORY.connect_notification
    | _CATEGORY.piece_progress_notification
)

# What the experiment demands of every profile: peers meet through the cluster's tracker and nowhere else.
EXPERIMENT: lt.settings_pack = {
    "alert_mask": ALERTS,
    "alert_queue_size": 100_000,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_natpmp": False,
    "enable_upnp": False,
    # The tracker has a private address and no certificate.
    "ssrf_mitigation": False,
    "validate_https_trackers": False,
    # Without network namespaces the nodes are neighbours on one host.
    "allow_multiple_connections_per_ip": True,
    # The default of 300 s would overrule the interval that the tracker asks for.
    "min_announce_interval": 1,
    # A round's forget waits for no tracker.
    "stop_tracker_timeout": 1,
}

TUNED: lt.settings_pack = {
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "in_enc_policy": PLAIN,
    "out_enc_policy": PLAIN,
    "tick_interval": 100,
    "unchoke_slots_limit": -1,
    "connections_limit": 1000,
    "connection_speed": 500,
    "torrent_connect_boost": 255,
    # A whole swarm connects at the same moment; a connection that finds the queue full comes back a second later.
    "listen_queue_size": 512,
    "max_out_request_queue": 1500,
    # Asking a slow peer for 3 s ahead, as by default, has many leechers wait for the same pieces.
    "request_queue_time": 1,
    "send_buffer_watermark": 3 * MIB,
    "aio_threads": 4,
    # More only makes a leecher's memory grow: with the default of 100 MB it peaked at 250 MB, and was no faster.
    "max_queued_disk_bytes": 64 * MIB,
    "hashing_threads": max(1, (os.cpu_count() or 1) // 2),
}

PROFILES: Mapping[str, lt.settings_pack] = {"stock": {}, "tuned": TUNED, "streaming": TUNED}

COUNTERS = {
    "tracker_bytes": ("net.sent_tracker_bytes", "net.recv_tracker_bytes"),
    "sent_bytes": ("net.sent_bytes",),
    "received_bytes": ("net.recv_bytes",),
    "redundant_bytes": ("net.recv_redundant_bytes",),
    "failed_bytes": ("net.recv_failed_bytes",),
    "pieces_failed": ("ses.num_piece_failed",),
}


class Node:
    """A session that listens on ``address`` alone, and the verbs that its agent asks for.

    Alerts are taken by one thread, which stamps them; each verb runs in a thread of its own.

    Raises:
        NotReady: if the session does not listen within 10 s.
    """

    def __init__(self, address: str, profile: str, tracker: str | None = None, piece_size: int = 0) -> None:
        self.address, self.profile, self.tracker = address, profile, tracker
        self.piece_size = piece_size or (STOCK_PIECE if profile == "stock" else 0)
        self.port = 0
        self._torrents: dict[str, tuple[lt.torrent_handle, Path]] = {}
        self._announces: dict[str, _Announce] = {}
        self._removals: dict[str, threading.Event] = {}
        self._downloads: dict[str, _Download] = {}
        self._transports: Counter[str] = Counter()
        self._listening: queue.SimpleQueue[int | NotReady] = queue.SimpleQueue()
        self._stats = threading.Condition()
        self._stats_asked = self._stats_answered = 0
        self._stats_values: Mapping[str, int] = {}
        self._takers: dict[type, Callable[[Any, int], None]] = {
            lt.listen_succeeded_alert: self._on_listening,
            lt.listen_failed_alert: self._on_listen_failed,
            lt.peer_connect_alert: self._on_connect,
            lt.tracker_reply_alert: self._on_tracker_reply,
            lt.tracker_error_alert: self._on_tracker_error,
            lt.piece_finished_alert: self._on_piece,
            lt.torrent_checked_alert: self._on_checked,
            lt.cache_flushed_alert: self._on_flushed,
            lt.session_stats_alert: self._on_stats,
            lt.file_error_alert: self._on_error,
            lt.torrent_error_alert: self._on_error,
            lt.alerts_dropped_alert: self._on_dropped,
            lt.torrent_deleted_alert: self._on_removed,
            lt.torrent_delete_failed_alert: self._on_removed,
        }
        self._session = lt.session(
            {
                **EXPERIMENT,
                **PROFILES[profile],
                "listen_interfaces": f"{_bracketed(address)}:0",
                "outgoing_interfaces": address,
            }
        )
        threading.Thread(target=self._take_alerts, name="alerts", daemon=True).start()
        self.port = self._listening_port()

    @property
    def verbs(self) -> dict[str, Callable[[Message], Message | Iterator[Message]]]:
        """What the agent can ask for, by name."""
        return {
            "health": self.health,
            "seed": self.seed,
            "fetch": self.fetch,
            "forget": self.forget,
            "holds": self.holds,
            "counters": self.counters,
        }

    def health(self, _: Message) -> Message:
        """Where the session listens; a node that does not listen has no verbs yet."""
        return {"ready": True, "address": self.address, "port": self.port, "versions": {"libtorrent": lt.__version__}}

    def seed(self, request: Message) -> Message:
        """Hash the file ``path`` and seed it, until the tracker answered the first announce.

        Raises:
            WrongInput: if there is no such file, no tracker, or the torrent is here already.
            NotReady: if the tracker does not answer within 30 s.
        """
        path = Path(_text(request, "path"))
        if not path.is_file() or not path.stat().st_size:
            raise WrongInput(f"{path} is no file with bytes in it")
        if self.tracker is None:
            raise WrongInput("a node without --tracker cannot seed: nobody would find it")

        start = time.perf_counter()
        ticket = make_ticket(path, self.tracker, self.piece_size)
        hashed = time.perf_counter()

        params, torrent = self._params(ticket, path.parent)
        # Not seed_mode: it hashes every piece again when it is first asked for, which tripled a seeder's CPU time.
        params.have_pieces = [True] * torrent.num_pieces()
        name = _name(torrent)
        announce = self._announces[name] = _Announce()
        try:
            self._torrents[name] = self._session.add_torrent(params), path
            if not announce.answered.wait(ANNOUNCE_DEADLINE_S):
                self._remove(name, with_files=False)
                raise NotReady(
                    f"{path.name}: the tracker {self.tracker} answered no announce from {self.address} within "
                    f"{ANNOUNCE_DEADLINE_S} s; its last error: {announce.error}"
                )
        finally:
            del self._announces[name]

        seconds = {"hash_s": hashed - start, "announce_s": time.perf_counter() - hashed}
        return {"id": name, "ticket": base64.b64encode(ticket).decode(), "seconds": seconds}

    def fetch(self, request: Message) -> Iterator[Message]:
        """Download the torrent ``ticket`` to ``folder``: progress as it is made, then ``done`` with the file's path.

        ``t_ns`` is of ``time.perf_counter_ns``. ``received`` counts payload bytes as they come in, ``available``
        verified ones, ``contiguous`` those before the first gap. There is a message whenever one of the latter two
        passes a mark of a timeline, every 50 ms if anything changed, and just before each whole second. Should the
        consumer go away, the torrent and its file go too. With ``again``, what a killed node left of the file is
        hashed, and what of it is right counts as there.

        Raises:
            WrongInput: if the ticket is none, or the torrent or its file is here already.
            BadTransfer: if libtorrent gives up, or progress was lost.
        """
        start_ns = time.perf_counter_ns()
        try:
            ticket = base64.b64decode(_text(request, "ticket"), validate=True)
        except binascii.Error as error:
            raise WrongInput(f"the ticket is not base64: {error}") from None
        folder = Path(_text(request, "folder"))
        params, torrent = self._params(ticket, folder)
        if not params.trackers:
            raise WrongInput("neither the ticket nor --tracker names a tracker")
        path = folder / torrent.name()
        if path.exists() and not request.get("again"):
            raise WrongInput(f"{path} is there already: what it holds would count as downloaded")
        return self._fetching(params, _Download(torrent, path, start_ns))

    def forget(self, request: Message) -> Message:
        """Remove the torrent ``id`` and delete its files; no error if it is not here.

        Raises:
            BadTransfer: if they could not be deleted within 30 s.
        """
        name = _text(request, "id")
        if (download := self._downloads.get(name)) is not None:
            download.fail(f"{name} was forgotten while it was being fetched")
        self._remove(name, with_files=True)
        return {}

    def holds(self, request: Message) -> Message:
        """Whether the session has the torrent ``id``."""
        return {"holds": _text(request, "id") in self._torrents}

    def counters(self, _: Message) -> Message:
        """What went over the wire since the start; every figure only grows."""
        values = self._fresh_stats()
        return {
            "payload_rx_bytes": values["net.recv_payload_bytes"],
            "payload_tx_bytes": values["net.sent_payload_bytes"],
            "more": {
                **{name: sum(values[part] for part in parts) for name, parts in COUNTERS.items()},
                "tcp_peers": self._transports["TCP"],
                "utp_peers": self._transports["uTP"],
            },
        }

    def pause(self) -> None:
        """Leave all swarms, and tell the tracker."""
        self._session.pause()

    def _listening_port(self) -> int:
        try:
            port = self._listening.get(timeout=LISTEN_DEADLINE_S)
        except queue.Empty:
            raise NotReady(f"libtorrent does not listen on {self.address} after {LISTEN_DEADLINE_S} s") from None
        if isinstance(port, NotReady):
            raise port
        return port

    def _params(self, ticket: bytes, folder: Path) -> tuple[lt.add_torrent_params, lt.torrent_info]:
        """How this node adds a torrent: never queued, and with no peers but the tracker's."""
        try:
            params = lt.load_torrent_buffer(ticket)
        except RuntimeError as error:
            raise WrongInput(f"the ticket is no torrent: {error}") from None
        torrent = params.ti
        if torrent is None or torrent.num_files() != 1:
            raise WrongInput("the ticket is not the torrent of one file")
        if _name(torrent) in self._torrents:
            raise WrongInput(f"{_name(torrent)} is here already; forget it first")
        params.flags = lt.torrent_flags.disable_dht | lt.torrent_flags.disable_lsd | lt.torrent_flags.disable_pex
        if self.profile == "streaming":
            params.flags |= lt.torrent_flags.sequential_download
        if self.tracker is not None:
            params.trackers = [self.tracker]
        params.save_path = str(folder)
        return params, torrent

    def _fetching(self, params: lt.add_torrent_params, download: _Download) -> Iterator[Message]:
        done = False
        self._downloads[download.name] = download
        for each in list(self._downloads.values()):
            # the session counts what comes in for all of them; a torrent's own count is asked for one by one
            each.shared = each.shared or len(self._downloads) > 1
        try:
            # Answered before the torrent can receive anything: the count to start from.
            self._ask_stats()
            self._torrents[download.name] = self._session.add_torrent(params), download.path
            while not done:
                message = download.messages.get()
                if isinstance(message, BenchError):
                    raise message
                yield message
                done = "done" in message
        finally:
            self._downloads.pop(download.name, None)
            if not done:
                self._remove(download.name, with_files=True)

    def _remove(self, name: str, *, with_files: bool) -> None:
        torrent, path = self._torrents.pop(name, (None, None))
        if torrent is None or path is None:
            return
        if not with_files:
            self._session.remove_torrent(torrent)
            return
        deleted = self._removals[name] = threading.Event()
        try:
            self._session.remove_torrent(torrent, lt.options_t.delete_files)
            if not deleted.wait(REMOVE_DEADLINE_S) or path.exists():
                raise BadTransfer(f"{path} could not be deleted within {REMOVE_DEADLINE_S} s")
        finally:
            del self._removals[name]

    # -- statistics: asked for by number, because answers come in order and late ones must not pass for fresh ones

    def _ask_stats(self) -> int:
        with self._stats:
            self._session.post_session_stats()
            self._stats_asked += 1
            return self._stats_asked

    def _fresh_stats(self) -> Mapping[str, int]:
        number = self._ask_stats()
        with self._stats:
            if not self._stats.wait_for(lambda: self._stats_answered >= number, STATS_DEADLINE_S):
                raise NotReady(f"libtorrent told no statistics within {STATS_DEADLINE_S} s")
            return self._stats_values

    # -- alerts: all below runs in the alert thread

    def _take_alerts(self) -> None:
        while True:
            self._session.wait_for_alert(self._patience_ms())
            t_ns = time.perf_counter_ns()
            for alert in self._session.pop_alerts():
                take = self._takers.get(type(alert))
                if take is not None:
                    take(alert, t_ns)
            # the thread of a fetch may end its download at any moment: looked at once, here and below
            due = [download.poll_due(t_ns) for download in list(self._downloads.values())]
            if any(due):
                self._ask_stats()

    def _patience_ms(self) -> int:
        polls = [download.next_poll_ns for download in list(self._downloads.values())]
        return max(0, math.ceil((min(polls) - time.perf_counter_ns()) / 1e6)) if polls else IDLE_MS

    def _downloading(self, alert: lt.torrent_alert) -> _Download | None:
        """The download that an alert is about; None if it is about a torrent that is only seeded."""
        return self._downloads.get(_hash(alert))

    def _on_listening(self, alert: lt.listen_succeeded_alert, _: int) -> None:
        if alert.socket_type == lt.socket_type_t.tcp:
            self._listening.put(alert.port)

    def _on_listen_failed(self, alert: lt.listen_failed_alert, _: int) -> None:
        self._listening.put(NotReady(f"libtorrent cannot listen on {self.address}: {alert.message()}"))

    def _on_connect(self, alert: lt.peer_connect_alert, _: int) -> None:
        self._transports["uTP" if "uTP" in alert.message() else "TCP"] += 1

    def _on_tracker_reply(self, alert: lt.tracker_reply_alert, _: int) -> None:
        announce = self._announces.get(_hash(alert))
        if announce is not None:
            announce.answered.set()

    def _on_tracker_error(self, alert: lt.tracker_error_alert, _: int) -> None:
        announce = self._announces.get(_hash(alert))
        if announce is not None:
            announce.error = alert.message()

    def _on_piece(self, alert: lt.piece_finished_alert, t_ns: int) -> None:
        download = self._downloading(alert)
        if download is not None and download.see_piece(alert.piece_index, t_ns):
            # The last piece is verified, but its bytes may still be in memory.
            alert.handle.flush_cache()

    def _on_checked(self, alert: lt.torrent_checked_alert, t_ns: int) -> None:
        """What was on the disk already is hashed."""
        download = self._downloading(alert)
        if download is None:
            return
        for index, there in enumerate(alert.handle.status(lt.status_flags_t.query_pieces).pieces):
            if there and download.see_piece(index, t_ns):
                alert.handle.flush_cache()

    def _on_flushed(self, alert: lt.cache_flushed_alert, _: int) -> None:
        download = self._downloading(alert)
        if download is not None:
            download.finish()

    def _on_stats(self, alert: lt.session_stats_alert, t_ns: int) -> None:
        values = alert.values
        with self._stats:
            self._stats_values = values
            self._stats_answered += 1
            self._stats.notify_all()
        for download in list(self._downloads.values()):
            if download.shared:
                torrent, _ = self._torrents.get(download.name, (None, None))
                if torrent is not None and torrent.is_valid():
                    download.see_own(torrent.status(0).total_payload_download, t_ns)
            else:
                download.see_received(values["net.recv_payload_bytes"], values["ses.num_incoming_piece"], t_ns)

    def _on_error(self, alert: lt.file_error_alert | lt.torrent_error_alert, _: int) -> None:
        download = self._downloading(alert)
        if download is not None:
            download.fail(alert.message())

    def _on_dropped(self, alert: lt.alerts_dropped_alert, _: int) -> None:
        for download in list(self._downloads.values()):
            download.fail(f"libtorrent dropped alerts, so progress was lost: {alert.message()}")

    def _on_removed(self, alert: lt.torrent_deleted_alert | lt.torrent_delete_failed_alert, _: int) -> None:
        removal = self._removals.get(str(alert.info_hashes.v1))
        if removal is not None:
            removal.set()


class _Announce:
    """The first announce of a torrent that is to be seeded."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.error = "none"


class _Download:
    """The progress of one fetch, as the alert thread sees it and as messages tell it."""

    def __init__(self, torrent: lt.torrent_info, path: Path, start_ns: int) -> None:
        self.name, self.path = _name(torrent), path
        self.messages: queue.SimpleQueue[Message | BenchError] = queue.SimpleQueue()
        self.next_poll_ns = start_ns + FIRST_POLL_NS
        self.shared = False
        self._start_ns = start_ns
        self._total, self._piece_length = torrent.total_size(), torrent.piece_length()
        self._held = bytearray(torrent.num_pieces())
        self._first_gap = 0
        self._before: tuple[int, int] | None = None
        self._block_seen = False
        self._received = self._available = self._contiguous = 0
        self._told = (0, 0)
        self._told_ns = start_ns

    def poll_due(self, t_ns: int) -> bool:
        """Whether it is time to look at the received bytes again: every 50 ms, counted from the start."""
        if t_ns < self.next_poll_ns:
            return False
        polls = (t_ns + POLL_LEAD_NS - self._start_ns) // POLL_NS
        self.next_poll_ns = self._start_ns + (polls + 1) * POLL_NS - POLL_LEAD_NS
        if not self._block_seen:
            soon_ns = t_ns + max(FIRST_POLL_NS, (t_ns - self._start_ns) // FIRST_POLL_PART)
            self.next_poll_ns = min(self.next_poll_ns, soon_ns)
        return True

    def see_piece(self, index: int, t_ns: int) -> bool:
        """A piece is here and verified; whether it was the last one."""
        if self._held[index]:
            return False
        self._held[index] = True
        available, contiguous = self._available, self._contiguous
        self._available += min(self._piece_length, self._total - index * self._piece_length)
        if index == self._first_gap:
            self._first_gap = self._held.find(0, index)
            whole = self._first_gap < 0
            self._contiguous = self._total if whole else self._first_gap * self._piece_length
        self._received = max(self._received, self._available)
        self._see_block(t_ns)
        if passes_mark(available, self._available, self._total) or passes_mark(
            contiguous, self._contiguous, self._total
        ):
            self._tell(t_ns)
        return self._available == self._total

    def see_received(self, count: int, blocks: int, t_ns: int) -> None:
        """The session has received ``count`` payload bytes and ``blocks`` blocks since it was started."""
        if self._before is None:
            self._before = count, blocks
        self._see(count - self._before[0], blocks > self._before[1], t_ns)

    def see_own(self, count: int, t_ns: int) -> None:
        """Its torrent, one of several that are fetched, has received ``count`` payload bytes."""
        self._see(count, count > 0, t_ns)

    def _see(self, received: int, block: bool, t_ns: int) -> None:
        self._received = max(self._received, received)
        if block:
            self._see_block(t_ns)
        turn = (t_ns + 2 * POLL_LEAD_NS - self._start_ns) // NS > (self._told_ns + POLL_LEAD_NS - self._start_ns) // NS
        if turn or self._told != (self._received, self._available):
            self._tell(t_ns)

    def finish(self) -> None:
        """All bytes are in the file."""
        self.messages.put({"done": True, "path": str(self.path)})

    def fail(self, text: str) -> None:
        """It will not end well."""
        self.messages.put(BadTransfer(f"{self.path.name}: {text}"))

    def _see_block(self, t_ns: int) -> None:
        """A block is here, not verified yet; the first one is news."""
        if not self._block_seen:
            self._block_seen = True
            self.messages.put({"t_ns": t_ns, "first_block": True})

    def _tell(self, t_ns: int) -> None:
        self._told, self._told_ns = (self._received, self._available), t_ns
        self.messages.put(
            {
                "t_ns": t_ns,
                "received": self._received,
                "available": self._available,
                "contiguous": self._contiguous,
            }
        )


def make_ticket(path: Path, tracker: str, piece_size: int = 0) -> bytes:
    """The .torrent of one file: v1, the same bytes wherever it is made; ``piece_size`` 0 is libtorrent's choice."""
    file_entry = lt.create_file_entry(path.name, path.stat().st_size)
    torrent = lt.create_torrent([file_entry], piece_size, lt.create_torrent.v1_only)
    torrent.set_priv(True)
    torrent.set_creation_date(0)
    torrent.add_tracker(tracker)
    length = torrent.piece_length()
    with path.open("rb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(
            lambda index: hashlib.sha1(os.pread(file.fileno(), length, index * length), usedforsecurity=False).digest(),
            range(torrent.num_pieces()),
        )
        for index, digest in enumerate(digests):
            torrent.set_hash(index, digest)
    return lt.bencode(torrent.generate())


def _name(torrent: lt.torrent_info) -> str:
    return str(torrent.info_hashes().v1)


def _hash(alert: lt.torrent_alert) -> str:
    return str(alert.handle.info_hashes().v1)


def _text(request: Message, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise WrongInput(f"{key!r} is missing from the request")
    return value


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def main(arguments: list[str] | None = None) -> None:
    """Serve the agent until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m pytest_codexbench.nodes.bittorrent", description=__doc__)
    parser.add_argument("--control", required=True, help="unix:/path of the socket that the agent uses")
    parser.add_argument("--address", required=True, help="the only address to listen on and to connect from")
    parser.add_argument("--data", required=True, type=Path, help="folder for the files")
    parser.add_argument("--profile", required=True, choices=sorted(PROFILES))
    parser.add_argument("--tracker", help="announce URL, in place of those that a ticket names")
    parser.add_argument("--piece-size", type=int, default=0, help="bytes; by default the profile's choice")
    options = parser.parse_args(arguments)
    if options.piece_size % BLOCK or options.piece_size < 0:
        parser.error(f"--piece-size {options.piece_size} is no multiple of {BLOCK}")

    options.data.mkdir(parents=True, exist_ok=True)
    try:
        token = token_from_environment()
        node = Node(options.address, options.profile, options.tracker, options.piece_size)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        # libtorrent's threads outlive Python's own exit.
        os._exit(1)

    def end(*_: object) -> None:
        node.pause()
        time.sleep(FAREWELL_S)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    Server(options.control, token, node.verbs).start()
    with suppress(KeyboardInterrupt):
        while True:
            signal.pause()
    end()


if __name__ == "__main__":
    main()
