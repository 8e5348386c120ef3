"""What becomes of a run on Kubernetes when something breaks: it is told, nothing recorded is lost, nothing is left."""

from __future__ import annotations

import subprocess
import sys
import time

from clusters import Kube, Swarms

# A download takes eight seconds, so that there is a middle to be hit.
SLOW = 'shapes = [[2, 1]]\nsizes = ["20MB"]\nrounds = 2\nlinks = ["20mbit"]\n[systems.http]\n'
CELL = ("-k", "n02")


def clean(kube: Kube, *arguments: str) -> str:
    """What ``codexbench clean`` prints."""
    argv = [sys.executable, "-m", "pytest_codexbench.cli", "clean", "--kubernetes", *arguments]
    return subprocess.run(argv, env=kube.env, capture_output=True, text=True, check=True).stdout


def test_a_pod_that_is_deleted_fails_its_round_by_name(swarms: Swarms) -> None:
    """The next round has a fresh swarm."""
    with swarms.running(SLOW, *CELL) as run:
        run.until_downloading()
        victim = run.leecher()
        swarms.kube.kubectl("delete", "pod", "-n", swarms.kube.swarm(), victim, "--wait=false")
        status = run.wait()

    first, second = swarms.rounds()
    logs = (swarms.folder / "logs" / "http-n02-at20m" / "n-0.log").read_text()
    assert 1 == status
    assert not first.success
    assert victim in (first.error or "")
    assert second.success
    assert 2 == logs.count("--- codexbench-")
    assert [] == swarms.kube.left()


def test_a_container_that_is_started_again_fails_its_round_by_name(swarms: Swarms) -> None:
    """Also that of a node which nobody fetches from any more: what it had is lost to the round."""
    with swarms.running(SLOW, *CELL) as run:
        run.until_downloading()
        victim = run.leecher()
        kill = ["exec", "-n", swarms.kube.swarm(), victim, "-c", "agent", "--", "python3", "-c"]
        # the node's program is the one process that is neither the agent nor the Pod's own
        end = "import os, psutil; [p.kill() for p in psutil.process_iter() if '--become' in p.cmdline() or "
        end += "'pytest_codexbench.nodes.http' in p.cmdline()]"
        swarms.kube.kubectl(*kill, end)
        status = run.wait()

    first, second = swarms.rounds()
    assert 1 == status
    assert not first.success
    assert f"the container node of {victim} was started again" in (first.error or "")
    assert second.success
    assert [] == swarms.kube.left()


def test_the_api_server_may_be_away_for_ten_seconds(swarms: Swarms) -> None:
    """In the middle of a round: agents measure on, and are asked again when the way to them is back."""
    with swarms.running(SLOW, *CELL) as run:
        run.until_downloading()
        swarms.kube.kube("stop", "api")
        time.sleep(10)
        swarms.kube.kube("start", "api")
        status = run.wait()

    assert 0 == status, run.output
    assert [True, True] == [round_.success for round_ in swarms.rounds()]
    assert [] == swarms.kube.left()


def test_what_a_killed_run_left_is_removed(swarms: Swarms) -> None:
    """By ``codexbench clean``, which leaves what a living run has, or by the next run; and that goes on with it."""
    with swarms.running(SLOW, *CELL) as run:
        run.until_downloading(index=1)
        space = swarms.kube.swarm()
        assert f"left namespace {space}: run " in clean(swarms.kube)
        run.kill()
    recorded = [round_.index for round_ in swarms.rounds()]
    left = swarms.kube.left()
    cleaned = clean(swarms.kube)

    assert [0] == recorded
    assert f"namespace/{space}" in left
    assert f"removed namespace {space}" in cleaned
    assert [] == swarms.kube.left()

    with swarms.running(SLOW, *CELL, "--cb-resume") as run:
        # what the killed one told of its progress is gone by then
        run.until("a swarm was there", lambda: bool(swarms.kube.left()))
        run.until_downloading(index=1)
        space = swarms.kube.swarm()
        run.kill()

    with swarms.running(SLOW, *CELL, "--cb-resume") as run:
        status = run.wait()

    assert 0 == status, run.output
    assert f"removed namespace {space}, which a killed run left" in run.output
    assert [0, 1] == [round_.index for round_ in swarms.rounds()]
    assert [] == swarms.kube.left()


def test_a_namespace_that_does_not_go_is_told_with_what_holds_it(swarms: Swarms) -> None:
    """The run's results are there; once it can go, ``codexbench clean`` removes it."""
    swarms.pytester.makepyfile(hasty="from pytest_codexbench.backends.kubernetes import namespaces as n; n.GONE_S = 40")
    quick = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.http]\n'
    with swarms.running(quick, "-k", "n02", "-phasty") as run:
        run.until("a swarm was there", lambda: bool(swarms.kube.left()))
        run.until("its namespace was", lambda: any("namespace" in name for name in swarms.kube.left()))
        space = swarms.kube.swarm()
        held = ("configmap", "held", "-n", space, "--type=merge", "-p")
        swarms.kube.kubectl("create", "configmap", "held", "-n", space)
        swarms.kube.kubectl("patch", *held, '{"metadata":{"finalizers":["codexbench.test/held"]}}')
        status = run.wait()

    assert 1 == status
    assert f"namespace {space} was not gone within 40 s" in run.output
    assert "codexbench.test/held in 1 resource instances" in run.output
    assert [True] == [round_.success for round_ in swarms.rounds()]

    swarms.kube.kubectl("patch", *held, '{"metadata":{"finalizers":[]}}')
    clean(swarms.kube)
    assert [] == swarms.kube.left()


def test_swarms_that_are_kept_stay_until_they_are_cleaned(swarms: Swarms) -> None:
    """To look at: neither the next run nor ``clean`` takes them, but ``clean --all``. Their pull secrets came along."""
    kept = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.http]\n'
    login = ["--docker-server=registry.example", "--docker-username=me", "--docker-password=secret"]
    swarms.kube.kubectl("create", "secret", "docker-registry", "mine", "-n", "default", *login)
    (swarms.pytester.path / "pull.yaml").write_text("imagePullSecrets: [{name: mine}]\n")
    try:
        run = swarms.run(kept, "-k", "n02", "--cb-keep-clusters", "--cb-values=pull.yaml")
        without = swarms.run(kept, "-k", "n02", "--cb-values=other.yaml")
        (swarms.pytester.path / "other.yaml").write_text("imagePullSecrets: [{name: other}]\n")
        missing = swarms.run(kept, "-k", "n02", "--cb-values=other.yaml")
    finally:
        swarms.kube.kubectl("delete", "secret", "mine", "-n", "default")
    space = swarms.kube.swarm()
    read = ("-n", space, "-o", "jsonpath={.spec.imagePullSecrets[*].name}")

    run.assert_outcomes(passed=1, deselected=1)
    assert "mine" == swarms.kube.kubectl("get", "pod", "n-1", *read)
    assert "secret/mine\n" == swarms.kube.kubectl("get", "secret", "mine", "-n", space, "-o", "name")
    without.stderr.fnmatch_lines(["*--cb-values=other.yaml: no such file*"])
    missing.stdout.fnmatch_lines(["*imagePullSecrets: there is no Secret 'other' in namespace default to copy*"])
    assert f"left namespace {space}: kept on purpose by run " in clean(swarms.kube)
    assert f"removed namespace {space}" in clean(swarms.kube, "--all")
    assert [] == swarms.kube.left()
