"""IPFS: Kubo nodes in a private swarm."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any
from urllib.parse import quote

from pytest_codexbench.errors import AgentError, BadTransfer, NotReady
from pytest_codexbench.httpbody import read_body
from pytest_codexbench.matrix import Variant
from pytest_codexbench.payload import Hasher
from pytest_codexbench.plan import Needs
from pytest_codexbench.programs import free_ports, no_program, output_of, program_of, wrong_program
from pytest_codexbench.restapi import Api, Upload
from pytest_codexbench.systems import (
    CONTIGUOUS,
    Arrival,
    Command,
    Contact,
    Driver,
    Fetched,
    Handle,
    Place,
    Published,
    Traffic,
    Want,
    unknown_setting,
)

PROGRAMS = ("ipfs",)
INIT_S, JOIN_S, FREED_S = 60.0, 60.0, 120.0
# Kubo's own defaults, said aloud: another program's or another year's would give other CIDs and other speeds.
ADD = "/add?cid-version=1&raw-leaves=true&chunker=size-262144&hash=sha2-256&pin=true&progress=false"
BOUNDARY = "codexbench-7d1f8a9c55e04b21"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="codexbench.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
# Nothing of it may leave the swarm, and no other network may be asked for anything.
ENVIRONMENT = {"LIBP2P_FORCE_PNET": "1", "IPFS_TELEMETRY": "off", "GOLOG_LOG_LEVEL": "error"}


class Ipfs:
    """Private swarms of Kubo nodes, each connected to all others; variants differ in ``bin``."""

    name = "ipfs"
    views = (CONTIGUOUS,)
    needs_bootstrap = False
    copies = True
    publishing = "POST of the file to its node (add, pinned), until the answer with its CID"

    def wrong(self, variant: Variant) -> str | None:
        """The program."""
        return wrong_program(variant) or unknown_setting(variant, ("bin", "image"))

    def missing(self, variant: Variant) -> str | None:
        """Kubo's program is needed."""
        program = program_of(variant, PROGRAMS)
        if program is None:
            return no_program(self.name, PROGRAMS)
        return None if _version(program) else f"{program} is no Kubo: it does not answer to `version --number`"

    def needs(self, variant: Variant) -> Needs:
        """The seeder's file and its node's blocks; the leecher's blocks."""
        return Needs(seeder_copies=2.01, leecher_copies=1.01, memory=300 << 20, mb_per_s=80)

    def services(self, variant: Variant) -> Mapping[str, Command]:
        """None: no DHT, so no provider is to be found by one."""
        return {}

    def versions(self, variant: Variant) -> Mapping[str, str]:
        """What the program says."""
        return {variant.name: f"kubo {_version(program_of(variant, PROGRAMS) or '')}"}

    def driver(self, place: Place) -> Driver:
        """The driver of one node."""
        return IpfsNode(place)


class IpfsNode:
    """Drives one Kubo node through its RPC API."""

    views = (CONTIGUOUS,)

    def __init__(self, place: Place) -> None:
        self.place = place
        # a program that others started is asked at the Pod's own loopback address
        self._api = Api(f"http://127.0.0.1:{place.ports.get('api')}/api/v0")
        self._empty: int | None = None
        self._ports: Sequence[int] = ()
        self._versions: Mapping[str, str] = {}

    def command(self, bootstrap: Sequence[Contact]) -> Command:
        """A daemon over a fresh repository that is set up for a private swarm; started again, over the one it had."""
        program = program_of(Variant("ipfs", "ipfs", tuple(self.place.settings.items())), PROGRAMS)
        if program is None:
            raise NotReady(no_program("ipfs", PROGRAMS))
        # where others know it
        self._ports = self._ports or free_ports(self.place.address, SOCK_STREAM, SOCK_STREAM)
        swarm, api = self._ports
        self._api = Api(f"http://{self.place.address}:{api}/api/v0")
        repository = self.place.data / "ipfs"
        env = {**ENVIRONMENT, "IPFS_PATH": str(repository)}
        config = repository / "config"
        if not config.exists():
            _initialise(program, repository, env)
        else:
            (repository / "repo.lock").unlink(missing_ok=True)  # of a daemon that was killed
        config.write_text(json.dumps(_private(json.loads(config.read_text()), self.place, swarm, api)))
        # nodes of another cluster, however near, have another key
        key = hashlib.sha256(self.place.token.encode()).hexdigest()
        (repository / "swarm.key").write_text(f"/key/swarm/psk/1.0.0/\n/base16/\n{key}\n")
        return Command((program, "daemon", "--migrate=false"), env)

    @property
    def metrics_url(self) -> str | None:
        """Where the node tells metrics of its own."""
        return self._api.base.removesuffix("/api/v0") + "/debug/metrics/prometheus"

    def ready(self) -> Contact | None:
        """Ready when it tells who it is."""
        try:
            told = self._api.ask("POST", "/id", timeout_s=5)
        except BadTransfer as error:
            raise AgentError(str(error)) from error
        reach = [str(address) for address in told.at("Addresses", kind=list) if f"/{self.place.address}/" in address]
        if not reach:
            return None
        self._versions = {"ipfs": f"kubo {self._api.ask('POST', '/version').at('Version')}"}
        if self._empty is None:
            self._empty = self._blocks()
        return {"name": self.place.name, "address": self.place.address, "peer": told.at("ID"), "reach": reach[0]}

    def versions(self) -> Mapping[str, str]:
        """As the running node tells it."""
        return self._versions

    def join(self, others: Sequence[Contact]) -> None:
        """Connect to those whose names come before its own: so each pair connects once."""
        earlier = [other for other in others if other["name"] < self.place.name]
        if earlier:
            peers = "&".join(f"arg={quote(other['reach'])}" for other in earlier)
            self._api.ask("POST", f"/swarm/connect?{peers}", timeout_s=JOIN_S)

    def publish(self, file: Path, deadline_s: float) -> Published:
        """Add the file, streamed from the disk."""
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        answer, seconds = self._api.send(ADD, Upload(file, headers, HEAD, TAIL), deadline_s)
        return Published(Handle(answer.at("Hash")), seconds)

    def fetch(self, want: Want) -> Generator[Arrival, None, Fetched]:
        """What a reader of the file sees, in order; the digest is of what came."""
        hasher, got = Hasher(), 0
        url = f"{self._api.base}/cat?arg={want.handle.id}"
        for t_ns, piece in read_body(url, want.size, want.deadline_ns, method="POST"):
            got += len(piece)
            yield Arrival(t_ns, got, {CONTIGUOUS: got})
            hasher.update(piece)
        return Fetched(digest=hasher.hexdigest())

    def delete(self, handle: Handle) -> None:
        """Unpin it, and collect all that is not pinned."""
        deadline_s = FREED_S + self.place.largest / 50e6
        self._api.ask("POST", f"/pin/rm?arg={handle.id}", (200, 500))  # 500: it only fetched it, and pinned nothing
        self._api.ask("POST", "/repo/gc?silent=true", timeout_s=deadline_s)

    def holds(self, handle: Handle | None) -> bool:
        """Whether there are more blocks than in a fresh repository."""
        return self._blocks() > (self._empty or 0)

    def _blocks(self) -> int:
        blocks: int = self._api.ask("POST", "/repo/stat").at("NumObjects", kind=int)
        return blocks

    def traffic(self) -> Traffic:
        """Bytes of the blocks that Bitswap exchanged."""
        told: Mapping[str, Any] = self._api.ask("POST", "/bitswap/stat").json()
        more = {key: float(value) for key, value in told.items() if isinstance(value, int)}
        return Traffic(told.get("DataReceived"), told.get("DataSent"), more)


def _version(program: str) -> str:
    return output_of(program, "version", "--number").strip() if program else ""


def _initialise(program: str, repository: Path, env: Mapping[str, str]) -> None:
    """Make a fresh repository.

    Raises:
        NotReady: with what the program says of it.
    """
    try:
        run = subprocess.run(
            [program, "init", "--empty-repo"],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotReady(f"{program} init in {repository}: {error}") from error
    if run.returncode != 0:
        raise NotReady(
            f"{program} init in {repository}: status {run.returncode}: {run.stdout.decode(errors='replace')}"
        )


def _private(config: dict[str, Any], place: Place, swarm: int, api: int) -> dict[str, Any]:
    """Kubo's own configuration, but for what reaches beyond the swarm or would be chosen by chance."""
    off = {"Enabled": False}
    return {
        **config,
        "Addresses": {
            **config["Addresses"],
            "Swarm": [f"/ip4/{place.address}/tcp/{swarm}"],
            "API": f"/ip4/{place.address}/tcp/{api}",
            "Gateway": [],
        },
        "AutoConf": off,
        "AutoNAT": {"ServiceMode": "disabled"},
        "AutoTLS": off,
        "Bootstrap": [],
        "DNS": {"Resolvers": {}},
        "Datastore": {**config["Datastore"], "StorageMax": f"{2 * place.largest + (64 << 20)}B"},
        "Discovery": {"MDNS": off},
        "HTTPRetrieval": off,
        "Ipns": {**config["Ipns"], "DelegatedPublishers": []},
        "Provide": {"Enabled": False},
        "Routing": {"Type": "none", "DelegatedRouters": []},
        "Swarm": {
            **config["Swarm"],
            "DisableNatPortMap": True,
            "RelayClient": off,
            "RelayService": off,
            # in a private network there is nothing but TCP
            "Transports": {**config["Swarm"]["Transports"], "Network": {"QUIC": False, "Websocket": False}},
        },
    }
