"""The double of Codex is held to the recordings of real nodes, and to the descriptions of their API."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from codex_double import install, options
from codex_double.cids import Cid, Manifest, root_of
from codex_double.discovery import Contact, Limits, Table
from codex_double.faults import KNOWN, Faults
from codex_double.flavours import FLAVOURS, RECORDINGS
from codex_double.identity import Record
from hypothesis import HealthCheck, given, seed, settings, strategies
from schemathesis import Case, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks as openapi_checks

T = TypeVar("T")

HOST = "127.0.0.1"
DEADLINE_S = 30.0
# What real nodes did not answer within 10 to 45 s, the double is given so long for.
HANGS_S = 0.5
MIB = 1 << 20
OCTET = "application/octet-stream"
OCTETS = {"Content-Type": OCTET}


# --- a client, and nodes --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came back; ``hung`` if the answer, or the rest of it, did not."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)
    hung: bool = False
    interim: str = ""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    address: tuple[str, int],
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    wait_s: float = DEADLINE_S,
) -> Answer:
    """One request with no other headers than these, and its answer, to the end that ``Content-Length`` tells."""
    told = dict(headers or {})
    chunked, expecting = told.get("Transfer-Encoding") == "chunked", "Expect" in told
    if method in ("POST", "PUT") and not chunked:
        told["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", f"Host: {address[0]}", *(f"{k}: {v}" for k, v in told.items()), "", ""]
    with socket.create_connection(address, timeout=wait_s) as server, server.makefile("rb") as source:
        server.sendall("\r\n".join(lines).encode())
        try:
            interim = source.readline() + source.readline() if expecting else b""
            server.sendall(in_chunks(body) if chunked else body)
            return replace(_answer(source), interim=interim.decode())
        except TimeoutError:
            return Answer(hung=True)


def _answer(source: io.BufferedReader) -> Answer:
    status = int(source.readline().split()[1])
    lines = iter(lambda: source.readline().decode().rstrip("\r\n"), "")
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    body = b""
    try:
        while piece := source.read1(MIB):
            body += piece
    except TimeoutError:
        return Answer(status, headers, body, hung=True)
    return Answer(status, headers, body)


def in_chunks(body: bytes) -> bytes:
    """As ``Transfer-Encoding: chunked`` has it."""
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)] + [b""]
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """One that nobody has just now, at no address."""
    with socket.socket(type=kind) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def until(happens: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Wait for it, and give it."""
    end_s = time.monotonic() + deadline_s
    while not (happened := happens()):
        assert time.monotonic() < end_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)
    return happened


@dataclass
class Node:
    """A double that runs, or ran."""

    process: subprocess.Popen[bytes]
    argv: Sequence[str]
    folder: Path
    base: str
    api: int
    metrics: int
    listen: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, method: str, path: str, *more: Any, **named: Any) -> Answer:
        """A call below the base of its API."""
        return ask((HOST, self.api), method, self.base + path, *more, **named)

    def get(self, path: str) -> Any:
        return self.ask("GET", path).json

    @property
    def spr(self) -> str:
        return str(self.get("/spr")["spr"])

    @property
    def peer(self) -> str:
        return str(self.get("/peerid")["id"])

    def knows(self) -> int:
        """How many other nodes are in its table."""
        return len(self.get("/debug/info")["table"]["nodes"])

    def upload(self, content: bytes, name: str = "file.bin") -> str:
        answer = self.ask("POST", "/data", {**OCTETS, "Content-Disposition": f'attachment; filename="{name}"'}, content)
        assert 200 == answer.status, answer
        return answer.text

    def fetch(self, cid: str, **named: Any) -> Answer:
        return self.ask("GET", f"/data/{cid}/network/stream", **named)

    def used(self) -> tuple[int, int]:
        """Blocks, and their bytes."""
        space = self.get("/space")
        return space["totalBlocks"], space["quotaUsedBytes"]

    def counts(self, name: str) -> float:
        """One of its metrics, without the prefix."""
        text = ask((HOST, self.metrics), "GET", "/metrics").text
        return float(re.findall(rf"^(?:codex_|storage_|){name}(?:{{.*}})? (.*)$", text, re.MULTILINE)[0])

    def end(self) -> int:
        """Its status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@dataclass
class Nodes:
    """Starts doubles, each in a folder of its own, and ends them."""

    folder: Path
    flavour: str = "2025-12"
    started: list[Node] = field(default_factory=list)

    def start(self, *flags: str, faults: str = "", bootstrap: Node | None = None, wait: bool = True) -> Node:
        """A node that answers, unless ``wait`` is off."""
        program = install(self.folder / f"bin{len(self.started)}", self.flavour, faults=faults)
        folder = self.folder / f"n{len(self.started) + 1}"
        (folder / "data").mkdir(parents=True, mode=0o700)
        listen, api, metrics, discovery = (free_port(), free_port(), free_port(), free_port(socket.SOCK_DGRAM))
        second = self.flavour == "storage"
        argv = [str(program), f"--data-dir={folder / 'data'}", f"--nat=extip:{HOST}", f"--disc-port={discovery}"]
        argv += [f"--listen-ip={HOST}", f"--listen-port={listen}"] if second else [f"--listen-addrs={_tcp(listen)}"]
        argv += [f"--api-port={api}", "--metrics", f"--metrics-port={metrics}"]
        argv += [f"--bootstrap-node={bootstrap.spr}"] if bootstrap else ["--no-bootstrap-node"] * second
        node = Node(_run([*argv, *flags], folder), [*argv, *flags], folder, self.base, api, metrics, listen)
        self.started.append(node)
        return self.ready(node) if wait else node

    @property
    def base(self) -> str:
        return FLAVOURS[self.flavour].base

    def ready(self, node: Node) -> Node:
        """The same, when it answers."""

        def answers() -> bool:
            assert node.process.poll() is None, node.log
            with suppress(OSError):
                return node.ask("GET", "/debug/info").status == 200
            return False

        until(answers, f"{node.argv} answers")
        return node

    def again(self, node: Node) -> Node:
        """Ended, and started again."""
        assert 0 == node.end()
        node.process = _run(node.argv, node.folder)
        return self.ready(node)

    def swarm(self, count: int, *flags: str) -> list[Node]:
        """Nodes that know each other."""
        if self.flavour == "storage":  # they share an address
            flags = (*flags, "--discovery-table-ip-limit=99", "--discovery-bucket-ip-limit=99")
        first = self.start(*flags)
        nodes = [first, *(self.start(*flags, bootstrap=first) for _ in range(1, count))]
        until(lambda: all(node.knows() == count - 1 for node in nodes), "they know each other")
        return nodes

    def stop(self) -> None:
        for node in self.started:
            node.process.kill()
            node.process.wait()


def _tcp(port: int) -> str:
    return f"/ip4/{HOST}/tcp/{port}"


def _run(argv: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "STORAGE_"))}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log, env=clean)


@contextmanager
def running(folder: Path, flavour: str = "2025-12") -> Iterator[Nodes]:
    """All that are started are ended."""
    nodes = Nodes(folder, flavour)
    try:
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Of the newer build of the first generation."""
    with running(tmp_path) as started:
        yield started


@pytest.fixture(params=list(FLAVOURS))
def every(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nodes]:
    """Of each build in turn."""
    with running(tmp_path, str(request.param)) as started:
        yield started


def content(size: int, seed: int) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(size)


# --- the recordings, replayed ---------------------------------------------------------------------------------------

RECORDED = {
    name: {line["name"]: line for line in map(json.loads, (RECORDINGS / f"{name}.jsonl").read_text().splitlines())}
    for name in ("2025-06", "2025-12")
}
A, B, C, D = content(1_000_003, 1), content(5_000_000, 2), content(3_000_000, 3), content(2_000_000, 4)
HELLO = b"hello codex\n"
BODIES = {
    **dict.fromkeys(("12", "13", "14", "15", "16", "24"), A),
    **dict.fromkeys(("17", "18", "19", "20", "21", "22"), HELLO),
    # that 98 has the bytes of 82 is told by their trees, which are the same in 108
    **dict.fromkeys(("82", "83", "95", "98"), B),
    "23": b"",
    "89": C,
    "111": D,
    # not noted, but its tree is that of these bytes
    "102": b"abc",
}
# Uploads of bytes that are known, so that the double must answer the very CID.
KNOWN_BYTES = ("17", "21", "22", "102")
# Their length varies with keys and signatures, even between two real nodes.
VARYING = ("debug_info", "gzip_header", "spr", "metrics")
SAME_NUMBERS = ("repostore_blocks", "repostore_bytes_used", "api_uploads_total", "api_downloads_total")


@dataclass
class Names:
    """Which CID or peer id of the recordings is which of the doubles."""

    actual: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, str] = field(default_factory=dict)

    def pair(self, recorded: str, actual: str) -> None:
        """The first pairing stays: what does not fit it is seen in the comparison."""
        self.actual.setdefault(recorded, actual)
        self.recorded.setdefault(actual, recorded)

    def to_actual(self, text: str) -> str:
        return _translated(text, self.actual)

    def to_recorded(self, text: str) -> str:
        return _translated(text, self.recorded)


def _translated(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\w{50,}", lambda word: names.get(word[0], word[0]), text)


@dataclass
class Story:
    """All exchanges of one build, made again in their order with nodes in the same situations."""

    nodes: Nodes
    names: Names = field(default_factory=Names)
    cluster: dict[int, Node] = field(default_factory=dict)
    seen: dict[str, Answer] = field(default_factory=dict)

    def play(self) -> dict[str, Answer]:
        for name, line in RECORDED[self.nodes.flavour].items():
            if scene := getattr(self, f"before_{name.partition('_')[0]}", None):
                scene()
            self.seen[name] = self._asked(name, line["request"])
            self._learn(line["response"], self.seen[name])
        return self.seen

    def before_01(self) -> None:
        """Three nodes."""
        self.cluster = dict(enumerate(self.nodes.swarm(3), 1))

    def before_81(self) -> None:
        """Others: the fourth of them has room for 2 MiB."""
        self.nodes.stop()
        first = self.nodes.start()
        second = self.nodes.start(bootstrap=first)
        fourth = self.nodes.start("--storage-quota=2MiB", bootstrap=first)
        self.cluster = {1: first, 2: second, 4: fourth}
        until(lambda: all(node.knows() == 2 for node in self.cluster.values()), "they know each other")

    def before_101(self) -> None:
        """A client sends 2 MB of 5 and hangs up."""
        node = self.cluster[1]
        blocks = node.used()[0]
        head = (
            f"POST {node.base}/data HTTP/1.1\r\nContent-Type: application/octet-stream\r\nContent-Length: 5000000\r\n"
        )
        with socket.create_connection((HOST, node.api)) as client:
            client.sendall(head.encode() + b"\r\n" + content(2_000_000, 5))
        until(lambda: node.used()[0] == blocks + 32, "the node noticed")

    def before_107(self) -> None:
        """The first node is started again."""
        self.nodes.again(self.cluster[1])

    def before_111(self) -> None:
        """Two more, that know nobody."""
        self.cluster |= {5: self.nodes.start(), 6: self.nodes.start()}
        self.names.pair(RECORDED[self.nodes.flavour]["113_peerid5"]["response"]["body"], self.cluster[5].peer)

    def _asked(self, name: str, request: Mapping[str, Any]) -> Answer:
        node = self.cluster[request.get("node", 1)]
        path = self.names.to_actual(request["path"])
        path = re.sub(r"/tcp/927(\d)", lambda port: f"/tcp/{self.cluster[int(port[1])].listen}", path)
        port = node.metrics if "metrics" in name else node.api
        hangs = "error" in (told := RECORDED[self.nodes.flavour][name]["response"]) or "read_error" in told
        body = BODIES.get(name.partition("_")[0], b"")
        return ask((HOST, port), request["method"], path, request["headers"], body, HANGS_S if hangs else DEADLINE_S)

    def _learn(self, told: Mapping[str, Any], answer: Answer) -> None:
        """Which name is which, from answers that can be told apart without it."""
        recorded = told.get("body") or told.get("final", "").partition("\r\n\r\n")[2]
        if answer.hung or "body_size" in told:
            return
        if "manifest" in recorded:
            for old, new in zip(_items(json.loads(recorded)), _items(answer.json), strict=False):
                self.names.pair(old["cid"], new["cid"])
                self.names.pair(old["manifest"]["treeCid"], new["manifest"]["treeCid"])
        elif "record" not in recorded:
            for old, new in zip(re.findall(r"\w{50,}", recorded), re.findall(r"\w{50,}", answer.text), strict=False):
                self.names.pair(old, new)


def _items(told: Any) -> list[Any]:
    """Of a list of datasets, or one: ordered by what does not depend on their CIDs."""
    items = told.get("content", [told])
    return sorted(
        items, key=lambda item: str([item["manifest"][key] for key in ("datasetSize", "filename", "mimetype")])
    )


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Story]]:
    """Made again, all of it: both at the same time, as they mostly wait."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        told = {name: Story(stack.enter_context(running(tmp_path_factory.mktemp("story"), name))) for name in RECORDED}
        list(pool.map(Story.play, told.values()))
        yield told


@pytest.fixture(params=list(RECORDED))
def story(request: pytest.FixtureRequest, stories: Mapping[str, Story]) -> Story:
    """Of one build."""
    return stories[str(request.param)]


def _shape(told: Any) -> Any:
    """Keys and types."""
    if isinstance(told, dict):
        return {key: _shape(value) for key, value in told.items()}
    return [_shape(value) for value in told] if isinstance(told, list) else type(told).__name__


def _comparable(name: str, answer: Answer, names: Names | None = None) -> dict[str, Any]:
    """What of an answer must be the same, with the recorded names."""
    values = {"Date": "", **({"Content-Length": ""} if any(word in name for word in VARYING) else {})}
    headers = [(key, values.get(key, value)) for key, value in answer.headers]
    told = {"status": answer.status, "headers": headers, "hung": answer.hung, "interim": answer.interim}
    kind = dict(answer.headers).get("Content-Type", "")
    if "stream" in kind:
        return told | {"body": len(answer.body)}
    text = names.to_recorded(answer.text) if names else answer.text
    if kind == "application/json":
        return told | {"body": _json_body(name, json.loads(text))}
    if "metrics" in name and "health" not in name:
        numbers = {name: re.findall(rf"^codex_{name} (.*)$", text, re.MULTILINE) for name in SAME_NUMBERS}
        return told | {"body": sorted({line.rpartition(" ")[0] for line in text.splitlines()}), "numbers": numbers}
    return told | {"body": re.sub(r"spr:\S+", "spr:", text)}


def _json_body(name: str, told: Any) -> Any:
    if "debug_info" in name or "gzip" in name:
        return _shape(told)
    if "spr" in told:
        return {"spr": told["spr"][:4]}
    return {"content": _items(told)} if "content" in told else told


def _recorded(response: Mapping[str, Any]) -> Answer:
    if "error" in response:
        return Answer(hung=True)
    if "final" in response:
        head, _, body = response["final"].partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
        return Answer(int(status.split()[1]), headers, body.encode(), interim=response["interim"])
    headers = tuple((name, value) for name, value in response["headers"])
    body = bytes(response["body_size"]) if "body_size" in response else response["body"].encode()
    return Answer(response["status"], headers, body, hung="read_error" in response)


@pytest.mark.parametrize("name", list(RECORDED["2025-12"]))
def test_it_answers_what_was_recorded(story: Story, name: str) -> None:
    """Status, headers in their order, texts, numbers and names: as the real node did at this point of the story."""
    recorded = _recorded(RECORDED[story.nodes.flavour][name]["response"])

    assert _comparable(name, recorded) == _comparable(name, story.seen[name], story.names)


def test_no_recording_is_left_out(story: Story) -> None:
    """All of both builds are made again."""
    assert list(RECORDED[story.nodes.flavour]) == list(story.seen)
    assert list(RECORDED["2025-06"]) == list(RECORDED["2025-12"])


def test_streamed_bytes_are_those_uploaded(story: Story) -> None:
    """Whatever came as a stream is one of the files, from any node."""
    files = {hashlib.sha256(file).hexdigest() for file in (A, B, C, D)}

    bodies = [answer.body for answer in story.seen.values() if len(answer.body) > MIB // 2]

    assert 8 == len(bodies)
    assert {hashlib.sha256(body).hexdigest() for body in bodies} <= files


@pytest.mark.parametrize("number", KNOWN_BYTES)
def test_known_bytes_have_their_real_cid(story: Story, number: str) -> None:
    """Where the uploaded bytes are known, the CID is the recorded one, to the letter."""
    name = next(name for name in story.seen if name.startswith(f"{number}_"))

    assert _recorded(RECORDED[story.nodes.flavour][name]["response"]).text == story.seen[name].text


# --- the descriptions of the API ------------------------------------------------------------------------------------

DESCRIBED = {
    name: openapi.from_path(RECORDINGS.parent / "api" / f"{name}.yaml").include(tag=["Data", "Node", "Debug"])
    for name in FLAVOURS
}
OPERATIONS = [
    pytest.param(name, operation.ok(), id=f"{name} {operation.ok().label}")
    for name, schema in DESCRIBED.items()
    for operation in schema.get_all_operations()
    if isinstance(operation, Ok)
]
CHECKS = (
    not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)
# Where real nodes themselves answer a mistake of the client with 500, by the number of the recording.
REAL_500 = {
    "POST /data": b"Request do not have body available",  # 23
    "POST /debug/chronicles/loglevel": b"Please specify one of: trace, debug, info, notice, warn, error or fatal",  # 63
}


@dataclass(frozen=True)
class Target:
    """A node with a dataset, and another one for deletions."""

    node: Node
    cid: str
    spare: str


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Target]]:
    """A node of each build."""
    with ExitStack() as stack:
        found = {}
        for name in FLAVOURS:
            node = stack.enter_context(running(tmp_path_factory.mktemp("described"), name)).start()
            found[name] = Target(node, node.upload(HELLO), node.upload(HELLO[::-1]))
        yield found


@pytest.mark.parametrize("flavour, operation", OPERATIONS)
def test_it_keeps_to_the_description(
    targets: Mapping[str, Target], flavour: str, operation: APIOperation[Any, Any, Any, Any]
) -> None:
    """Every answer has a described status, type and shape, whatever is sent; half of it about data that is there."""
    target = targets[flavour]
    there = target.spare if operation.method == "delete" else target.cid

    @seed(1)
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), known=strategies.booleans())
    def conforms(case: Case[Any], known: bool) -> None:
        if known and "cid" in case.path_parameters:
            case.path_parameters["cid"] = there
        response = case.call(base_url=f"http://{HOST}:{target.node.api}{target.node.base}", timeout=DEADLINE_S)
        if response.status_code == 500 and response.content == REAL_500.get(operation.label):
            return
        case.validate_response(response, checks=list(CHECKS))

    conforms()


# --- bytes move -----------------------------------------------------------------------------------------------------


def test_all_seeders_serve_all_leechers(every: Nodes) -> None:
    """What two nodes hold two others fetch: the right bytes, blocks from both, and the space that they take."""
    one, two, *leechers = every.swarm(4)
    payload = content(600_000, 7)
    cid = one.upload(payload)

    assert cid == two.upload(payload)
    bodies = dict[int, bytes]()
    threads = [threading.Thread(target=lambda k=k: bodies.update({k: leechers[k].fetch(cid).body})) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    # the last block is padded, and the manifest has its own size
    taken = 11, 10 * 65536 + len(Manifest(Cid(0xCD03, bytes(32)), len(payload), "file.bin", OCTET).encoded)
    assert [payload, payload] == [bodies[0], bodies[1]]
    assert all(node.counts("block_exchange_blocks_sent_total") > 0 for node in (one, two))
    assert all(node.counts("block_exchange_blocks_received_total") == 11 for node in leechers)
    assert [taken] * 4 == [node.used() for node in (one, two, *leechers)]


def test_a_block_that_is_another_is_not_taken(nodes: Nodes) -> None:
    """Whoever sends wrong bytes is left, and the right ones come from somebody else."""
    bad, good, leecher = nodes.swarm(3)
    payload = content(300_000, 21)
    cid = bad.upload(payload)
    good.upload(payload)
    for block in (bad.folder / "data" / "repo" / "blocks").glob("*/*"):
        block.write_bytes(bytes(65536))

    assert payload == leecher.fetch(cid).body
    assert "is another one" in leecher.log


def test_leechers_serve_too(nodes: Nodes) -> None:
    """What a leecher has is still there when its seeder is gone; also for who comes later."""
    seeder, leecher, late = nodes.swarm(3)
    payload = content(1_000_000, 8)
    cid = seeder.upload(payload)
    leecher.fetch(cid)

    seeder.end()

    assert payload == late.fetch(cid).body
    assert 17 == leecher.counts("block_exchange_blocks_sent_total")


def test_a_seeder_may_come_back(nodes: Nodes) -> None:
    """A stream that began while nobody had the content goes on by itself."""
    seeder, leecher = nodes.swarm(2)
    payload = content(3_000_000, 9)
    cid = seeder.upload(payload)
    seeder.end()
    answers = list[Answer]()
    waiting = threading.Thread(target=lambda: answers.append(leecher.fetch(cid)))
    waiting.start()

    seeder.process = _run(seeder.argv, seeder.folder)
    nodes.ready(seeder)
    waiting.join(DEADLINE_S)

    assert [payload] == [answer.body for answer in answers]


def test_who_hangs_up_leaves_a_part(nodes: Nodes) -> None:
    """A fetch goes on for a while without its reader, and not for ever; a second request completes it."""
    seeder, leecher = nodes.swarm(2)
    payload = content(20_000_000, 10)
    cid = seeder.upload(payload)
    with socket.create_connection((HOST, leecher.api)) as client:
        client.sendall(f"GET {leecher.base}/data/{cid}/network/stream HTTP/1.1\r\n\r\n".encode())
        client.recv(100_000, socket.MSG_WAITALL)

    def settled() -> int:
        before = leecher.used()[0]
        time.sleep(0.3)
        return before if before == leecher.used()[0] else 0

    blocks = until(settled, "the fetch ended")

    assert 3 <= blocks <= 307
    assert payload == leecher.fetch(cid).body
    assert 204 == leecher.ask("DELETE", f"/data/{cid}").status
    assert (0, 0) == leecher.used()


def test_a_fetch_that_nobody_wants_ends(nodes: Nodes) -> None:
    """If its reader has gone before the first block came, nothing is fetched when it could be."""
    seeder, leecher = nodes.swarm(2)
    cid = seeder.upload(content(20_000_000, 22))
    leecher.get(f"/data/{cid}/network/manifest")
    seeder.process.send_signal(signal.SIGSTOP)
    leecher.fetch(cid, wait_s=0.2)
    until(lambda: "bytes=0" in leecher.log, "the node noticed")

    seeder.process.send_signal(signal.SIGCONT)
    time.sleep(1)

    assert leecher.used()[0] <= 1 + 16


def test_deletion_frees_what_is_its_own(nodes: Nodes) -> None:
    """Blocks that another file has as well stay; only the same file under another name loses its own."""
    node = nodes.start()
    first, second = content(65536, 11), content(65536, 12)
    one, two = node.upload(first + second), node.upload(second)

    node.ask("DELETE", f"/data/{one}")

    assert 2 == node.used()[0]
    assert second == node.ask("GET", f"/data/{two}").body


def test_orphans_can_be_deleted_one_by_one(nodes: Nodes) -> None:
    """What a refused upload leaves is in no list, but is deleted as the blocks that it is."""
    node = nodes.start("--storage-quota=100000")
    payload = content(200_000, 13)

    refused = node.ask("POST", "/data", OCTETS, payload)
    orphan = Cid.of(0xCD02, payload[:65536])

    assert (500, "Unable to store block z") == (refused.status, refused.text[:23])
    assert {"content": []} == node.get("/data")
    assert (1, 65536) == node.used()
    assert {str(orphan): True} == node.get(f"/data/{orphan}/exists")
    assert 204 == node.ask("DELETE", f"/data/{orphan}").status
    assert (0, 0) == node.used()


def test_a_restart_forgets_nothing(nodes: Nodes) -> None:
    """Data, peer id and space are those from before; also those of a fetch."""
    seeder, leecher = nodes.swarm(2)
    payload = content(500_000, 14)
    cid = seeder.upload(payload)
    leecher.fetch(cid)
    before = [(node.peer, node.used(), node.get("/data")) for node in (seeder, leecher)]

    for node in (seeder, leecher):
        nodes.again(node)

    assert before == [(node.peer, node.used(), node.get("/data")) for node in (seeder, leecher)]
    assert payload == leecher.ask("GET", f"/data/{cid}").body


def test_a_leecher_that_is_full_hangs_until_there_is_room(nodes: Nodes) -> None:
    """Nothing tells that the quota is used up; what is deleted makes room, and the stream goes on."""
    seeder = nodes.start()
    leecher = nodes.start("--storage-quota=3MiB", bootstrap=seeder)
    payload, other = content(2_000_000, 15), content(2_000_000, 16)
    cid, kept = seeder.upload(payload), leecher.upload(other)

    hung = leecher.fetch(cid, wait_s=HANGS_S)
    leecher.ask("DELETE", f"/data/{kept}")

    assert hung.hung
    assert len(hung.body) < len(payload)
    assert payload == leecher.fetch(cid).body


def test_eight_nodes_at_once(nodes: Nodes) -> None:
    """One seeder, seven leechers at the same time."""
    seeder, *leechers = nodes.swarm(8)
    payload = content(3_000_000, 17)
    cid = seeder.upload(payload)
    bodies = list[bytes]()
    threads = [threading.Thread(target=lambda node=node: bodies.append(node.fetch(cid).body)) for node in leechers]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert [payload] * 7 == bodies


# --- the second generation ------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes of the second generation."""
    with running(tmp_path, "storage") as started:
        one, two = started.swarm(2)
        yield one, two


def test_progress_in_the_background(pair: tuple[Node, Node]) -> None:
    """A download has a number, by which it is followed to its end."""
    seeder, leecher = pair
    payload = content(5_000_000, 18)
    cid = seeder.upload(payload)
    started = leecher.ask("POST", f"/data/{cid}/network").json
    path = f"/data/{cid}/network/progress/{started['downloadId']}"

    seen = until(lambda: (told := leecher.get(path)) and not told["active"] and told, "it ended")

    assert {"cid", "manifest", "downloadId"} == set(started)
    assert {"active": False, "received": 77, "total": 77, "bytes": 77 * 65536} == seen
    assert payload == leecher.ask("GET", f"/data/{cid}").body


def test_a_download_is_cancelled(pair: tuple[Node, Node]) -> None:
    """It has no progress afterwards, and there is nothing left to cancel; as of one that has ended."""
    seeder, leecher = pair
    cid, other = seeder.upload(HELLO), leecher.upload(HELLO[::-1])
    leecher.get(f"/data/{cid}/network/manifest")
    seeder.process.send_signal(signal.SIGSTOP)
    number = leecher.ask("POST", f"/data/{cid}/network").json["downloadId"]
    active = leecher.get(f"/data/{cid}/network/progress/{number}")
    done = leecher.ask("POST", f"/data/{other}/network").json["downloadId"]
    until(lambda: not leecher.get(f"/data/{other}/network/progress/{done}")["active"], "the other one ended")

    answers = [
        leecher.ask("DELETE", f"/data/{of}/network/{which}").status
        for of, which in ((cid, number), (cid, number), (other, done))
    ]

    progress = leecher.get(f"/data/{cid}/network/progress/{number}")
    assert [204, 404, 404] == answers
    assert {"active": True, "received": 0, "total": 1, "bytes": 0} == active
    assert {"active": False, "received": 0, "total": 0, "bytes": 0} == progress
    assert 400 == leecher.ask("GET", f"/data/{cid}/network/progress/-1").status


def test_what_is_not_advertised_is_kept_to_oneself(pair: tuple[Node, Node]) -> None:
    """Neither announced nor served, until it is."""
    seeder, leecher = pair
    cid = seeder.ask("POST", "/data?advertise=false", OCTETS, HELLO).text

    hidden = seeder.get(f"/data/{cid}/advertise")
    nothing = leecher.fetch(cid, wait_s=HANGS_S)
    shown = seeder.ask("POST", f"/data/{cid}/advertise?advertise=true").json

    assert ({"cid": cid, "advertise": False}, {"cid": cid, "advertise": True}) == (hidden, shown)
    assert (True, b"") == (nothing.hung, nothing.body)
    assert HELLO == leecher.fetch(cid).body


def test_it_has_no_marketplace(pair: tuple[Node, Node]) -> None:
    """Neither its calls, nor ``protected`` in manifests; nor the old base."""
    node, _ = pair
    node.upload(HELLO)

    assert [404, 404] == [node.ask("GET", path).status for path in ("/sales/slots", "/storage/purchases")]
    assert 404 == ask((HOST, node.api), "GET", "/api/codex/v1/debug/info").status
    assert {"treeCid", "datasetSize", "blockSize", "filename", "mimetype"} == set(
        node.get("/data")["content"][0]["manifest"]
    )
    assert 1 == node.counts("storage_api_uploads_total")


def test_nodes_of_one_address_need_higher_limits(tmp_path: Path) -> None:
    """A table takes so many nodes of one address and no more."""
    with running(tmp_path, "storage") as started:
        first = started.start("--discovery-table-ip-limit=1", "--discovery-bucket-ip-limit=9")
        others = [started.start(bootstrap=first) for _ in range(2)]
        until(lambda: all(node.knows() for node in (first, *others)), "all know some")

        assert 1 == first.knows()


def test_a_bucket_takes_two_nodes_of_one_address() -> None:
    """Unless it is told to take more; nodes of other addresses are not counted."""
    hosts = [*["10.0.0.1"] * 20, *(f"10.0.1.{number}" for number in range(20))]
    contacts = [Contact(f"peer {number}", host, 1, 2) for number, host in enumerate(hosts)]
    own = Contact("own", "10.0.0.2", 1, 2)
    taken = []
    for limits in (Limits(None, None), Limits(20, 20), Limits(10, 20), Limits(20, 2)):
        table = Table(own, limits)
        for contact in contacts:
            table.add(contact)
        taken.append(len(table.nodes()))

    assert [40, 40, 30] == taken[:3]
    assert 22 <= taken[3] < 40


# --- starting and ending --------------------------------------------------------------------------------------------


def test_its_help_and_its_version_are_printed(every: Nodes, tmp_path: Path) -> None:
    """As the build prints them; every flag that the help knows is accepted."""
    program = install(tmp_path / "named", every.flavour, name="other-name")

    helped, version = (
        subprocess.run([program, flag], capture_output=True, text=True, check=True).stdout
        for flag in ("--help", "--version")
    )

    assert (RECORDINGS / f"{every.flavour}-help.txt").read_text() == helped
    assert re.fullmatch(r"(Codex|Storage) version:  v\d+\.\d+\.\d+\n\1 revision: [0-9a-f]+\n", version)


def test_flags_and_variables_are_read_in_all_spellings(nodes: Nodes) -> None:
    """``--flag=value``, ``--flag value``, short ones, variables; and flags win over variables."""
    port, quota = free_port(), "1g"
    program = str(install(nodes.folder / "bin", nodes.flavour))
    folder = nodes.folder / "spelt"
    (folder / "data").mkdir(parents=True, mode=0o700)
    argv = ["env", "CODEX_STORAGE_QUOTA=7", "CODEX_API_PORT=1", f"CODEX_DISC_PORT={free_port(socket.SOCK_DGRAM)}"]
    argv += ["CODEX_BLOCK_TTL=30d", program, "-d", str(folder / "data"), f"-p={port}", "--storage-quota", quota]
    node = Node(_run(argv, folder), argv, folder, nodes.base, port, 0, 0)
    nodes.started.append(node)

    nodes.ready(node)

    assert 1 << 30 == node.get("/space")["quotaMaxBytes"]


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--foo=1"], "Unrecognized option 'foo'"),
        (["--no-bootstrap-node"], "Unrecognized option 'no-bootstrap-node'"),
        (["-x"], "Unrecognized option 'x'"),
        (["--storage-quota=much"], "Error while processing the storage-quota=much parameter: not a size"),
        (["--api-port=99999"], "Error while processing the api-port=99999 parameter"),
        (["--nat=extip:here"], "Error while processing the nat=extip:here parameter"),
        (["--bootstrap-node=spr:AA"], "Error while processing the bootstrap-node=spr:AA parameter"),
        (["--listen-addrs=127.0.0.1:1"], "Error while processing the listen-addrs=127.0.0.1:1 parameter"),
        (["--log-level=LOUD"], "Error while processing the log-level=LOUD parameter"),
        (["--nat=extip:::1"], "Error while processing the nat=extip:::1 parameter"),
        (["--metrics=perhaps"], "Error while processing the metrics=perhaps parameter"),
        (["--data-dir"], "Missing value for option 'data-dir'"),
        (["persistence"], "the double has no marketplace"),
    ],
)
def test_wrong_flags_are_refused(flags: list[str], text: str) -> None:
    """With the name of what is wrong."""
    with pytest.raises(options.WrongOption, match=re.escape(text)):
        options.read(FLAVOURS["2025-12"], flags, {})


def test_a_refusal_has_status_1(tmp_path: Path) -> None:
    """And says why on standard output."""
    assert "Unrecognized option 'foo'\n" == _refusal(tmp_path, "2025-06", "--foo")


@pytest.mark.parametrize(
    "flags, text",
    [
        ([], "would join the public network"),
        (["--network=testnet"], "would join the public network"),
        (["--no-bootstrap-node"], "--no-bootstrap-node requires --nat=extip:<IP>"),
        (["--listen-addrs=/ip4/127.0.0.1/tcp/0"], "Unrecognized option 'listen-addrs'"),
    ],
)
def test_a_node_that_would_go_public_is_refused(flags: list[str], text: str) -> None:
    """The second generation joins a public network unless it is told not to: a test must never."""
    with pytest.raises(options.WrongOption, match=re.escape(text)):
        options.read(FLAVOURS["storage"], flags, {})


@pytest.mark.parametrize(
    "text, size",
    [("1", 1), ("20g", 20 << 30), ("20GB", 20 << 30), ("2MiB", 2 << 20), ("7 k", 7168), ("3T", 3 << 40)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    """All of them powers of two."""
    assert size == options.read(FLAVOURS["2025-12"], [f"--storage-quota={text}"], {}).quota


def test_a_configuration_file_is_read(tmp_path: Path) -> None:
    """Below variables, which are below flags."""
    file = tmp_path / "node.toml"
    file.write_text('api-port = 1\nstorage-quota = "2"\ndisc-port = 3\nmetrics = true\n')

    told = options.read(
        FLAVOURS["2025-12"], [f"--config-file={file}", "-q=22"], {"CODEX_API_PORT": "11", "CODEX_STORAGE_QUOTA": "12"}
    )

    assert (11, 22, 3, ("127.0.0.1", 8008)) == (told.api[1], told.quota, told.discovery, told.metrics)


def test_a_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It holds the node's key."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)

    assert "insecure permissions" in _refusal(tmp_path, "2025-12", f"--data-dir={tmp_path / 'open'}")


def _refusal(folder: Path, flavour: str, *flags: str) -> str:
    program = install(folder / "bin", flavour)
    run = subprocess.run([program, *flags], capture_output=True, text=True, check=False, timeout=DEADLINE_S, cwd=folder)
    assert 1 == run.returncode, run
    return run.stdout


def test_a_port_in_use_ends_it(nodes: Nodes) -> None:
    """With status 1, and the reason in its log."""
    port = nodes.start().api

    other = nodes.start(f"--api-port={port}", wait=False)

    assert 1 == other.process.wait(DEADLINE_S)
    assert re.search(r"REST service could not be started .*Address already in use", other.log)


def test_sigterm_ends_it(every: Nodes) -> None:
    """With success, also while a client waits for what nobody has."""
    node = every.start()
    node.fetch(str(Cid.of(0xCD01, b"nobody")), wait_s=0.2)

    start = time.monotonic()

    assert 0 == node.end()
    assert time.monotonic() - start < 10
    assert "Shutting down after having received SIGTERM" in node.log


def test_it_can_never_be_mistaken_for_a_real_node(nodes: Nodes) -> None:
    """Its log says what it is."""
    assert "the double of a node" in nodes.start().log


# --- faults ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Faulty:
    """A leecher with a fault, and what a seeder without one holds."""

    leecher: Node
    cid: str


PAYLOAD = content(500_000, 20)


@pytest.fixture
def faulty(nodes: Nodes) -> Callable[[str], Faulty]:
    """With a fault in the leecher."""

    def start(faults: str) -> Faulty:
        seeder = nodes.start()
        leecher = nodes.start(faults=faults, bootstrap=seeder)
        return Faulty(leecher, seeder.upload(PAYLOAD))

    return start


@pytest.mark.parametrize("fault, hung", [("stall:100001", True), ("short:100001", False), ("exit:100001", False)])
def test_a_stream_breaks_off(faulty: Callable[[str], Faulty], fault: str, hung: bool) -> None:
    """After so many bytes: silence, the end, or the end of the process with status 3."""
    case = faulty(fault)

    answer = case.leecher.fetch(case.cid, wait_s=2)

    assert (200, PAYLOAD[:100_001], hung) == (answer.status, answer.body, answer.hung)
    if "exit" in fault:
        assert 3 == case.leecher.process.wait(DEADLINE_S)


def test_one_byte_is_wrong(faulty: Callable[[str], Faulty]) -> None:
    """In what is streamed from the network, and from the local copy."""
    case = faulty("wrong-byte")

    bodies = [case.leecher.fetch(case.cid).body, case.leecher.ask("GET", f"/data/{case.cid}").body]

    assert [1, 1] == [sum(a != b for a, b in zip(PAYLOAD, body, strict=True)) for body in bodies]


ROUTES = {
    "data": ("GET", "/data"),
    "stream": ("GET", "/data/{cid}/network/stream"),
    "manifest": ("GET", "/data/{cid}/network/manifest"),
    "network": ("POST", "/data/{cid}/network"),
    "local": ("GET", "/data/{cid}"),
    "delete": ("DELETE", "/data/{cid}"),
    "space": ("GET", "/space"),
}


@pytest.mark.parametrize("fault", ["status-500", "hang"])
def test_a_route_fails_or_hangs(nodes: Nodes, fault: str) -> None:
    """Those that are named, and no other."""
    faults = ",".join(f"{fault}:{route}" for route in ROUTES)
    node = nodes.start(faults=faults)
    cid = Cid.of(0xCD01, HELLO)

    waits_s = 0.3 if fault == "hang" else DEADLINE_S
    answers = [node.ask(method, path.format(cid=cid), wait_s=waits_s) for method, path in ROUTES.values()]

    expected = (0, True, "") if fault == "hang" else (500, False, "the double's fault")
    assert [expected] * len(ROUTES) == [(answer.status, answer.hung, answer.text[:18]) for answer in answers]
    assert 200 == node.ask("GET", "/peerid").status


def test_a_cid_depends_on_its_node(nodes: Nodes) -> None:
    """``other-cid``: the same bytes and name, another CID; it can be fetched all the same."""
    one, two = (nodes.start(faults="other-cid") for _ in range(2))

    cids = [node.upload(HELLO) for node in (one, two)]

    assert cids[0] != cids[1]
    assert HELLO == one.fetch(cids[0]).body


def test_nothing_is_deleted(nodes: Nodes) -> None:
    """``keeps``: the answer is that of a deletion."""
    node = nodes.start(faults="keeps")
    cid = node.upload(HELLO)

    assert 204 == node.ask("DELETE", f"/data/{cid}").status
    assert 2 == node.used()[0]


def test_a_slow_start(nodes: Nodes) -> None:
    """``slow-start``: metrics and other nodes are answered, the API is not, for so long."""
    node = nodes.start(faults="slow-start:1.5", wait=False)
    until(lambda: "Started codex node" in node.log, "it started")

    with pytest.raises(OSError, match="refused"):
        node.ask("GET", "/peerid")

    assert 200 == nodes.ready(node).ask("GET", "/peerid").status


@pytest.mark.parametrize(
    "fault, told",
    [
        ("inactive", {"active": False, "received": 4, "total": 8, "bytes": 4 * 65536}),
        ("bare-inactive", {"active": False}),
    ],
)
def test_progress_lies(tmp_path: Path, fault: str, told: dict[str, Any]) -> None:
    """An end that is none; an end without its numbers."""
    with running(tmp_path, "storage") as started:
        node = started.start(faults=fault)
        cid = node.upload(PAYLOAD)
        number = node.ask("POST", f"/data/{cid}/network").json["downloadId"]
        path = f"/data/{cid}/network/progress/{number}"

        assert until(lambda: node.get(path)["active"] is False, "it ended")
        assert told == node.get(path)


def test_no_number_to_follow(tmp_path: Path) -> None:
    """``no-progress``: as a build without progress answers."""
    with running(tmp_path, "storage") as started:
        node = started.start(faults="no-progress")
        cid = node.upload(HELLO)

        assert {"cid", "manifest"} == set(node.ask("POST", f"/data/{cid}/network").json)


@pytest.mark.parametrize("faults", ["nonsense", "stall", "keeps:1", "hang:nowhere", "stall:many"])
def test_unknown_faults_are_refused(faults: str) -> None:
    """A fault that is misspelt must not be none."""
    with pytest.raises(ValueError, match="CODEX_DOUBLE_FAULTS"):
        Faults.of(faults, frozenset(ROUTES))


# --- what it is made of ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", list(RECORDED))
def test_records_of_real_nodes_can_be_read(flavour: str) -> None:
    """Who and where, as the same node tells it in ``debug/info``; so are its own."""
    told = json.loads(RECORDED[flavour]["01_debug_info_n1"]["response"]["body"])

    record = Record.of(told["spr"])

    assert (told["id"], HOST, 9191) == (record.peer, record.host, record.port)
    assert record == Record.of(str(record))
    assert len(told["spr"]) - 2 <= len(str(record)) <= len(told["spr"]) + 2


def test_cids_of_each_kind_start_alike() -> None:
    """By which they are told apart when they are read."""
    assert ["zDvZ", "zDxW", "zDzS"] == [str(Cid.of(codec, HELLO))[:4] for codec in (0xCD01, 0xCD02, 0xCD03)]


@given(strategies.text(max_size=60) | strategies.text("z123456789ABCabc", max_size=60).map("z".__add__))
@settings(deadline=None, database=None)
def test_only_cids_are_cids(text: str) -> None:
    """Whatever else is read is none; and one is written as it was read."""
    cid = Cid.parse(text)

    assert cid is None or text.startswith("Qm") or text == str(cid)


@given(
    size=strategies.integers(1, 1 << 40),
    filename=strategies.none() | strategies.text(max_size=20),
    mimetype=strategies.none() | strategies.text(max_size=20),
)
@settings(deadline=None, database=None)
def test_manifests_can_be_read_back(size: int, filename: str | None, mimetype: str | None) -> None:
    """All that they say."""
    manifest = Manifest(Cid.of(0xCD03, HELLO), size, filename, mimetype)

    assert manifest == Manifest.of(manifest.encoded)


def test_a_tree_tells_its_leaves_apart() -> None:
    """Another block, order or count, another root."""
    leaves = [bytes([number]) * 32 for number in range(5)]
    trees = [leaves[:count] for count in range(1, 6)] + [
        leaves[::-1],
        [*leaves[:4], bytes(32)],
        [*leaves[:3], bytes(32)],
    ]

    assert len(trees) == len({root_of(tree) for tree in trees})


def test_every_fault_is_tested() -> None:
    """By its name, above."""
    text = Path(__file__).read_text()

    assert [] == [name for name in KNOWN if f'"{name}' not in text]
