"""Clusters on this machine: a warden with an agent and a node program for each node."""

from __future__ import annotations

import json
import math
import os
import platform
import queue
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import psutil

from pytest_codexbench import __version__
from pytest_codexbench.agent.client import Node, finish
from pytest_codexbench.agent.hindrances import why_not
from pytest_codexbench.agent.process import ended, tail
from pytest_codexbench.backends import Cluster, Room
from pytest_codexbench.backends.network import isolation
from pytest_codexbench.backends.warden import sweep
from pytest_codexbench.errors import AgentError, BenchError, NotReady
from pytest_codexbench.matrix import Shape
from pytest_codexbench.records import Environment
from pytest_codexbench.rpc import MOST_PATH, TOKEN_VARIABLE, Message, call
from pytest_codexbench.systems import Contact, find
from pytest_codexbench.together import each

WARDEN_S = 60.0
NODE_S = 60.0
LOOK_S = 0.02
# How often it is said that another one measures.
TURN_S = 5.0
# What ends a warden's own ending, should it hang.
GONE_S = 15.0
# So long it may take until the end of an agent is told, after the transfer that it broke.
NEWS_S = 0.3
SERVICE_PORT = 6969
WARDEN = "warden"


class Local:
    """The backend ``local``. ``logs`` is the folder for the logs of all clusters, ``root`` the one for their data."""

    name = "local"
    cluster_s = 4.0

    def __init__(self, logs: Path, root: Path | None = None) -> None:
        self.logs = logs
        self.root = root or Path(tempfile.gettempdir())
        self._refused: dict[str, str | None] = {}

    def sweep(self) -> list[str]:
        """Remove what killed runs left on this machine."""
        return [f"removed {folder}, which a killed run left" for folder in sweep(self.root)]

    @cached_property
    def _isolation(self) -> tuple[list[str], str | None]:
        return isolation()

    @property
    def why_loopback(self) -> str | None:
        """Why nodes share the loopback interface; None where each has a network of its own."""
        return self._isolation[1]

    def environment(self, workers: int) -> Environment:
        """This machine."""
        isolated = self.why_loopback is None
        return Environment(
            backend=self.name,
            isolation="namespaces" if isolated else f"loopback: {self.why_loopback}",
            versions={"codexbench": __version__, "python": platform.python_version()},
            machine={
                "system": platform.system(),
                "architecture": platform.machine(),
                "processor": _processor(),
                "cores": os.cpu_count(),
                "memory": psutil.virtual_memory().total,
            },
            kernel=platform.release(),
            colocated=True,
            workers=workers,
            wire="queues at both ends of each link" if isolated else "not counted: the loopback interface is shared",
        )

    def room(self) -> Room:
        """Free disk where the nodes' data goes, and free memory."""
        return Room(psutil.disk_usage(str(self.root)).free, psutil.virtual_memory().available, str(self.root))

    def cannot(self, shape: Shape) -> str | None:
        """The system's program is needed; and for a limited link a network of its own for each node."""
        if why := find(shape.variant.system).missing(shape.variant):
            return why
        if shape.link is not None and self.why_loopback is not None:
            return f"links cannot be limited here: {self.why_loopback}; or leave out the link"
        return None

    def cannot_upset(self, asked: str) -> str | None:
        """It takes namespaces of one's own; for packets `nft`, for processors control groups."""
        if asked not in self._refused:
            self._refused[asked] = why_not(asked, self._isolation[0] or None)
        return self._refused[asked]

    @contextmanager
    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> Iterator[Cluster]:
        """See ``Backend.cluster``."""
        with self.clusters([shape], say, largest) as (cluster,):
            yield cluster

    @contextmanager
    def clusters(
        self, shapes: Sequence[Shape], say: Callable[[str], None], largest: int
    ) -> Iterator[Sequence[Cluster]]:
        """See ``Backend.clusters``: one warden, and one bridge, for all of them."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="codexbench-", dir=self.root))
        except OSError as error:
            raise NotReady(f"no folder for the nodes' data can be made in {self.root}: {error}") from error
        if len(f"{folder}/n000/node.sock") > MOST_PATH:
            folder.rmdir()
            raise NotReady(f"{folder} is too long a path for sockets; set TMPDIR or --cb-data to a shorter one")
        launches, first = list[_Launch](), 0
        for number, shape in enumerate(shapes):
            place = folder, self.logs / str(shape)
            launches.append(_Launch(shape, number, first, place, secrets.token_hex(32), self._isolation[0], largest))
            first += shape.nodes
        try:
            with _warden(launches, self._isolation[0]), ExitStack() as stack:
                found = []
                for launch in launches:
                    found.append(launch.nodes(say))
                    stack.callback(launch.stop, found[-1].nodes)
                yield found
        finally:
            # the warden removes it; but it may never have taken its order, or be at it still
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def alone(self, hosts: Sequence[str], waiting: Callable[[str], None], most_s: float | None) -> Iterator[None]:
        """One lock for this machine: all clusters of this user share its processors."""
        from filelock import FileLock, Timeout

        lock = FileLock(Path(tempfile.gettempdir()) / f"codexbench-measuring-{os.getuid()}.lock")
        end = math.inf if most_s is None else time.monotonic() + most_s
        while not lock.is_locked:
            try:
                lock.acquire(timeout=TURN_S)
            except Timeout:
                if time.monotonic() > end:
                    raise NotReady(f"another measurement on this machine was not through in {most_s:.0f} s") from None
                waiting("another measurement on this machine")
        try:
            yield
        finally:
            lock.release()


@contextmanager
def _warden(launches: Sequence[_Launch], prefix: Sequence[str]) -> Iterator[None]:
    """All processes of the clusters run inside the block."""
    for launch in launches:
        launch.logs.mkdir(parents=True, exist_ok=True)
    with (launches[0].logs / "warden.log").open("ab") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pytest_codexbench.backends.warden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is for pytest, which then ends this
        )
    news = _News(process)
    for launch in launches:
        launch.news = news
    try:
        _await(news, launches)
        yield
    finally:
        for launch in launches:
            launch.over.set()
        news.let_go()


def _await(news: _News, launches: Sequence[_Launch]) -> None:
    first = launches[0]
    order = {
        "folder": str(first.folder),
        "link_bps": first.shape.link,
        "isolated": first.isolated,
        "processes": [process for launch in launches for process in launch.processes()],
    }
    answer = news.answer(order)
    if answer is None:
        status = news.process.poll()
        state = f"no answer within {WARDEN_S:g} s" if status is None else f"it {ended(status)}"
        answer = {"error": f"{state}; its log: {tail(first.logs / 'warden.log') or '(empty)'}"}
    if "ready" not in answer:
        shapes = " and ".join(str(launch.shape) for launch in launches)
        raise NotReady(f"the cluster {shapes} did not come up: {answer.get('error')}")


class _Launch:
    """The bringing up of one cluster, the ``number``-th in its network, with the seats from ``first`` on."""

    def __init__(
        self,
        shape: Shape,
        number: int,
        first: int,
        place: tuple[Path, Path],
        token: str,
        prefix: Sequence[str],
        largest: int,
    ) -> None:
        self.largest, self.number, self.first = largest, number, first
        self.shape, self.token = shape, token
        self.folder, self.logs = place
        self.system = find(shape.variant.system)
        self.isolated = bool(prefix)
        # once set, nobody waits for an agent any more: after a Ctrl-C the interpreter would wait for who does
        self.over = threading.Event()
        self.news: _News  # from when the warden is there
        self._told = 0
        self.names = [f"n{first + index:02d}" for index in range(shape.nodes)]
        self.services = {
            name: (command, SERVICE_PORT + number if self.isolated else _free_port())
            for name, command in self.system.services(shape.variant).items()
        }

    def processes(self) -> list[dict[str, Any]]:
        """What the warden is to run for it."""
        return [*self._companions(), *self._agents()]

    def _companions(self) -> Iterator[dict[str, Any]]:
        for name, (command, port) in self.services.items():
            argv = [part.replace("{port}", str(port)) for part in command.argv]
            yield self._process(self._companion(name), argv, None)

    def _companion(self, service: str) -> str:
        return f"{service}{self.number or ''}"

    def _agents(self) -> Iterator[dict[str, Any]]:
        services = {
            name: f"http://{'10.0.255.254' if self.isolated else '127.0.0.1'}:{port}"
            for name, (_, port) in self.services.items()
        }
        for seat, name in enumerate(self.names, self.first):
            argv = [sys.executable, "-m", "pytest_codexbench.agent", "--name", name, "--listen", self._url(name)]
            argv += ["--system", self.system.name, "--settings", json.dumps(dict(self.shape.variant.settings))]
            argv += ["--folder", f"{self.folder}/{name}", "--log", f"{self.logs / name}.log"]
            argv += ["--services", json.dumps(services), "--largest", str(self.largest)]
            yield self._process(f"{name}.agent", argv, seat)

    def _process(self, name: str, argv: Sequence[str], seat: int | None) -> dict[str, Any]:
        env = {TOKEN_VARIABLE: self.token, "PYTHONDONTWRITEBYTECODE": "1"}
        return {"name": name, "argv": list(argv), "env": env, "log": f"{self.logs / name}.log", "seat": seat}

    def _url(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    def nodes(self, say: Callable[[str], None]) -> Cluster:
        """Start the node programs: the first one alone where the others need its contact."""
        first = self.names[: 1 if self.system.needs_bootstrap else None]
        started = self._start(first, [], say)
        if later := self.names[len(first) :]:
            started |= self._start(later, [started[first[0]]["contact"]], say)
        contacts: dict[str, Contact] = {name: told["contact"] for name, told in started.items()}
        nodes = tuple(Node(name, self._url(name), self.token, contacts[name]) for name in self.names)
        each(nodes, lambda node: node.join([c for n, c in contacts.items() if n != node.name]))
        if ends := self._own_ends():
            raise NotReady(f"the cluster {self.shape} did not come up: {self._in_words(ends)}")
        versions = started[self.names[0]]["versions"]
        return Cluster(nodes, versions, incidents=self._latest, late_s=NEWS_S, whole=lambda: not self._own_ends())

    def _own_ends(self) -> dict[str, str]:
        """Which of its processes ended, or the warden that all share, and how."""
        ends = dict(self.news.ends)
        own = (*(f"{name}.agent" for name in self.names), *map(self._companion, self.services), WARDEN)
        return {name: ends[name] for name in ends if name in own}

    def _latest(self) -> Sequence[str]:
        """Who ended since this was asked last, and how."""
        ends = list(self._own_ends().values())
        latest, self._told = ends[self._told :], len(ends)
        return latest

    def _in_words(self, ends: Mapping[str, str]) -> str:
        """Who ended and how, with the ends of their logs."""
        return "; ".join(
            f"{text}; its log: {tail(self.logs / f'{name}.log') or '(empty)'}" for name, text in ends.items()
        )

    def _start(
        self, names: Sequence[str], bootstrap: Sequence[Contact], say: Callable[[str], None]
    ) -> dict[str, Message]:
        done: list[str] = []

        def start(name: str) -> Message:
            self._await_agent(name)
            request = {"bootstrap": [dict(contact) for contact in bootstrap], "deadline_s": NODE_S}
            told = finish(self._url(name), "start", request, self.token, deadline_s=2 * NODE_S)
            done.append(name)
            say(f"{self.shape}: {len(done) + self.shape.nodes - len(names)} of {self.shape.nodes} nodes ready")
            return told

        return dict(zip(names, each(names, start), strict=True))

    def _await_agent(self, name: str) -> None:
        """Until the agent answers; its socket appears when it does."""
        last: BenchError | None = None
        for _ in range(int(NODE_S / LOOK_S)):
            try:
                call(self._url(name), "health", token=self.token)
                return
            except AgentError as error:
                last = error
            if (process := f"{name}.agent") in (ends := self._own_ends()):
                raise NotReady(f"the cluster {self.shape} did not come up: {self._in_words({process: ends[process]})}")
            if self.over.wait(LOOK_S):
                raise NotReady(f"{self.shape} was given up while it came up")
        log = tail(self.logs / f"{name}.agent.log") or "(empty)"
        raise NotReady(
            f"the agent of {name} in {self.shape} did not answer within {NODE_S:g} s ({last}); its log: {log}"
        )

    def stop(self, nodes: Sequence[Node]) -> None:
        """End the node programs in good order, so that their logs have an end; the warden ends what is left."""

        def stop(node: Node) -> None:
            try:
                node.stop()
            except BenchError as error:
                with (self.logs / f"{node.name}.agent.log").open("a", encoding="utf-8") as log:
                    log.write(f"at the end of the cluster: {error}\n")

        each(nodes, stop)


class _News:
    """What a warden says: its answer to the order, then which of its processes ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.ends: dict[str, str] = {}
        self._stdin, self._stdout = _pipes(process)
        self._answers: queue.Queue[Message | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="news", daemon=True)
        self._reader.start()

    def answer(self, order: Message) -> Message | None:
        """What the warden says of the order; None if it said nothing in time."""
        with suppress(BrokenPipeError):  # its own last words say why
            self._stdin.write(json.dumps(order).encode() + b"\n")
            self._stdin.flush()
        with suppress(queue.Empty):
            return self._answers.get(timeout=WARDEN_S)
        return None

    def let_go(self) -> None:
        """Close its standard input, which ends it, and wait for that."""
        with suppress(BrokenPipeError):  # it is gone already
            self._stdin.close()
        try:
            self.process.wait(GONE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(GONE_S)
        self._stdout.close()

    def _read(self) -> None:
        for line in self._stdout:
            try:
                message: Message = json.loads(line)
            except ValueError:  # cut off in the middle
                break
            if (end := message.get("exited")) is None:
                self._answers.put(message)
                continue
            name = end["name"]
            who = f"the agent of {name.removesuffix('.agent')}" if name.endswith(".agent") else f"the {name}"
            self.ends[name] = f"{who} {ended(end['status'])}"
        with suppress(subprocess.TimeoutExpired):
            self.ends[WARDEN] = f"the warden of the cluster {ended(self.process.wait(GONE_S))}"
        self._answers.put(None)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise NotReady("the warden was started without pipes")
    return process.stdin, process.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names: Mapping[str, str] = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return names.get("model name", platform.processor())
