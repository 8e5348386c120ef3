"""How nodes find each other, and who has what: questions and answers in JSON, one a datagram.

Real nodes keep a distributed hash table. Here each node knows all nodes that its bootstrap nodes know, and asks them
all; each answers for itself and for whoever told it what it has.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from codex_double.counts import Counts
from codex_double.identity import Record
from codex_double.options import Address

Message = dict[str, Any]

ANSWER_S, TRIES = 0.25, 3
REFRESH_S, IMPATIENT_S = 5.0, 0.1
AT_ONCE = 100  # CIDs in one datagram


@dataclass(frozen=True)
class Contact:
    """A node, where its discovery answers and where it exchanges blocks."""

    peer: str
    host: str
    discovery: int
    exchange: int
    # another one after a restart
    life: str = ""

    @property
    def udp(self) -> Address:
        return self.host, self.discovery

    @property
    def tcp(self) -> Address:
        return self.host, self.exchange

    @property
    def node_id(self) -> str:
        return sha256(self.peer.encode()).hexdigest()


@dataclass(frozen=True)
class Limits:
    """How many nodes of one address a routing table takes, in all and in a bucket; None for any."""

    table: int | None = None
    bucket: int | None = None


class Table:
    """The nodes that a node knows."""

    def __init__(self, own: Contact, limits: Limits) -> None:
        self._own, self._limits = own, limits
        self._nodes: dict[str, Contact] = {}
        self.seen: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, contact: Contact) -> bool:
        """Take a node in, unless there are too many of its address; whether it is news."""
        with self._lock:
            known = self._nodes.get(contact.peer)
            if contact.peer == self._own.peer or (known is None and not self._room(contact)):
                return False
            self._nodes[contact.peer] = contact
            self.seen[contact.peer] = int(time.time())
            return known != contact

    def _room(self, contact: Contact) -> bool:
        alike = [node for node in self._nodes.values() if node.host == contact.host]
        near = [node for node in alike if self._bucket(node) == self._bucket(contact)]
        table, bucket = self._limits.table, self._limits.bucket
        return (table is None or len(alike) < table) and (bucket is None or len(near) < bucket)

    def _bucket(self, contact: Contact) -> int:
        return (int(self._own.node_id, 16) ^ int(contact.node_id, 16)).bit_length()

    def remove(self, contact: Contact) -> None:
        with self._lock:
            if self._nodes.get(contact.peer) == contact:
                del self._nodes[contact.peer]

    def nodes(self) -> list[Contact]:
        with self._lock:
            return list(self._nodes.values())


class Discovery:
    """Of one node; ``held`` tells what it has."""

    def __init__(self, own: Contact, bootstrap: Sequence[Record], limits: Limits, held: Callable[[], set[str]]) -> None:
        self.own = Contact(own.peer, own.host, own.discovery, own.exchange, secrets.token_hex(4))
        self.table = Table(own, limits)
        self.traffic = Counts()
        self._bootstrap: dict[Address, Contact | None] = {
            (record.host, record.port): None for record in bootstrap if record.peer != own.peer
        }
        # Who should answer at an address: a port may belong to somebody else's node by now.
        self._expected = {(record.host, record.port): record.peer for record in bootstrap}
        self._held = held
        self._provided: dict[str, dict[str, Contact]] = {}
        self._told: dict[tuple[str, str], set[str]] = {}
        self._waiting: dict[str, Callable[[Message], None]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        # All addresses, whatever the flags say: as real nodes do, which is why two on one machine need two ports.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("0.0.0.0", own.discovery))  # noqa: S104

    def start(self) -> None:
        """Answer, join, and tell what is held."""
        for task in (self._listen, self._join):
            threading.Thread(target=task, daemon=True).start()

    def changed(self) -> None:
        """Something else is held now."""
        self._changed.set()

    # --- what it can be asked -----------------------------------------------------------------------------------------

    def providers(self, cid: str) -> list[Contact]:
        """Who has it, says everybody that can be asked."""
        contacts = {contact.peer: contact for contact in self._providers(cid)}
        # asked once: who looks for something looks again
        for answer in self._ask_all({"ask": "providers", "cid": cid}, tries=1):
            for told in answer["contacts"]:
                contacts[told["peer"]] = Contact(**told)
        contacts.pop(self.own.peer, None)
        return list(contacts.values())

    def find(self, peer: str) -> Contact | None:
        """Where a node is; None if nobody knows it."""
        known = {contact.peer: contact for contact in self.table.nodes()}
        if peer not in known:
            for answer in self._ask_all({"ask": "nodes"}):
                known |= {told["peer"]: Contact(**told) for told in answer["contacts"]}
        return known.get(peer)

    def _providers(self, cid: str) -> list[Contact]:
        with self._lock:
            contacts = list(self._provided.get(cid, {}).values())
        return [*contacts, self.own] if cid in self._held() else contacts

    # --- asking -------------------------------------------------------------------------------------------------------

    def _addresses(self) -> list[Address]:
        return list({*self._bootstrap, *(contact.udp for contact in self.table.nodes())})

    def _ask_all(self, message: Message, tries: int = TRIES) -> list[Message]:
        questions = [(address, message) for address in self._addresses()]
        return [answer for answer in self._asked(questions, tries) if answer]

    def _asked(self, questions: Sequence[tuple[Address, Message]], tries: int = TRIES) -> list[Message | None]:
        """The answer to each question, all at the same time; None to those that got none."""
        answers: dict[int, Message] = {}
        every, end = threading.Event(), time.monotonic() + ANSWER_S * tries
        packets = {secrets.token_hex(8): question for question in questions}

        def listener(index: int) -> Callable[[Message], None]:
            def answered(answer: Message) -> None:
                answers[index] = answer
                if len(answers) == len(questions):
                    every.set()

            return answered

        with self._lock:
            self._waiting |= {number: listener(index) for index, number in enumerate(packets)}
        try:
            while questions and time.monotonic() < end and not every.is_set():
                for index, (number, (address, message)) in enumerate(packets.items()):
                    if index not in answers:
                        to = self._expected.get(address)
                        self._send(address, {**message, "id": number, "from": asdict(self.own), "to": to})
                every.wait(ANSWER_S)
        finally:
            with self._lock:
                for number in packets:
                    del self._waiting[number]
        return [answers.get(index) for index in range(len(questions))]

    def _send(self, address: Address, message: Message) -> None:
        packet = json.dumps(message).encode()
        try:
            self._socket.sendto(packet, address)
        except OSError:
            return  # its network may come back
        self.traffic.add(tx_packets=1, tx_bytes=len(packet))

    # --- answering ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            try:
                packet, address = self._socket.recvfrom(65536)
            except OSError:
                continue
            self.traffic.add(rx_packets=1, rx_bytes=len(packet))
            try:
                message = json.loads(packet)
                self._receive(message, address)
            except (ValueError, KeyError, TypeError):
                continue  # not one of ours

    def _receive(self, message: Message, address: Address) -> None:
        if message.get("to") not in (None, self.own.peer):
            return
        if "ask" in message:
            self._send(address, {"id": message["id"], **self._answer(message, Contact(**message["from"]))})
            return
        with self._lock:
            answered = self._waiting.get(message["id"])
        if answered is not None:
            answered(message)

    def _answer(self, message: Message, asker: Contact) -> Message:
        if self.table.add(asker):
            self._expected[asker.udp] = asker.peer
            self.changed()
        match message["ask"]:
            case "providers":
                return _contacts(self._providers(message["cid"]))
            case "provide":
                with self._lock:
                    for cid in message["cids"]:
                        self._provided.setdefault(cid, {})[asker.peer] = asker
                return {}
            case _:
                return _contacts([self.own, *self.table.nodes()])

    # --- joining ------------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        while True:
            self._changed.clear()
            missing = [address for address, contact in self._bootstrap.items() if contact is None]
            self._meet(self._addresses())
            self._tell()
            self._changed.wait(IMPATIENT_S if missing else REFRESH_S)

    def _meet(self, addresses: Sequence[Address]) -> None:
        """Get to know nodes, and those that they know."""
        met: set[Address] = set()
        while fresh := [address for address in addresses if address not in met]:
            met |= set(fresh)
            answers = self._asked([(address, {"ask": "nodes"}) for address in fresh])
            told = []
            for address, answer in zip(fresh, answers, strict=True):
                contacts = [Contact(**each) for each in answer["contacts"]] if answer else []
                self._heard(address, contacts[0] if contacts else None)
                told += [contact for contact in contacts[1:] if contact.peer != self.own.peer]
            self._expected |= {contact.udp: contact.peer for contact in told}
            addresses = [contact.udp for contact in told]

    def _heard(self, address: Address, contact: Contact | None) -> None:
        if address in self._bootstrap:
            self._bootstrap[address] = contact or self._bootstrap[address]
        if contact is not None:
            self.table.add(contact)
            return
        for known in self.table.nodes():
            if known.udp == address:
                self.table.remove(known)

    def _tell(self) -> None:
        """Tell everyone what they have not been told of."""
        held, questions = self._held(), list[tuple[Address, Message]]()
        nodes = self.table.nodes()
        pending = {node: held - self._told.get((node.peer, node.life), set()) for node in nodes}
        for node, cids in pending.items():
            questions += [(node.udp, {"ask": "provide", "cids": part}) for part in _parts(sorted(cids))]
        for (address, message), answer in zip(questions, self._asked(questions), strict=True):
            if answer is not None:
                for node in nodes:
                    if node.udp == address:
                        self._told.setdefault((node.peer, node.life), set()).update(message["cids"])


def _contacts(contacts: Iterable[Contact]) -> Message:
    return {"contacts": [asdict(contact) for contact in contacts]}


def _parts(cids: Sequence[str]) -> list[Sequence[str]]:
    return [cids[at : at + AT_ONCE] for at in range(0, len(cids), AT_ONCE)]
