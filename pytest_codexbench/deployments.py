"""Several unrelated deployments in one test: declared, brought up, wired to each other, measured."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from pytest_codexbench.agent.client import Node
from pytest_codexbench.backends import Backend, Cluster
from pytest_codexbench.errors import BenchError, NotReady, WrongInput
from pytest_codexbench.matrix import Shape, Variant
from pytest_codexbench.records import Delivery
from pytest_codexbench.together import each

MESH_S = 90.0
LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Wish:
    """One deployment that a test asks for; with ``meets``, in the network of another one, whose nodes it is told of."""

    name: str
    variant: Variant
    nodes: int
    meets: str = ""

    @property
    def shape(self) -> Shape:
        """The shape of its cluster."""
        return Shape(self.variant, self.nodes, None)


def checked(wishes: Sequence[Wish]) -> Sequence[Wish]:
    """The wishes of one test.

    Raises:
        WrongInput: if there are none, if two have one name, or if one meets what was not asked for before it.
    """
    names: list[str] = []
    if not wishes:
        raise WrongInput(
            'a test with the fixture `deployments` asks for them: deployments.want("near", "gowaku", nodes=2)'
        )
    for wish in wishes:
        if wish.name in names:
            raise WrongInput(f"deployment {wish.name!r} is asked for twice")
        if wish.meets and wish.meets not in names:
            raise WrongInput(f"deployment {wish.name!r} meets {wish.meets!r}, which is not one of those before it")
        names.append(wish.name)
    return wishes


@dataclass(frozen=True, slots=True)
class Deployment:
    """One that is up."""

    wish: Wish
    cluster: Cluster = field(repr=False)

    @property
    def nodes(self) -> Sequence[Node]:
        """Its nodes."""
        return self.cluster.nodes


@contextmanager
def deployed(
    backend: Backend, wishes: Sequence[Wish], say: Callable[[str], None], largest: int
) -> Iterator[Mapping[str, Deployment]]:
    """All of them, up and wired, for as long as the block lasts.

    Raises:
        NotReady: if one does not come up, or those that are to meet do not.
    """
    groups: list[list[Wish]] = []
    for wish in checked(wishes):
        group = next((group for group in groups if wish.meets in [one.name for one in group]), None)
        groups.append([wish]) if group is None else group.append(wish)
    up: dict[str, Deployment] = {}
    with ExitStack() as stack:
        for group in groups:
            clusters = stack.enter_context(backend.clusters([wish.shape for wish in group], say, largest))
            up |= {wish.name: Deployment(wish, cluster) for wish, cluster in zip(group, clusters, strict=True)}
        for wish in wishes:
            if wish.meets:
                _meet(up[wish.name], up[wish.meets])
        yield up


def _meet(one: Deployment, other: Deployment) -> None:
    """Each node of one knows all nodes of the other, and the other way round: who connects, they agree on."""
    for here, there in ((one, other), (other, one)):
        contacts = [node.contact for node in there.nodes]
        each(here.nodes, lambda node, contacts=contacts: node.join(contacts))  # type: ignore[misc]  # a default of a lambda


def awaited_mesh(nodes: Sequence[Node], shard: int = 0, within_s: float = MESH_S) -> float:
    """Wait until a message from each node reaches all others: the only sign of readiness that all programs share.

    Returns:
        The seconds that it took.

    Raises:
        NotReady: naming a node that was not reached in time, and by whom.
    """
    begun = time.monotonic()
    for sender in nodes:
        while True:
            told = spread(sender, nodes, secrets.token_bytes(16), shard, min(2.0, within_s))
            lost = [delivery.node for delivery in told if not delivery.copies]
            if not lost:
                break
            if time.monotonic() - begun > within_s:
                raise NotReady(f"a message from {sender.name} did not reach {', '.join(lost)} within {within_s:g} s")
            time.sleep(LOOK_S)
    return time.monotonic() - begun


def spread(
    sender: Node, nodes: Sequence[Node], payload: bytes, shard: int = 0, deadline_s: float = 10.0, linger_s: float = 0.0
) -> list[Delivery]:
    """Send one message; what each of the other nodes saw of it before the deadline.

    Every receiver looks for it every few milliseconds, and each copy that it sees counts: ``linger_s`` is how long it
    goes on looking after the first one. The latency is from the moment before the publish to the moment at which the
    receiver's agent has it, by the clocks of their hosts.
    """
    others = [node for node in nodes if node is not sender]
    sent: dict[str, int] = {}

    def act(node: Node) -> Delivery:
        if node is sender:
            try:
                sent["ns"] = node.send(payload, shard)
            except BenchError as error:
                return Delivery(node.name, error=str(error))
            return Delivery(node.name)
        try:
            seen = node.receive(payload, shard, deadline_s, linger_s)
        except BenchError as error:
            return Delivery(node.name, error=str(error))
        return Delivery(node.name, copies=len(seen), seen_ns=seen[0] if seen else None)

    told = each([sender, *others], act)
    if told[0].error:
        return [
            Delivery(delivery.node, error=f"{sender.name} could not send: {told[0].error}") for delivery in told[1:]
        ]
    return [delivery.since(sent["ns"]) for delivery in told[1:]]


def wire_bytes(nodes: Sequence[Node]) -> float:
    """All bytes that the links of some nodes have sent since these were started; 0 where nobody counts them."""
    return float(sum(node.counters().wire_tx_bytes or 0 for node in nodes))


def measures(deliveries: Sequence[Delivery]) -> dict[str, float]:
    """Of some deliveries: ``delivery_ratio``, of those that arrived ``latency_s`` (median) and ``latency_max_s``.

    ``extra_copies`` counts what was seen more than once.
    """
    latencies = [delivery.latency_s for delivery in deliveries if delivery.latency_s is not None]
    told = {
        "delivery_ratio": len(latencies) / len(deliveries) if deliveries else 0.0,
        "extra_copies": float(sum(max(0, delivery.copies - 1) for delivery in deliveries)),
    }
    if latencies:
        told |= {"latency_s": statistics.median(latencies), "latency_max_s": max(latencies)}
    return told
