"""Waku: nodes of nwaku and of go-waku, two programs of one protocol, which pass messages in one mesh."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any
from urllib.parse import quote

from pytest_codexbench.errors import BadTransfer, NotReady
from pytest_codexbench.matrix import Variant
from pytest_codexbench.plan import Needs
from pytest_codexbench.programs import free_ports, no_program, output_of, program_of, wrong_program
from pytest_codexbench.restapi import Answer, Api
from pytest_codexbench.systems import (
    Arrival,
    Command,
    Contact,
    Driver,
    Fetched,
    Handle,
    Message,
    Place,
    Published,
    Traffic,
    Want,
    unknown_setting,
)

CLUSTER = 2
"""Of all nodes: no public network has this one."""
CONTENT = "/codexbench/1/test/proto"
RELAY = "/vac/waku/relay/2.0.0"
# nwaku's own, and not go-waku's: a message between the two would be taken by one and dropped by the other.
LARGEST = "150KiB"
JOIN_S = 30.0
SETTINGS = ("bin", "image", "shard")
# Where programs listen in a Pod.
TCP, REST, METRICS = 60000, 8645, 8008


def topic(shard: int) -> str:
    """The pubsub topic of a shard."""
    return f"/waku/2/rs/{CLUSTER}/{shard}"


class Waku:
    """What both programs share."""

    name = ""
    programs: tuple[str, ...] = ()
    views = ()
    needs_bootstrap = False
    copies = False
    publishing = "none: it passes messages, and stores no file"
    passes_messages = True

    def wrong(self, variant: Variant) -> str | None:
        """The program, the shard."""
        shard = dict(variant.settings).get("shard", 0)
        if not isinstance(shard, int) or isinstance(shard, bool) or not 0 <= shard < 1024:
            return f"shard = {shard!r}: a whole number from 0 to 1023 is needed"
        return wrong_program(variant) or unknown_setting(variant, SETTINGS)

    def missing(self, variant: Variant) -> str | None:
        """Its program is needed."""
        return None if program_of(variant, self.programs) else no_program(self.name, self.programs)

    def needs(self, variant: Variant) -> Needs:
        """It stores nothing."""
        return Needs(seeder_copies=0, leecher_copies=0, memory=80 << 20, mb_per_s=1)

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """None: nodes are told of each other."""
        return {}

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """What the program says."""
        program = program_of(variant, self.programs)
        return {variant.name: output_of(program, "--version").strip()[:100]} if program else {}

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        raise NotImplementedError


class Gowaku(Waku):
    """Nodes of go-waku."""

    name = "gowaku"
    programs = ("waku",)

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return GowakuNode(place)


class Nwaku(Waku):
    """Nodes of nwaku."""

    name = "nwaku"
    programs = ("wakunode2", "wakunode")

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return NwakuNode(place)


class WakuNode:
    """Drives one node through its REST API, where both programs answer alike; what they do not is in the children."""

    system: type[Waku]
    views = ()

    def __init__(self, place: Place) -> None:
        self.place = place
        # a program that others started has the usual ports
        self._tcp, self._metrics = place.ports.get("tcp", TCP), place.ports.get("metrics", METRICS)
        self._api = Api(f"http://{place.address}:{place.ports.get('rest', REST)}")
        self._versions: Mapping[str, str] = {}
        self._subscribed: set[int] = set()

    @property
    def shard(self) -> int:
        """The one that it is started on."""
        return int(self.place.settings.get("shard", 0))

    @property
    def metrics_url(self) -> str | None:
        """Where the node tells metrics of its own."""
        return f"http://{self.place.address}:{self._metrics}/metrics"

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """A relay with its REST API, on its own shard, told of nobody."""
        settings = tuple(sorted(self.place.settings.items()))
        program = program_of(Variant(self.system.name, self.system.name, settings), self.system.programs)
        if program is None:
            raise NotReady(no_program(self.system.name, self.system.programs))
        self._tcp, rest, self._metrics = free_ports(self.place.address, SOCK_STREAM, SOCK_STREAM, SOCK_STREAM)
        self._api = Api(f"http://{self.place.address}:{rest}")
        key = hashlib.sha256(f"{self.place.token} {self.place.name}".encode()).hexdigest()
        return Command((program, *self.arguments(key, self._tcp, rest, self._metrics)))

    def arguments(self, key: str, tcp: int, rest: int, metrics: int) -> list[str]:
        """The program's own, for a node with that key at those ports."""
        raise NotImplementedError

    def _served(self, rest: int, metrics: int) -> list[str]:
        """What both have alike: where they answer, and that all peers of one address are taken, and not just five."""
        return [
            "--rest=true",
            f"--rest-address={self.place.address}",
            f"--rest-port={rest}",
            "--rest-admin=true",
            "--metrics-server=true",
            f"--metrics-server-address={self.place.address}",
            f"--metrics-server-port={metrics}",
            "--ip-colocation-limit=0",
        ]

    def ready(self) -> Contact | None:
        """Ready when it tells who it is, and has subscribed to its shard."""
        try:
            told = self._api.ask("GET", "/debug/v1/info", timeout_s=5)
            self.subscribe(self.shard)
        except BadTransfer:
            return None
        peer = _peer(told)
        if not peer:
            return None
        version = self._api.ask("GET", "/debug/v1/version").text.strip('"')
        self._versions = {self.system.name: version if version.strip("-") else "not told"}
        reach = f"/ip4/{self.place.address}/tcp/{self._tcp}/p2p/{peer}"
        return {"name": self.place.name, "address": self.place.address, "peer": peer, "reach": reach}

    def contact_at(self, address: str) -> Contact | None:
        """Who is at an address, if its node answers at the usual ports; None while it does not."""
        try:
            told = Api(f"http://{address}:{REST}").ask("GET", "/debug/v1/info", timeout_s=5)
        except BadTransfer:
            return None
        peer = _peer(told)
        reach = f"/ip4/{address}/tcp/{TCP}/p2p/{peer}"
        return {"name": address, "address": address, "peer": peer, "reach": reach} if peer else None

    def versions(self) -> Mapping[str, str]:
        """As the running node tells it."""
        return self._versions

    def join(self, others: Sequence[Contact]) -> None:
        """Connect to each of those that have the greater id: so each pair connects once, whoever is asked."""
        own = self.ready()
        if own is None:
            raise BadTransfer(f"{self.place.name} does not tell who it is")
        for other in others:
            if other["peer"] > own["peer"]:
                self._meet(other["reach"])

    def _meet(self, reach: str) -> None:
        """Once their REST API is up this is sure; their own command lines race with each other."""
        body = json.dumps(self.meeting(reach)).encode()
        self._api.ask("POST", "/admin/v1/peers", timeout_s=JOIN_S, headers=JSON, body=body)

    def meeting(self, reach: str) -> object:
        """What it wants to be told of a peer."""
        raise NotImplementedError

    def subscribe(self, shard: int) -> None:
        """Take part in a shard; once, since go-waku gives each message once for every subscription."""
        if shard not in self._subscribed:
            body = json.dumps([topic(shard)]).encode()
            self._api.ask("POST", "/relay/v1/subscriptions", headers=JSON, body=body)
            self._subscribed.add(shard)

    def peers(self) -> int:
        """How many nodes it is connected to."""
        answer = self._api.ask("GET", "/admin/v1/peers")
        told = answer.json() or []
        return sum(1 for one in told if isinstance(one, dict) and self.connected(one))

    def connected(self, peer: Mapping[str, Any]) -> bool:
        """Whether it is connected to a peer that it tells of."""
        raise NotImplementedError

    def send(self, payload: bytes, shard: int) -> int:
        """Publish a message: the moment before, in nanoseconds since 1970 by this host's clock."""
        body = {"payload": base64.b64encode(payload).decode(), "contentTopic": CONTENT, "timestamp": time.time_ns()}
        text, moment = json.dumps(body).encode(), time.time_ns()
        self._api.ask("POST", _messages(shard), headers=JSON, body=text)
        return moment

    def receive(self, shard: int) -> list[Message]:
        """What came since it was asked last, on a shard that it takes part in; its own messages too."""
        answer = self._api.ask("GET", _messages(shard))
        now = time.time_ns()
        return [Message(payload, now) for payload in _payloads(answer)]

    def publish(self, file: Path, deadline_s: float) -> Published:
        """Not of a network of messages."""
        raise BadTransfer(f"{self.system.name} passes messages, and stores no file")

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """Not of a network of messages."""
        raise BadTransfer(f"{self.system.name} passes messages, and stores no file")

    def delete(self, handle: Handle) -> None:
        """There is nothing to forget."""

    def holds(self, handle: Handle | None) -> bool:
        """It stores no file."""
        return False

    def traffic(self) -> Traffic:
        """It does not tell bytes of payload."""
        return Traffic()


JSON = {"Content-Type": "application/json"}


def _peer(told: Answer) -> str:
    """The node's id: both programs write other addresses than those they were given, but their id is in each."""
    addresses = told.at("listenAddresses", kind=list)
    return next((str(one).rpartition("/p2p/")[2] for one in addresses if "/p2p/" in str(one)), "")


def _messages(shard: int) -> str:
    return f"/relay/v1/messages/{quote(topic(shard), safe='')}"


def _payloads(answer: Answer) -> list[bytes]:
    told = answer.json() or []  # an empty go-waku answers null
    try:
        return [base64.b64decode(one["payload"], validate=True) for one in told]
    except (TypeError, LookupError, binascii.Error) as error:
        raise BadTransfer(f"{answer.request}: not a list of messages: {type(error).__name__}: {error}") from error


class NwakuNode(WakuNode):
    """A node of nwaku."""

    system = Nwaku

    def arguments(self, key: str, tcp: int, rest: int, metrics: int) -> list[str]:
        """As its own --help has them, each with =; a blank instead ends it."""
        address = self.place.address
        return [
            f"--nodekey={key}",
            f"--listen-address={address}",
            f"--nat=extip:{address}",
            f"--tcp-port={tcp}",
            f"--cluster-id={CLUSTER}",
            "--num-shards-in-network=0",
            f"--shard={self.shard}",
            "--relay=true",
            *self._served(rest, metrics),
            "--discv5-discovery=false",
            "--rendezvous=false",
        ]

    def meeting(self, reach: str) -> object:
        """A list of addresses."""
        return [reach]

    def connected(self, peer: Mapping[str, Any]) -> bool:
        """In a word of its own."""
        return peer.get("connected") == "Connected"


class GowakuNode(WakuNode):
    """A node of go-waku."""

    system = Gowaku

    def arguments(self, key: str, tcp: int, rest: int, metrics: int) -> list[str]:
        """It panics on some of nwaku's."""
        address = self.place.address
        return [
            f"--nodekey={key}",
            f"--listen-address={address}",
            f"--tcp-port={tcp}",
            f"--cluster-id={CLUSTER}",
            f"--pubsub-topic={topic(self.shard)}",
            *self._served(rest, metrics),
            "--log-encoding=nocolor",
            f"--max-msg-size={LARGEST}",
        ]

    def meeting(self, reach: str) -> object:
        """An address, with what it is for."""
        return {"multiaddr": reach, "shards": [self.shard], "protocols": [RELAY]}

    def connected(self, peer: Mapping[str, Any]) -> bool:
        """Whether it says so."""
        return peer.get("connected") is True
