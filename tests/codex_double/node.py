"""One node, put together."""

from __future__ import annotations

import socket
from typing import Any

from codex_double.discovery import Contact, Discovery, Limits
from codex_double.downloads import Downloads
from codex_double.exchange import Me, Server
from codex_double.faults import Faults
from codex_double.fetching import Fetches
from codex_double.flavours import Flavour
from codex_double.httpserver import listen
from codex_double.identity import Identity, Record
from codex_double.log import Log
from codex_double.metrics import Metrics
from codex_double.options import Options
from codex_double.peers import Peers
from codex_double.store import Store


class Node:
    """What it is, holds and fetches. Raises OSError if an address is in use."""

    def __init__(self, flavour: Flavour, options: Options, faults: Faults, log: Log) -> None:
        self.flavour, self.options, self.faults, self.log = flavour, options, faults, log
        self.identity = Identity.kept(options.data / options.key)
        self.peer = self.identity.peer
        self.record = Record.new(self.peer, options.reached, options.discovery)
        self.store = Store(options.data / "repo", options.quota)
        self.metrics = Metrics(flavour)
        listener = listen(options.listen)
        self._listening: int = listener.getsockname()[1]
        self.peers, self._server = self._swarm(listener)
        self.fetches = Fetches(self.store, self._me, self.peers, log)
        self.downloads = Downloads(self.fetches)

    @property
    def _me(self) -> Me:
        return Me(self.peer, self.options.reached, self._listening)

    def _swarm(self, listener: socket.socket) -> tuple[Peers, Server]:
        options = self.options
        own = Contact(self.peer, options.reached, options.discovery, self._listening)
        limits = Limits(options.table_limit, options.bucket_limit)
        self.discovery = Discovery(own, options.bootstrap, limits, self.store.served)
        peers = Peers(self._me, self.discovery)
        return peers, Server(listener, self._me, self.store, peers.meet)

    def start(self) -> None:
        """Join the others, and serve them."""
        self._server.start()
        self.discovery.start()
        word = self.flavour.word
        short = f"{self.peer[:3]}*{self.peer[-6:]}"
        self.log.notice(f"Started {word} node", topics=f"{word} node", id=short, addrs=f"@[{self._addresses()[0]}]")

    def changed(self) -> None:
        """It holds other datasets than before."""
        self.discovery.changed()

    def _addresses(self) -> list[str]:
        return [f"/ip4/{self.options.listen[0]}/tcp/{self._listening}"]

    def counts(self) -> dict[str, float]:
        """What it counts, by the names of its metrics."""
        space, traffic = self.store.space(), self.discovery.traffic
        counts: dict[str, float] = {
            "block_exchange_blocks_sent_total": self._server.sent["blocks"],
            "block_exchange_blocks_received_total": self.fetches.received["blocks"],
            "repostore_blocks": space.blocks,
            "repostore_bytes_used": space.used,
            "api_uploads_total": self.metrics.done["uploads"],
            "api_downloads_total": self.metrics.done["downloads"],
            "dht_routing_table_nodes": len(self.discovery.table.nodes()),
        }
        return counts | {
            f"dht_transport_{way}_{unit}_total": traffic[f"{way}_{unit}"]
            for way in ("tx", "rx")
            for unit in ("packets", "bytes")
        }

    def info(self) -> dict[str, Any]:
        """The answer to ``debug/info``."""
        return self._second_info() if self.flavour.second else self._first_info()

    def _first_info(self) -> dict[str, Any]:
        local = self._described(self.discovery.own, "0.0.0.0") | {"seen": False}  # noqa: S104 - as recorded
        nodes = [self._described(contact, contact.host) | {"seen": True} for contact in self.discovery.table.nodes()]
        flavour = self.flavour
        return {
            "id": self.peer,
            "addrs": self._addresses(),
            "repo": str(self.options.data),
            "spr": str(self.record),
            "announceAddresses": [f"/ip4/{self.options.reached}/tcp/{self._listening}"],
            "table": {"localNode": local, "nodes": nodes},
            flavour.word: {
                "version": flavour.version,
                "revision": flavour.revision,
                "contracts": flavour.contracts,
            },
        }

    def _described(self, contact: Contact, host: str) -> dict[str, Any]:
        place = f"/ip4/{contact.host}/udp/{contact.discovery}"
        return {
            "nodeId": contact.node_id,
            "peerId": contact.peer,
            "record": f"(data: (peerId: {contact.peer}, addresses: @[(address: {place})]))",
            "address": f"{host}:{contact.discovery}",
        }

    def _second_info(self) -> dict[str, Any]:
        table, flavour = self.discovery.table, self.flavour
        nodes = [
            {
                "peerId": contact.peer,
                "addresses": [f"/ip4/{contact.host}/udp/{contact.discovery}"],
                "lastSeen": table.seen[contact.peer],
            }
            for contact in table.nodes()
        ]
        own = {"peerId": self.peer, "addresses": [f"/ip4/{self.options.reached}/udp/{self.options.discovery}"]}
        mapping = "none" if self.options.external is None else "direct"
        return {
            "id": self.peer,
            "addrs": self._addresses(),
            "spr": str(self.record),
            "libp2pPubKey": self.identity.public_key.hex(),
            "table": {"localNode": own, "nodes": nodes},
            flavour.word: {"version": flavour.version, "revision": flavour.revision},
            "nat": {
                "reachability": "Reachable" if self.options.external else "Unknown",
                "clientMode": False,
                "relayRunning": False,
                "portMapping": mapping,
            },
            "connections": [{"peerId": peer, "direct": True} for peer in self.peers.connected()],
        }
