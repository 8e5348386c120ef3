"""Deployments from Git: what is committed is what runs, and what cannot run is said to be broken."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import TESTS, VICTORIA, split
from platforms import DEPLOY, Platform, Repository, until

CHARTS = TESTS.parent / "charts"
MATRIX = 'shapes = [[2, 1], [3, 1]]\nsizes = ["1MB"]\n[systems.http]\n[systems.bittorrent]\n'


def emitted(platform: Platform, repository: Repository, folder: Path) -> dict[str, str]:
    """What `codexbench emit applicationset` writes for the matrix of these tests, by its path in the repository."""
    (folder / "mine.toml").write_text(MATRIX)
    argv = [sys.executable, "-m", "pytest_codexbench.cli", "emit", "applicationset", f"--matrix={folder / 'mine.toml'}"]
    argv += [f"--output={folder / 'bench'}", f"--repository={repository.url}", "--path=bench"]
    argv += [f"--agent-image={platform.kube.images['agent']}"]
    subprocess.run(argv, check=True, stdout=subprocess.PIPE)
    found = {str(path.relative_to(folder)): path.read_text() for path in (folder / "bench").rglob("*.yaml")}
    # a commit is looked for sooner than anybody but a test would want
    return {path: text.replace("requeueAfterSeconds: 60", "requeueAfterSeconds: 5") for path, text in found.items()}


def applied(platform: Platform, *documents: dict[str, Any]) -> None:
    """Put these into the cluster."""
    for number, document in enumerate(documents):
        path = platform.scratch / f"applied{number}.json"
        path.write_text(json.dumps(document))
        platform.kube.kubectl("apply", "-f", str(path))


def state(platform: Platform, name: str) -> tuple[str, str]:
    """How an Application is: what it says of its sync and of its health."""
    status = platform.look("argocd", "application", name).get("status", {})
    return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")


def until_state(platform: Platform, name: str, wanted: tuple[str, str], within_s: float = 240) -> None:
    """Wait until an Application is so."""
    until(
        f"{name} {wanted}",
        lambda: wanted == state(platform, name),
        within_s,
        lambda: json.dumps(platform.look("argocd", "application", name).get("status", {}))[:3000],
    )


def replicas(platform: Platform, namespace: str, name: str) -> int:
    """How many Pods of a StatefulSet are ready."""
    ready: int = platform.look(namespace, "statefulset", name).get("status", {}).get("readyReplicas", 0)
    return ready


def gone(platform: Platform, *kinds: str, namespace: str) -> bool:
    """Whether nothing of these kinds is left there."""
    return not platform.kube.kubectl("-n", namespace, "get", ",".join(kinds), "-o", "name").split()


def drop(platform: Platform, kind: str, name: str) -> None:
    """Delete an Application, or a set of them, and wait for that."""
    platform.kube.kubectl("-n", "argocd", "delete", kind, name, "--timeout=180s")


def test_clusters_follow_the_files_in_git(platform: Platform, tmp_path: Path) -> None:
    """A matrix's clusters come up; a commit that changes a number of nodes is rolled out.

    A file that goes takes its cluster along, and the set takes all.
    """
    repository = Repository(platform, "clusters")
    files = emitted(platform, repository, tmp_path)
    repository.commit({**files, "charts": CHARTS})
    applied(platform, yaml.safe_load(files["bench/applicationset.yaml"]))
    names = ("http-n02", "http-n03", "bittorrent-n02", "bittorrent-n03")
    try:
        for name in names:
            until_state(platform, f"codexbench-{name}", ("Synced", "Healthy"))
        up = [replicas(platform, f"standing-{name}", "swarm") for name in names]
        token = platform.look("standing-http-n02", "secret", "swarm")["data"]["token"]

        more = files["bench/cells/http-n02.yaml"].replace("nodes: 2", "nodes: 4")
        commit = repository.commit({"bench/cells/http-n02.yaml": more}, remove=["bench/cells/bittorrent-n03.yaml"])
        until("four nodes", lambda: 4 == replicas(platform, "standing-http-n02", "swarm"), 180)
        until_state(platform, "codexbench-http-n02", ("Synced", "Healthy"))
        rolled = platform.look("argocd", "application", "codexbench-http-n02")["status"]["sync"]["revision"]
        until("no bittorrent-n03", lambda: state(platform, "codexbench-bittorrent-n03") == ("", ""), 180)
        kept = platform.look("standing-http-n02", "secret", "swarm")["data"]["token"]
    finally:
        drop(platform, "applicationset", "codexbench-mine")
    workloads = ("statefulset", "deployment", "service")
    for name in names:
        until(f"no {name}", partial(gone, platform, *workloads, namespace=f"standing-{name}"), 180)

    assert [2, 3, 2, 3] == up
    assert commit == rolled
    assert token == kept


def test_what_faults_change_is_left_alone_where_healing_is_off(platform: Platform, tmp_path: Path) -> None:
    """A cluster whose file says so keeps what was done to it; the others are healed."""
    repository = Repository(platform, "faults")
    files = emitted(platform, repository, tmp_path)
    cell = "bench/cells/http-n03.yaml"
    repository.commit({**files, cell: files[cell].replace("selfHeal: true", "selfHeal: false"), "charts": CHARTS})
    applied(platform, yaml.safe_load(files["bench/applicationset.yaml"]))
    try:
        for name in ("http-n02", "http-n03"):
            until_state(platform, f"codexbench-{name}", ("Synced", "Healthy"))
            platform.kube.kubectl("-n", f"standing-{name}", "scale", "statefulset", "swarm", "--replicas=1")
        until("a third node", lambda: state(platform, "codexbench-http-n03")[0] == "OutOfSync", 60)
        until("healed", lambda: 2 == replicas(platform, "standing-http-n02", "swarm"), 120)
        left = platform.look("standing-http-n03", "statefulset", "swarm")["spec"]["replicas"]
    finally:
        drop(platform, "applicationset", "codexbench-mine")

    assert 1 == left


@pytest.mark.parametrize(
    "broken, says",
    [
        ({"charts/http/templates/statefulset.yaml": '{{ fail "out of order" }}'}, "out of order"),
        ({"charts/http/values.yaml": "nodes: many\n"}, "nodes"),
    ],
    ids=["template", "values"],
)
def test_a_broken_chart_is_said_to_be_broken(
    platform: Platform, tmp_path: Path, broken: dict[str, str], says: str
) -> None:
    """It is not silence: the Application says what is wrong with it."""
    repository = Repository(platform, f"broken-{len(says)}")
    repository.commit({"charts": CHARTS})
    repository.commit(broken)
    applied(platform, application("broken", repository, "charts/http", {}))
    try:
        until(
            "a reason",
            lambda: (
                says in json.dumps(platform.look("argocd", "application", "broken").get("status", {}).get("conditions"))
            ),
            120,
            lambda: json.dumps(platform.look("argocd", "application", "broken").get("status", {}))[:3000],
        )
        sync, _ = state(platform, "broken")
    finally:
        drop(platform, "application", "broken")

    assert "Synced" != sync


def test_a_swarm_that_cannot_come_up_is_degraded(platform: Platform) -> None:
    """A chart that renders, with an image that is nowhere: Degraded, and never Healthy."""
    repository = Repository(platform, "degraded")
    repository.commit({"charts": CHARTS})
    values = {"nodes": 2, "agent": {"image": {"repository": "localhost/nowhere", "tag": "1", "pullPolicy": "Never"}}}
    applied(platform, application("degraded", repository, "charts/bittorrent", values))
    deadline = {"spec": {"progressDeadlineSeconds": 10}}
    try:
        until("the tracker", lambda: platform.look("degraded", "deployment", "swarm-tracker"), 120)
        platform.kube.kubectl("-n", "degraded", "patch", "deployment", "swarm-tracker", "-p", json.dumps(deadline))
        until(
            "Degraded",
            lambda: state(platform, "degraded")[1] == "Degraded",
            120,
            lambda: json.dumps(platform.look("argocd", "application", "degraded").get("status", {}))[:3000],
        )
    finally:
        # it would wait for the tracker for ever: what `argocd app terminate-op` does
        ended = {"status": {"operationState": {"phase": "Terminating"}}}
        patch = ("patch", "application", "degraded", "--type=merge", "-p", json.dumps(ended))
        platform.kube.kubectl("-n", "argocd", *patch)
        drop(platform, "application", "degraded")

    assert gone(platform, "statefulset", "deployment", namespace="degraded")


def application(name: str, repository: Repository, path: str, values: dict[str, Any]) -> dict[str, Any]:
    """An Application of one chart."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": "argocd", "finalizers": ["resources-finalizer.argocd.argoproj.io"]},
        "spec": {
            "project": "default",
            "source": {
                "repoURL": repository.url,
                "targetRevision": "main",
                "path": path,
                "helm": {"releaseName": "swarm", "valuesObject": values},
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
            "syncPolicy": {"automated": {"prune": True}, "syncOptions": ["CreateNamespace=true"]},
        },
    }


def from_deploy(name: str, repository: Repository) -> dict[str, Any]:
    """An Application of `deploy/argocd`, with the repository of a test in it."""
    text = (
        (DEPLOY / "argocd" / f"{name}.yaml").read_text().replace("https://git.example/codexbench.git", repository.url)
    )
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def peers(platform: Platform, pod: str) -> int:
    """How many others a Waku node is connected to, as it tells itself."""
    ask = "import json, os, urllib.request as u; print(len(json.load(u.urlopen(f'http://{os.environ[\"POD_IP\"]}:8645/admin/v1/peers'))))"
    return int(platform.kube.kubectl("-n", "codexbench-waku", "exec", pod, "-c", "agent", "--", "python3", "-c", ask))


def test_a_simulation_of_another_network_follows_its_repository(platform: Platform) -> None:
    """A mesh of go-waku out of a repository with a chart in it grows by a commit, and goes with its Application."""
    repository = Repository(platform, "simulation")
    images = {"image": split(platform.kube.images["gowaku"]), "agent": {"image": split(platform.kube.images["agent"])}}
    values = yaml.safe_load((DEPLOY / "argocd" / "waku-values.yaml").read_text()) | images
    path = "deploy/argocd/waku-values.yaml"
    repository.commit({"charts": CHARTS, path: yaml.safe_dump(values)})
    applied(platform, from_deploy("waku", repository))
    try:
        until_state(platform, "codexbench-waku", ("Synced", "Healthy"))
        until("a mesh of four", lambda: 3 == peers(platform, "mesh-0"), 120)
        repository.commit({path: yaml.safe_dump(values | {"nodes": 6})})
        until("six nodes", lambda: 6 == replicas(platform, "codexbench-waku", "mesh"), 180)
        until("a mesh of six", lambda: 5 == peers(platform, "mesh-5"), 120)
    finally:
        drop(platform, "application", "codexbench-waku")

    assert gone(platform, "statefulset", "service", "secret", namespace="codexbench-waku")


def test_the_harness_is_synced_and_measures(platform: Platform) -> None:
    """What watches and the runner come up out of Git, and the run is part of the sync."""
    repository = Repository(platform, "harness")
    repository.commit({"charts": CHARTS})
    images = platform.kube.images
    found = from_deploy("harness", repository)
    watch, bench = found["spec"]["sources"]
    watch["helm"]["valuesObject"] = {
        "database": {"kind": "victoriametrics", "image": split(images["victoria"]), "command": [VICTORIA]},
        "alerts": {"enabled": False},
        "grafana": {"enabled": False},
    }
    bench["helm"]["valuesObject"] |= {
        "matrix": "mine",
        "matrixFile": 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.http]\n',
        "swarms": {"placement": "pack"},
        "results": {"kind": "emptyDir", "keepMinutes": 0},
        "image": split(images["runner"]),
        "agent": {"image": split(images["agent"])},
    }
    applied(platform, found)
    try:
        until_state(platform, "codexbench-harness", ("Synced", "Healthy"), 300)
        until("the run", lambda: "Succeeded" == operation(platform, "codexbench-harness"), 300)
        database = platform.look("codexbench-harness", "deployment", "watch")["status"]["readyReplicas"]
        log = platform.kube.kubectl("-n", "codexbench-harness", "logs", "job/bench-1", "-c", "run")
    finally:
        drop(platform, "application", "codexbench-harness")

    assert 1 == database
    assert "2 passed" in log
    assert gone(platform, "deployment", "service", namespace="codexbench-harness")


def operation(platform: Platform, name: str) -> str:
    """What became of an Application's last sync, hooks and all."""
    status = platform.look("argocd", "application", name).get("status", {})
    phase: str = status.get("operationState", {}).get("phase", "")
    return phase
