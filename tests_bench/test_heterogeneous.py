"""Several unrelated deployments in one test: programs in one mesh, swarms side by side, messages with handles."""

from __future__ import annotations

import json
import secrets
import time

import pytest

from pytest_codexbench.agent.client import Node
from pytest_codexbench.deployments import awaited_mesh, measures, spread, wire_bytes
from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.matrix import Variant
from pytest_codexbench.records import Delivery
from pytest_codexbench.staging import Stage, Turn
from pytest_codexbench.systems import Handle
from pytest_codexbench.together import each

OTHER_SHARD = 7
QUIET_S = 3.0
DEADLINE_S = 20.0
PREFIX = b"handle:"


@pytest.mark.parametrize("far", ["gowaku", "nwaku"])
def test_one_mesh(deployments: Stage, far: str) -> None:
    """Nodes of two deployments, of two programs where both are there, are one network of messages.

    Every node has a peer, and what either deployment sends is seen once by every other node. A node on another shard
    sees nothing of it, and sees all once it takes part.
    """
    deployments.want("near", "gowaku", nodes=2)
    deployments.want("far", far, nodes=2, meets="near")
    deployments.want("apart", "gowaku", nodes=2, meets="near", shard=OTHER_SHARD)

    for turn in deployments.turns():
        with turn:
            near, other, apart = (turn[name].nodes for name in ("near", "far", "apart"))
            nodes = [*near, *other]
            turn.measures["mesh_s"] = awaited_mesh(nodes)
            assert [] == [node.name for node in nodes if not node.peers()], "nodes without a peer"
            before = wire_bytes(nodes)
            for sender in (near[0], other[0]):
                told = spread(sender, nodes, secrets.token_bytes(100), deadline_s=DEADLINE_S, linger_s=0.5)
                turn.deliveries += told
            turn.measures |= measures(turn.deliveries) | {"wire_bytes": wire_bytes(nodes) - before}
            assert [] == [one.node for one in turn.deliveries if one.copies != 1], "not seen exactly once"
            if turn.index == 0:
                _nothing_is_seen_on_another_shard(near[0], apart[0])


def _nothing_is_seen_on_another_shard(sender: Node, apart: Node) -> None:
    payload = secrets.token_bytes(100)

    def act(node: Node) -> list[int]:
        return [node.send(payload, 0)] if node is sender else node.receive(payload, OTHER_SHARD, QUIET_S)

    _, seen = each([sender, apart], act)
    assert [] == seen, "a message was seen on a shard that it was not sent to"
    apart.subscribe(0)
    # had it taken part before, this would be in what came meanwhile
    assert [] == apart.receive(payload, 0, 1.0), "a message was seen by a node that did not take part in its shard"
    awaited_mesh([sender, apart])


def test_side_by_side(deployments: Stage, variants: tuple[Variant, Variant]) -> None:
    """Two swarms that know nothing of each other, measured alone and at the same time, in the order of a draw."""
    for variant in variants:
        deployments.want(variant.name, variant, nodes=3)

    for turn in deployments.turns():
        with turn:
            swarms = [turn[variant.name] for variant in variants]
            took: dict[str, list[float]] = {}
            for way in turn.chance.sample(["alone", "together"], 2):
                took[way] = (
                    turn.disseminate(*swarms) if way == "together" else [turn.disseminate(one)[0] for one in swarms]
                )
            for variant, alone_s, together_s in zip(variants, took["alone"], took["together"], strict=True):
                turn.measures |= {
                    f"{variant}.alone_t100_s": alone_s,
                    f"{variant}.together_t100_s": together_s,
                    f"{variant}.slowdown": together_s / alone_s,
                }


@pytest.mark.parametrize("relay", ["gowaku", "nwaku"])
def test_a_message_carries_a_handle(deployments: Stage, relay: str, variant: Variant) -> None:
    """Who receives a message with the handle of a file fetches it from the swarm, whole."""
    deployments.want("relays", relay, nodes=3)
    deployments.want("swarm", variant, nodes=3)

    for turn in deployments.turns():
        with turn:
            turn.measures["mesh_s"] = awaited_mesh(turn["relays"].nodes)
            with turn.published(turn["swarm"]) as (handle, digest):
                turn.measures["message_to_file_s"] = _sent_and_fetched(turn, handle, digest)
            turn.measures |= measures(turn.deliveries)


def _sent_and_fetched(turn: Turn, handle: Handle, digest: str) -> float:
    """Send the handle; who receives it fetches the file. The seconds from the one to the last of the others."""
    relays, swarm = turn["relays"], turn["swarm"]
    text = PREFIX + json.dumps({"id": handle.id, "ticket": handle.ticket}).encode()
    begun, sent_ns, seen = time.perf_counter(), list[int](), list[Delivery]()

    def act(position: int) -> float:
        relay = relays.nodes[position]
        if not position:
            sent_ns.append(relay.send(text))
            return 0.0
        heard = relay.hear(PREFIX, 0, DEADLINE_S)
        if heard is None:
            raise BadTransfer(f"{relay.name} received no message within {DEADLINE_S:g} s")
        seen.append(Delivery(relay.name, copies=1, seen_ns=heard[1]))
        found = Handle(**json.loads(heard[0].removeprefix(PREFIX)))
        turn.fetch(swarm, swarm.nodes[position], position - 1, found, digest)
        return time.perf_counter() - begun

    took = each(range(len(relays.nodes)), act)
    turn.deliveries += [one.since(sent_ns[0]) for one in seen]
    return max(took)
