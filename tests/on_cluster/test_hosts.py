"""Swarms over several hosts."""

from __future__ import annotations

import pytest
from clusters import Swarms

from pytest_codexbench.metrics import of_round

pytestmark = pytest.mark.up("-n3")

VALUES = "placement: spread\n"
SLOW = 'shapes = [[3, 1]]\nsizes = ["25MB"]\nrounds = 1\nlinks = ["20mbit"]\n[systems.http]\n'


def spread(swarms: Swarms) -> str:
    """The option that gives each node a host of its own."""
    (swarms.pytester.path / "spread.yaml").write_text(VALUES)
    return "--cb-values=spread.yaml"


def test_each_node_has_a_host_of_its_own(swarms: Swarms) -> None:
    """Then a node's rate is its own: the record says so, and tells how near to the bound the swarm came."""
    matrix = 'shapes = [[3, 1]]\nsizes = ["10MB"]\nrounds = 2\n[systems.bittorrent]\n[systems.http]\n'

    run = swarms.run(matrix, "-k", "n03", spread(swarms))

    run.assert_outcomes(passed=2, deselected=2)
    assert {False} == {round_.environment.colocated for round_ in swarms.rounds()}
    assert all((of_round(round_)["efficiency"] or 0) > 0 for round_ in swarms.rounds())
    assert [] == swarms.kube.left()


def test_a_host_that_dies_fails_the_round_and_leaves_nothing(swarms: Swarms) -> None:
    """Its node is named; what the cluster can no longer end there is struck off."""
    with swarms.running(SLOW, "-k", "n03", spread(swarms), "--cb-deadline=60s") as run:
        run.until_downloading()
        space = swarms.kube.swarm()
        hosts = swarms.kube.kubectl(
            "get", "pods", "-n", space, "-o", "jsonpath={range .items[*]}{.metadata.name}={.spec.nodeName} {end}"
        )
        victim = next(pair.partition("=")[0] for pair in hosts.split() if pair.endswith("=node2"))
        swarms.kube.kube("stop", "node2")
        try:
            status = run.wait(600)
            left = swarms.kube.left()
        finally:
            swarms.kube.kube("start", "node2")

    (round_,) = swarms.rounds()
    assert 1 == status
    assert not round_.success
    assert victim in (round_.failure or "")
    assert [] == left
