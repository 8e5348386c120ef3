"""Whom a node is connected to, and whom else it can ask."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from codex_double.cids import Cid
from codex_double.discovery import Discovery
from codex_double.exchange import DialFailed, Link, Me
from codex_double.options import Address


class Peers:
    """The peers that a node dialled or that dialled it; and the providers that its discovery finds."""

    def __init__(self, me: Me, discovery: Discovery) -> None:
        self._me, self._discovery = me, discovery
        self._connected: dict[str, Me] = {}
        self._lock = threading.Lock()

    def meet(self, peer: Me) -> None:
        """It dialled this node."""
        with self._lock:
            self._connected[peer.peer] = peer

    def forget(self, peer: str) -> None:
        """It cannot be dialled any more."""
        with self._lock:
            self._connected.pop(peer, None)

    def connected(self) -> list[str]:
        with self._lock:
            return list(self._connected)

    def find(self, peer: str) -> Address | None:
        """Where a peer exchanges blocks; None if nobody knows."""
        contact = self._discovery.find(peer)
        return contact.tcp if contact else None

    def connect(self, peer: str, addresses: Sequence[Address]) -> None:
        """Dial a peer, unless it is connected already. Raises DialFailed."""
        if peer in self._connected:
            return
        failure = DialFailed("no address")
        for address in addresses:
            try:
                with Link(self._me, address, peer) as link:
                    self.meet(Me(peer, address[0], link.peer.port))
                return
            except DialFailed as error:
                failure = error
        raise failure

    def providers(self, cid: Cid) -> dict[str, Address]:
        """Who may have it: providers that discovery knows, and connected peers."""
        with self._lock:
            found = {peer: (me.host, me.port) for peer, me in self._connected.items()}
        found |= {contact.peer: contact.tcp for contact in self._discovery.providers(str(cid))}
        found.pop(self._me.peer, None)
        return found
