"""Disturbances on Kubernetes: programs that are killed in their Pods, and started again by the cluster."""

from __future__ import annotations

import pytest
from clusters import Swarms

from pytest_codexbench.disturbances import DOWN_S
from pytest_codexbench.metrics import of_round

# A download takes some seconds, so that there is a middle to be hit.
SLOW = 'shapes = [[3, 1]]\nsizes = ["20MB"]\nrounds = 1\nlinks = ["20mbit"]\nexperiments = ["reliability"]\n'
BENCHES = ("test_reliability.py",)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["seeder-restarts", "leecher-restarts"])
def test_a_program_that_was_killed_on_purpose_spoils_no_round(swarms: Swarms, name: str) -> None:
    """Its container is kept from coming up for as long as it is to be away; then the file goes on."""
    run = swarms.run(f'{SLOW}disturbances = ["{name}"]\n[systems.bittorrent]\n', "-k", name, tests=BENCHES)

    (told,) = swarms.rounds()
    assert told.void is None
    assert told.success, run.outlines
    it = told.happened
    assert it is not None
    assert 30 <= (it.percent or 0) < 60
    assert (it.ended_s or 0) - (it.begun_s or 0) >= DOWN_S
    assert (it.ready_s or 0) > (it.ended_s or 0)
    assert 0 < (it.recovery_s or 0) < 60
    assert (of_round(told)["longest_stall_s"] or 0) > 1 or name == "leecher-restarts"
    run.assert_outcomes(passed=1, deselected=1)
    assert [] == swarms.kube.left()


def test_a_late_leecher_joins_and_what_pods_may_not_is_skipped(swarms: Swarms) -> None:
    """Packets of a Pod cannot be dropped without rights that it has not: said, with the way out."""
    run = swarms.run(f'{SLOW}disturbances = ["late-leecher", "packet-loss"]\n[systems.http]\n', "-rs", tests=BENCHES)

    run.assert_outcomes(passed=2, skipped=1)
    run.stdout.fnmatch_lines(["*packet-loss: Pods have no rights from which packets of a node can be dropped*"])
    (told,) = (round_ for round_ in swarms.rounds() if round_.cell.disturbance == "late-leecher")
    assert told.void is None
    assert told.success
    assert [] == swarms.kube.left()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["seeder-dies", "files-at-once"])
def test_what_swarms_stand_without_anyone_coming_back(swarms: Swarms, name: str) -> None:
    """One of two seeders that is gone for good, and several files at once: all leechers have all bytes all the same."""
    matrix = f'{SLOW}disturbances = ["{name}"]\n[systems.bittorrent]\n'.replace("[[3, 1]]", "[[4, 2]]")

    run = swarms.run(matrix, "-k", name, tests=BENCHES)

    (told,) = swarms.rounds()
    assert told.void is None
    assert told.success, run.outlines
    assert told.happened is not None
    assert told.happened.name == name
    run.assert_outcomes(passed=1, deselected=1)
    assert [] == swarms.kube.left()
