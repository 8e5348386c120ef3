"""Networks of messages: what both programs of Waku were recorded to answer, and what a real one does."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_codexbench.backends.local import Local
from pytest_codexbench.deployments import Wish, awaited_mesh, checked, deployed, measures, spread
from pytest_codexbench.errors import BadTransfer, WrongInput
from pytest_codexbench.matrix import Variant
from pytest_codexbench.records import Delivery
from pytest_codexbench.systems import Messenger, Place, find
from pytest_codexbench.systems.waku import GowakuNode, NwakuNode, WakuNode, topic

RECORDINGS = Path(__file__).parent / "waku_recordings"
KINDS: dict[str, type[WakuNode]] = {"gowaku": GowakuNode, "nwaku": NwakuNode}
GOWAKU = Variant("gowaku", "gowaku")
real = pytest.mark.skipif(shutil.which("waku") is None, reason="no `waku` on PATH (.ci/gowaku/build makes one)")


def recorded(kind: str) -> dict[str, Any]:
    """Requests and answers of a real node, by what they are about."""
    found: dict[str, Any] = json.loads((RECORDINGS / f"{kind}.json").read_text())
    return found


@dataclass
class Replay:
    """A server that answers each request as a real node was recorded to answer it, and keeps what it was asked."""

    kind: str
    answers: dict[tuple[str, str], dict[str, Any]]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0


@pytest.fixture(params=list(KINDS))
def replay(request: pytest.FixtureRequest) -> Iterator[Replay]:
    """One for each of the two programs."""
    found = recorded(request.param)
    told = Replay(request.param, {})
    for name in ("info", "version", "peers", "meet", "subscribe", "publish", "messages"):
        one = found[name]
        told.answers[one["request"]["method"], one["request"]["path"]] = one["response"]

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            told.asked.append((self.command, self.path, body))
            response = told.answers.get(
                (self.command, self.path), {"status": 404, "type": "text/plain", "body": "none"}
            )
            self.send_response(response["status"])
            self.send_header("Content-Type", response["type"])
            self.send_header("Content-Length", str(len(response["body"].encode())))
            self.end_headers()
            self.wfile.write(response["body"].encode())

        do_GET = do_POST = answer  # noqa: N815 - the names that are called

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


def node_of(replay: Replay, tmp_path: Path) -> WakuNode:
    """The driver of a node that others started, which answers as was recorded."""
    place = Place("n00", "127.0.0.1", tmp_path, "token", ports={"rest": replay.port, "tcp": 60000, "metrics": 1})
    return KINDS[replay.kind](place)


def test_a_node_is_known_by_its_id_and_the_address_it_was_given(replay: Replay, tmp_path: Path) -> None:
    """Of the addresses that it writes itself the id alone is taken."""
    told = recorded(replay.kind)["info"]["response"]["body"]
    contact = node_of(replay, tmp_path).ready()

    assert contact is not None
    assert contact["peer"] in told
    assert f"/ip4/127.0.0.1/tcp/60000/p2p/{contact['peer']}" == contact["reach"]


def test_every_request_is_one_that_was_answered(replay: Replay, tmp_path: Path) -> None:
    """Paths, and the bodies' shapes, are those of the recorded requests that a real node took."""
    node, found = node_of(replay, tmp_path), recorded(replay.kind)
    assert node.ready() is not None
    node.join([{"name": "n01", "address": "10.0.0.2", "peer": "~", "reach": "/ip4/10.0.0.2/tcp/60000/p2p/~"}])
    node.send(b"full", 0)
    (message,) = node.receive(0)

    assert [] == [one for one in replay.asked if one[:2] not in replay.answers]
    bodies = {path: json.loads(body) for method, path, body in replay.asked if method == "POST"}
    for name in ("meet", "subscribe", "publish"):
        request = found[name]["request"]
        ours, theirs = bodies[request["path"]], json.loads(request["body"])
        assert type(theirs) is type(ours)
        if isinstance(theirs, dict):
            assert set(ours) <= set(theirs)
            assert {key: type(theirs[key]) for key in ours} == {key: type(value) for key, value in ours.items()}
    assert b"full" == message.payload
    assert isinstance(node, Messenger)


def test_an_empty_inbox_is_no_error(replay: Replay, tmp_path: Path) -> None:
    """One program says [], the other null."""
    drained = recorded(replay.kind)["drained"]
    replay.answers["GET", drained["request"]["path"]] = drained["response"]

    assert [] == node_of(replay, tmp_path).receive(0)


def test_a_shard_that_it_does_not_take_part_in_is_an_error(replay: Replay, tmp_path: Path) -> None:
    """Both answer 404, and the driver says so."""
    other = recorded(replay.kind)["other-shard"]
    replay.answers["GET", other["request"]["path"]] = other["response"]

    with pytest.raises(BadTransfer, match="status 404"):
        node_of(replay, tmp_path).receive(1)


def test_peers_are_counted_where_they_are_connected(replay: Replay, tmp_path: Path) -> None:
    """In each program's own words: three of a mesh of four."""
    assert 3 == node_of(replay, tmp_path).peers()


@pytest.mark.parametrize("answer", ["{}", "[1]", '[{"payload": "%"}]', "<html>", '[{"nothing": ""}]'])
def test_garbage_instead_of_messages_is_told_as_such(replay: Replay, tmp_path: Path, answer: str) -> None:
    """An error that names the request, and no traceback of ours; an empty object is an empty inbox."""
    path = recorded(replay.kind)["messages"]["request"]["path"]
    replay.answers["GET", path] = {"status": 200, "type": "application/json", "body": answer}
    if answer == "{}":
        assert [] == node_of(replay, tmp_path).receive(0)
    else:
        with pytest.raises(BadTransfer, match="/relay/v1/messages/"):
            node_of(replay, tmp_path).receive(0)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_are_started_with_arguments_that_they_have(kind: str, tmp_path: Path) -> None:
    """Each is in the program's own help, and written with `=`, which nwaku insists on."""
    known = set(re.findall(r"--([a-z0-9-]+)", (RECORDINGS / f"{kind}-help.txt").read_text()))
    node = KINDS[kind](Place("n00", "127.0.0.1", tmp_path, "token", settings={"shard": 3}))
    given = node.arguments("ab" * 32, 1, 2, 3)

    assert [] == [one for one in given if not re.fullmatch(r"--[a-z0-9-]+=\S+", one)]
    assert {one[2:].partition("=")[0] for one in given} <= known
    assert any("3" in one for one in given if "shard" in one or "topic" in one)
    assert "--nat=none" not in given


def test_no_public_network_has_the_cluster() -> None:
    """The topics are those of cluster 2."""
    assert "/waku/2/rs/2/5" == topic(5)


@pytest.mark.parametrize("shard", ["1", True, -1, 1024, 0.5])
def test_a_wrong_shard_is_refused(shard: Any) -> None:
    """With what would be right."""
    told = find("nwaku").wrong(Variant("nwaku", "nwaku", (("shard", shard),)))

    assert told is not None
    assert "from 0 to 1023" in told


@pytest.mark.parametrize(
    "wishes, says",
    [
        ([], "asks for them: deployments.want"),
        ([Wish("a", GOWAKU, 2), Wish("a", GOWAKU, 2)], "asked for twice"),
        ([Wish("a", GOWAKU, 2, meets="b")], "not one of those before it"),
        ([Wish("a", GOWAKU, 2, meets="a")], "not one of those before it"),
    ],
)
def test_wishes_that_cannot_be_are_refused(wishes: list[Wish], says: str) -> None:
    """Before anything is brought up."""
    with pytest.raises(WrongInput, match=says):
        checked(wishes)


def test_measures_of_deliveries() -> None:
    """The ratio is over all receivers; latencies are of those that arrived; copies beyond the first are counted."""
    told = measures([Delivery("a", 1, 0.1), Delivery("b", 3, 0.3), Delivery("c"), Delivery("d", error="x")])

    assert {"delivery_ratio": 0.5, "extra_copies": 2.0, "latency_s": 0.2, "latency_max_s": 0.3} == told
    assert 0.0 == measures([])["delivery_ratio"]


@real
def test_two_deployments_are_one_mesh_and_a_third_is_not(tmp_path: Path) -> None:
    """On real nodes: what one sends all others of its mesh see once, and the unrelated deployment sees nothing."""
    wishes = [Wish("near", GOWAKU, 2), Wish("far", GOWAKU, 2, meets="near"), Wish("away", GOWAKU, 2)]
    with deployed(Local(tmp_path), wishes, lambda text: None, 10**6) as up:
        nodes = [*up["near"].nodes, *up["far"].nodes]
        awaited_mesh(nodes)
        told = spread(nodes[0], nodes, secrets.token_bytes(100), deadline_s=20, linger_s=0.3)
        peers = [node.peers() for node in nodes]
        away = spread(nodes[0], [nodes[0], *up["away"].nodes], secrets.token_bytes(100), deadline_s=2)

    assert [1, 1, 1] == [one.copies for one in told]
    assert all(one.latency_s is not None and 0 < one.latency_s < 20 for one in told)
    assert [3, 3, 3, 3] == peers
    assert [0, 0] == [one.copies for one in away]
