"""What an agent answers to: every verb of one node, for the run that holds its token."""

from __future__ import annotations

import math
import os
import queue
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from pytest_codexbench.agent import exposition, hindrances, probe
from pytest_codexbench.agent.process import Program
from pytest_codexbench.agent.wire import Interface, Wire
from pytest_codexbench.errors import AgentError, BadTransfer, BenchError, NotReady, WrongInput
from pytest_codexbench.httpbody import read_body
from pytest_codexbench.payload import Hasher, Payload, digest_of_file, drop_cache
from pytest_codexbench.records import FAILED, LATE, OK, Counters, Transfer
from pytest_codexbench.rpc import Message, Page, Verb
from pytest_codexbench.systems import (
    Arrival,
    Contact,
    Driver,
    Fetched,
    Handle,
    Messenger,
    Place,
    ServesAgain,
    System,
    Traffic,
    Want,
)
from pytest_codexbench.timeline import Sample, Timeline, Watch

BEAT_S = 1.0
LOOK_S = 0.02
# How often a node is asked for messages: no latency is known better than this.
RECEIVE_S = 0.002
# A node that dies breaks its connections a moment before it is gone.
END_S = 0.5
# More than any request holds: seeds have 64 bits, a transfer may take days.
MOST_NUMBER, MOST_PORT, MOST_S = 2**64, 2**16 - 1, 10**7
MOST_NAME, MOST_SHOWN = 64, 200


class Agent:
    """One node's agent. Long verbs answer in lines: a beat at least once a second, then ``done``."""

    def __init__(self, system: System, place: Place, process: Program, wire: Wire | Interface | None) -> None:
        self.place, self.process, self.wire = place, process, wire
        self.system = system
        self.driver: Driver = system.driver(place)
        self.contact: Contact | None = None
        self.progress = exposition.Progress()
        self._processor = hindrances.Processor(f"{place.folder.parent.name}-{place.name}")
        self._before = Counters(payload_rx_bytes=0, payload_tx_bytes=0, cpu_s=0.0, rss_peak_bytes=0)
        self._broken: _Broken | None = None
        place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.data.mkdir(exist_ok=True, mode=0o700)

    def verbs(self) -> Mapping[str, Verb]:
        """Name and function of everything an agent can be asked for."""
        quick = (
            self.health,
            self.counters,
            self.begin,
            self.listen,
            self.log,
            self.subscribe,
            self.peers,
            self.send,
            self.condition,
        )
        upset = (self.kill, self.serve_again, self.hinder, self.mend, self.rest)
        still = (self.start, self.join, self.make, self.publish, self.check, self.delete, self.drop_cache, self.receive)
        slow = (*upset, *still)
        return {
            **{verb.__name__: verb for verb in quick},
            **{verb.__name__: _with_beats(verb) for verb in (*slow, self.probe_disk, self.probe_wire, self.stop)},
            "fetch": self.fetch,
        }

    def pages(self) -> Mapping[str, Page]:
        """What anybody may look at: the metrics of the node, and those that its program tells."""
        return {exposition.OWN: self._told_metrics, exposition.NODES: lambda: exposition.of_program(self.driver)}

    def _told_metrics(self) -> bytes:
        """Without asking the driver, which may be at a transfer."""
        rx, tx = self.wire.read() if self.wire else (None, None)
        usage = self.process.usage()
        used = (usage.cpu_s, usage.rss_peak_bytes) if usage else (None, None)
        counters = Counters(wire_rx_bytes=rx, wire_tx_bytes=tx, cpu_s=used[0], rss_peak_bytes=used[1])
        names = {"system": self.system.name, "node": self.place.name}
        return exposition.text_of(exposition.families(names, self.progress, counters, self.process.running))

    def health(self, _: Message) -> Message:
        """That the agent is there, and what became of its node."""
        return {"name": self.place.name, "node": self.process.state(), "runs": self.process.running, "pid": os.getpid()}

    def start(self, request: Message) -> Message:
        """Start the node and wait until it is ready: its contact, the seconds it took, its versions.

        ``bootstrap`` are contacts of running nodes; ``deadline_s`` bounds the wait.
        """
        deadline_s = _seconds(request, "deadline_s")
        bootstrap = _contacts(request, "bootstrap")
        begun = time.perf_counter()
        if not self.process.running:
            self.process.start(lambda: self.driver.command(bootstrap), self.place.data)
        contact = self._first_answer(begun, deadline_s)
        if "address" not in contact:
            raise NotReady(f"the driver of {self._name()} gave a contact without address: {dict(contact)!r}")
        self.contact = contact
        return {
            "contact": dict(contact),
            "seconds": time.perf_counter() - begun,
            "versions": {**self.driver.versions(), **_tcp()},
        }

    def _first_answer(self, begun: float, deadline_s: float) -> Contact:
        why = ""
        while True:
            try:
                if (contact := self.driver.ready()) is not None:
                    return contact
            except AgentError as error:  # it may be half up; at the end this tells more than that it was not
                why = f" (asked last: {error})"
            except Exception as error:
                raise NotReady(f"{self._name()}: {_as_ours(error)}; {self.log_end()}") from error
            if not self.process.running:
                raise NotReady(f"{self._name()} {self.process.state()} before it was ready; {self.log_end()}")
            if time.perf_counter() - begun > deadline_s:
                raise NotReady(f"{self._name()} was not ready within {deadline_s:g} s{why}; {self.log_end()}")
            time.sleep(LOOK_S)

    def join(self, request: Message) -> Message:
        """Make the node know the others."""
        contacts = _contacts(request, "contacts")
        with _Blamed(self):
            self.driver.join(contacts)
        return {}

    def make(self, request: Message) -> Message:
        """Make the payload's file: its digest. The name tells which payload it is."""
        payload = Payload(int(_number(request, "size")), int(_number(request, "seed")))
        file = self._file(request)
        self._fits(payload.size)
        begun = time.perf_counter()
        try:
            digest = payload.write(file)
        except OSError as error:
            raise BadTransfer(f"{self._name()} could not make a file of {payload.size} bytes: {error}") from error
        return {"digest": digest, "seconds": time.perf_counter() - begun}

    def publish(self, request: Message) -> Message:
        """Publish the file that was made: its handle and the seconds it took, by part."""
        file, deadline_s = self._file(request), _seconds(request, "deadline_s")
        with _Blamed(self):
            published = self.driver.publish(file, deadline_s)
            if "publish_s" not in published.seconds:
                raise BadTransfer("its driver did not tell publish_s")
        handle = {"id": published.handle.id, "ticket": published.handle.ticket}
        return {"handle": handle, "seconds": dict(published.seconds)}

    def fetch(self, request: Message) -> Iterator[Message]:
        """One transfer: a line at its start, one a percent and at least one a second, then ``done`` with the record.

        With ``again``, after one that broke off because the node was killed: it goes on in the same record, by the same
        clock and to the same deadline, and what is received counts on top.
        Whatever goes wrong with the node is told in the record, with the timeline up to there.
        """
        size, deadline_s = int(_number(request, "size")), _seconds(request, "deadline_s")
        handle, sources, position = _handle(request), _contacts(request, "sources"), int(_number(request, "position"))
        if not size or not sources:
            raise WrongInput(f"a fetch of {size} bytes from {len(sources)} sources: at least one of each is needed")
        broken = self._broken if request.get("again") else None
        start_ns = broken.start_ns if broken else time.perf_counter_ns()
        end_ns = start_ns + int(deadline_s * 1e9)
        want = Want(handle, size, sources, position, start_ns, end_ns, broken is not None)
        self.progress.size = size
        yield {"started": True, "view": self.driver.views[0]}
        watches = broken.watches if broken else {view: Watch(size) for view in self.driver.views}
        seconds: dict[str, float] = broken.seconds if broken else {}
        self._broken = _Broken(start_ns, watches, seconds)
        fetched, outcome, error = None, OK, None
        try:
            for line, end in self._follow(want, watches, seconds):
                if end is not None:
                    fetched = end
                    break
                yield line
            if any(math.isinf(watch.timeline().seconds_to(100)) for watch in watches.values()):
                raise BadTransfer(f"{self._name()} ended the fetch before all {size} bytes were there")
        except Exception as failure:  # noqa: BLE001 - a driver is anybody's: whatever it raises, what it told is kept
            late = time.perf_counter_ns() >= want.deadline_ns
            outcome, error = LATE if late else FAILED, self.told(_as_ours(failure))
            for watch in watches.values():
                watch.close(time.perf_counter_ns() - start_ns)
        self.progress.outcomes[outcome] += 1
        timelines: dict[str, Timeline] = {view: watch.timeline() for view, watch in watches.items()}
        log_tail = self.process.tail() if error else None
        record = Transfer(self.place.name, "download", outcome, timelines, seconds, error, log_tail)
        done: Message = {"transfer": record.to_json(), "digest": None, "path": None, "url": None}
        if fetched is not None:
            done.update(digest=fetched.digest, path=str(fetched.path) if fetched.path else None, url=fetched.url)
        yield {"done": done}

    def _follow(
        self, want: Want, watches: Mapping[str, Watch], seconds: dict[str, float]
    ) -> Iterator[tuple[Message, Fetched | None]]:
        """The lines to pass on, while the arrivals go into the watches; the last has the end."""
        arrivals = self.driver.fetch(want)
        told_ns, name, handle = want.start_ns, self._name(), want.handle.id
        before = max(watch.received for watch in watches.values())
        try:
            while True:
                try:
                    arrival: Arrival = next(arrivals)
                except StopIteration as end:
                    yield {}, end.value
                    return
                if arrival.t_ns > want.deadline_ns:
                    raise BadTransfer(f"{name}: {handle} was not there when the deadline passed")
                if arrival.news:
                    seconds.setdefault(arrival.news, (arrival.t_ns - want.start_ns) / 1e9)
                arrival = replace(arrival, received=arrival.received + before)
                held = max(arrival.held.values(), default=0)
                self.progress.received, self.progress.held = arrival.received, held
                marked = _see(watches, arrival, want, name)
                if marked or arrival.t_ns - told_ns > BEAT_S * 5e8:
                    told_ns = arrival.t_ns
                    t_s = (arrival.t_ns - want.start_ns) / 1e9
                    yield {"t_s": t_s, "received": arrival.received, "held": held}, None
        finally:
            arrivals.close()

    def check(self, request: Message) -> Message:
        """The digest and size of a fetched file, read from the disk, or as its node gives it back."""
        if not request.get("url") and not request.get("path"):
            raise BadTransfer(f"the driver of {self._name()} ended a fetch with neither a digest, a path nor a URL")
        if url := request.get("url"):
            return self._given_back(str(url), int(_number(request, "size")), _seconds(request, "deadline_s"))
        path = Path(str(request["path"]))
        if "\0" in str(path) or not path.resolve().is_relative_to(self.place.folder.resolve()):
            raise WrongInput(f"path {str(path)!r} is not one of this node's")
        try:
            return {"digest": digest_of_file(path), "size": path.stat().st_size}
        except OSError as error:
            raise BadTransfer(f"{self._name()} cannot read what it fetched: {error}") from error

    def _given_back(self, url: str, size: int, deadline_s: float) -> Message:
        hasher, got = Hasher(), 0
        with _Blamed(self):
            for _, piece in read_body(url, size, time.perf_counter_ns() + int(deadline_s * 1e9)):
                hasher.update(piece)
                got += len(piece)
        return {"digest": hasher.hexdigest(), "size": got}

    def delete(self, request: Message) -> Message:
        """Forget the file: whether it is gone from the node and from the disk."""
        file, handle = self._file(request), _handle(request) if "handle" in request else None
        self.progress.end()
        file.unlink(missing_ok=True)
        if not self.process.running:
            return {"gone": True}
        with _Blamed(self):
            if handle is not None:
                self.driver.delete(handle)
            return {"gone": not self.driver.holds(handle)}

    def drop_cache(self, _: Message) -> Message:
        """Take all that the node stores out of the page cache; whether that worked."""
        return {"dropped": drop_cache(self.place.folder)}

    def counters(self, _: Message) -> Message:
        """What the node used since it was started; of one that was killed, also what it had used before."""
        return self._counted().to_json()

    def _counted(self) -> Counters:
        before = self._before
        usage = self.process.usage()
        rx, tx = self.wire.read() if self.wire else (None, None)
        try:
            traffic = self.driver.traffic() if self.process.running else None
        except Exception as error:  # noqa: BLE001 - a node that goes down cannot tell; the wire counts on
            if not isinstance(error, BenchError):
                traceback.print_exc()
            traffic = None
        return Counters(
            wire_rx_bytes=rx,
            wire_tx_bytes=tx,
            payload_rx_bytes=_more(before.payload_rx_bytes, traffic, "payload_rx_bytes"),
            payload_tx_bytes=_more(before.payload_tx_bytes, traffic, "payload_tx_bytes"),
            cpu_s=before.cpu_s + usage.cpu_s if usage and before.cpu_s is not None else before.cpu_s or None,
            rss_peak_bytes=max(before.rss_peak_bytes or 0, usage.rss_peak_bytes if usage else 0) or None,
            more=traffic.more if traffic else {},
        )

    def kill(self, _: Message) -> Message:
        """End the node without warning: whether it still runs. What it counted until then is kept."""
        self._before = self._counted()
        self.process.kill()
        return {"runs": self.process.running, "node": self.process.state()}

    def serve_again(self, request: Message) -> Message:
        """Make a node that was killed and started again serve the file that it had published."""
        if isinstance(self.driver, ServesAgain):
            file, handle, deadline_s = self._file(request), _handle(request), _seconds(request, "deadline_s")
            with _Blamed(self):
                self.driver.serve_again(file, handle, deadline_s)
        return {}

    def hinder(self, request: Message) -> Message:
        """Hold the node back: lose packets, cut its link, bound its processor, or give it a disk of so many bytes."""
        if not isinstance(self.wire, Wire):
            raise AgentError(f"{self._name()} has no namespaces of its own, so it would not be alone to be held back")
        lose, share, disk = (_number(request, key) if key in request else None for key in ("lose", "processor", "disk"))
        if lose is not None:
            hindrances.lose(int(lose))
        if request.get("cut"):
            hindrances.cut()
        if share is not None:
            self._processor.limit(share, self.process.pids())
        if disk is not None:
            self.process.stop()
            hindrances.confine(self.place.data, int(disk))
        return {}

    def mend(self, _: Message) -> Message:
        """Hold the node back no longer, but for its disk, which stays as long as its folder."""
        hindrances.mend()
        self._processor.free()
        return {}

    def condition(self, _: Message) -> Message:
        """What holds the node back now, read back: whether it runs, its packets, its processor, its disk."""
        packets = hindrances.rules()
        disk = os.statvfs(self.place.data)
        return {
            "runs": self.process.running,
            "packets": None if packets is None else {"pass": packets[0], "dropped": packets[1]},
            "processor": dict(self._processor.seen(self.process.pids())),
            "disk_bytes": disk.f_blocks * disk.f_frsize,
        }

    def rest(self, _: Message) -> Message:
        """What the node holds now that nothing is asked of it: memory, disk, and since when it runs."""
        usage = self.process.usage()
        return Counters(
            rss_peak_bytes=usage.rss_peak_bytes if usage else None,
            rss_bytes=usage.rss_bytes if usage else None,
            disk_bytes=_taken(self.place.folder),
            started_at_s=usage.started_at_s if usage else None,
        ).to_json()

    def begin(self, request: Message) -> Message:
        """A round begins: whether the kernel counts the peak of memory from now on, and the counters at that moment.

        ``cell``, ``round`` and the node's ``role`` are what its metrics are then of.
        """
        self.progress.begin(exposition.Part.parse(request))
        return {"reset": self.process.reset_peak(), "counters": self._counted().to_json()}

    def listen(self, _: Message) -> Message:
        """Take one stream of another node's probe: the port to send it to."""
        return {"port": probe.listen(self.place.address)}

    def probe_wire(self, request: Message) -> Message:
        """The rate of a TCP stream to another node.

        With ``limit_mb_s``, which the link should be limited to: its rate once a burst is spent, and that burst.
        """
        seconds, most = _seconds(request, "seconds"), int(_number(request, "most"))
        way = _address(request), int(_number(request, "port", MOST_PORT)), self.place.address
        if request.get("limit_mb_s") is None:
            return {"wire_mb_s": probe.stream_to(*way, probe.until(seconds, most)).mb_s}
        limit = _number(request, "limit_mb_s")
        stream = probe.stream_to(*way, probe.until_spent(limit, seconds, most))
        rate = stream.mb_s_at_the_end(probe.SETTLED_S)
        # what is always ahead of the limit is no burst
        return {"wire_mb_s": rate, "burst_bytes": stream.burst_bytes(max(limit, rate))}

    def probe_disk(self, request: Message) -> Message:
        """The rate of writing to the node's disk."""
        size = int(_number(request, "size"))
        self._fits(size)
        try:
            return {"disk_mb_s": probe.disk_mb_s(self.place.folder, size)}
        except OSError as error:
            raise AgentError(f"probe of the disk below {self.place.folder}: {error}") from error

    def log(self, _: Message) -> Message:
        """The end of the node's log."""
        return {"tail": self.process.tail()}

    def subscribe(self, request: Message) -> Message:
        """Take part in a shard."""
        shard = int(_number(request, "shard"))
        self._messenger().subscribe(shard)
        return {}

    def peers(self, _: Message) -> Message:
        """How many nodes it is connected to."""
        return {"peers": self._messenger().peers()}

    def send(self, request: Message) -> Message:
        """Publish a message: the moment before, in nanoseconds since 1970."""
        payload, shard = _octets(request, "payload"), int(_number(request, "shard"))
        return {"sent_ns": self._messenger().send(payload, shard)}

    def receive(self, request: Message) -> Message:
        """Look for a message until it came, ``linger_s`` longer, or until the deadline: when each copy was seen.

        Without a ``payload`` the first one that begins with ``prefix``, whatever it is: it is told.
        """
        wanted = _octets(request, "payload") if request.get("payload") else None
        prefix = _octets(request, "prefix") if "prefix" in request else b""
        shard, linger_s = int(_number(request, "shard")), _seconds(request, "linger_s")
        messenger, end, seen = self._messenger(), time.monotonic() + _seconds(request, "deadline_s"), list[int]()
        while (now := time.monotonic()) < end:
            came = [message for message in messenger.receive(shard) if message.payload.startswith(prefix)]
            wanted = came[0].payload if wanted is None and came else wanted
            new = [message.seen_ns for message in came if message.payload == wanted]
            if new and not seen:
                end = min(end, now + linger_s)
            seen += new
            time.sleep(RECEIVE_S)
        return {"seen_ns": seen, "payload": wanted.hex() if wanted is not None and seen else None}

    def _messenger(self) -> Messenger:
        if not isinstance(self.driver, Messenger):
            raise WrongInput(f"{self._name()} passes no messages")
        return self.driver

    def stop(self, _: Message) -> Message:
        """End the node."""
        return {"node": self.process.stop()}

    def _file(self, request: Message) -> Path:
        """Where a payload's own file is; its name is the same on every node."""
        name = request.get("name")
        if not isinstance(name, str) or not name.isascii() or not name.isalnum() or len(name) > MOST_NAME:
            raise WrongInput(f"name {name!r} is not of at most {MOST_NAME} letters and digits")
        folder = self.place.folder / "files"
        folder.mkdir(exist_ok=True)
        return folder / name

    def _fits(self, size: int) -> None:
        free = shutil.disk_usage(self.place.folder).free
        if size > free:
            raise BadTransfer(f"{self._name()}: {size} bytes do not fit where {free} are free, in {self.place.folder}")

    def _name(self) -> str:
        return f"{self.system.name} node {self.place.name}"

    def log_end(self) -> str:
        """What the node said last."""
        return f"the end of its log: {self.process.tail() or '(empty)'}"

    def told(self, error: BenchError) -> str:
        """The error, and that the node is gone if that is why."""
        state = f" {self.process.state()}" if self.process.gone(within_s=END_S) else ""
        told = str(error)
        return told if not state and self._name() in told else f"{self._name()}{state}: {told}"


@dataclass(frozen=True, slots=True)
class _Broken:
    """What is known of the latest fetch, should it have to go on after its node was killed."""

    start_ns: int
    watches: dict[str, Watch]
    seconds: dict[str, float]


def _more(before: int | None, traffic: Traffic | None, name: str) -> int | None:
    """A counter of the program that runs, on top of those before it; None if it does not tell."""
    now: int | None = getattr(traffic, name) if traffic else None
    if now is None:  # one that is gone has told before it was killed
        return before if before and traffic is None else None
    return now if before is None else before + now


def _taken(folder: Path) -> int:
    """Bytes that a folder takes of the disk."""
    taken = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it may just have been removed
                taken += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - thousands of files
    return taken


class _Blamed:
    """An error inside names the node, says so if it is gone, and brings the end of its log."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            raise BadTransfer(f"{self.agent.told(_as_ours(error))}; {self.agent.log_end()}") from error


def _as_ours(error: Exception) -> BenchError:
    """An error of a driver that it should not have let through: named, and with its trace in the agent's log."""
    if isinstance(error, BenchError):
        return error
    traceback.print_exception(error)
    return BadTransfer(f"its driver broke: {type(error).__name__}: {error}")


def _see(watches: Mapping[str, Watch], arrival: Arrival, want: Want, name: str) -> bool:
    """Put an arrival into the watch of each view; whether it passed a mark."""
    t_ns = arrival.t_ns - want.start_ns
    # what is received may be more: some comes twice
    if max(arrival.held.values()) > want.size or arrival.t_ns > time.perf_counter_ns():
        raise BadTransfer(
            f"{name}: its driver told that it holds more than {want.size} bytes, or of a moment to come: {arrival}"
        )
    try:
        marks = [watch.see(Sample(t_ns, arrival.received, arrival.held[view])) for view, watch in watches.items()]
    except ValueError as error:
        raise BadTransfer(f"{name} told of progress that goes backwards: {error}") from error
    return any(marks)


def _with_beats(verb: Callable[[Message], Message]) -> Callable[[Message], Iterator[Message]]:
    """The verb in a thread: a beat each second while it works, then ``done`` with its answer, or its error."""

    def lines(request: Message) -> Iterator[Message]:
        answers: queue.Queue[Message | BaseException] = queue.Queue()

        def work() -> None:
            try:
                answers.put(verb(request))
            except BaseException as error:  # noqa: BLE001 - it is raised again where it can be told
                answers.put(error)

        threading.Thread(target=work, name=verb.__name__, daemon=True).start()
        while True:
            try:
                answer = answers.get(timeout=BEAT_S)
            except queue.Empty:
                yield {"beat": True}
                continue
            if isinstance(answer, BaseException):
                raise answer
            yield {"done": answer}
            return

    return lines


def _tcp() -> Mapping[str, str]:
    """How TCP avoids congestion here; empty where the system does not tell."""
    path = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return {"tcp": path.read_text(encoding="ascii").strip()} if path.exists() else {}


def _number(request: Message, key: str, most: int = MOST_NUMBER) -> float:
    value = request.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise WrongInput(f"{key} = {_short(value)}: a number from 0 to {most} is needed")
    return value


def _seconds(request: Message, key: str) -> float:
    return _number(request, key, MOST_S)


def _address(request: Message) -> str:
    try:
        return str(ip_address(str(request.get("address"))))
    except ValueError:
        raise WrongInput(f"address = {_short(request.get('address'))}: an IP address is needed") from None


def _handle(request: Message) -> Handle:
    told = request.get("handle")
    if not isinstance(told, dict) or "id" not in told or not told.keys() <= {"id", "ticket"} or not _texts(told):
        raise WrongInput(f"handle = {_short(told)}: an object with the texts id and ticket is needed")
    return Handle(**told)


def _contacts(request: Message, key: str) -> list[Contact]:
    told = request.get(key)
    if not isinstance(told, list) or not all(isinstance(each, dict) and _texts(each) for each in told):
        raise WrongInput(f"{key} = {_short(told)}: a list of objects is needed that hold texts")
    return told


def _octets(request: Message, key: str) -> bytes:
    try:
        return bytes.fromhex(str(request.get(key)))
    except ValueError:
        raise WrongInput(f"{key} = {_short(request.get(key))}: bytes as hexadecimal digits are needed") from None


def _texts(told: Mapping[str, object]) -> bool:
    return all(isinstance(value, str) for value in told.values())


def _short(value: object) -> str:
    """What was sent, not more of it than a person reads."""
    try:
        return repr(value)[:MOST_SHOWN]
    except ValueError:  # a number with more digits than Python writes
        return "a number of thousands of digits"
