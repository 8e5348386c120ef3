"""Matrices as workflows: from a matrix to a report, with whatever goes wrong between."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from platforms import DEPLOY, Platform, until

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "artifacts", "namespace": "codexbench"},
    "stringData": {"user": "tests", "password": "tests"},
}
NINE = """
shapes = [[2, 1], [3, 1], [4, 2]]
sizes = ["1MB", "2MB", "4MB"]
rounds = 2
[systems.bittorrent]
[systems.http]
"""
SMALL = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.http]\n'
NIGHTLY = json.dumps(
    {
        "spec": {
            "workflowSpec": {
                "workflowTemplateRef": {"name": "codexbench-matrix"},
                "arguments": {
                    "parameters": [{"name": "matrix", "value": "/settings/mine.toml"}, {"name": "file", "value": SMALL}]
                },
            }
        }
    }
)


@pytest.fixture(scope="module")
def works(platform: Platform) -> Iterator[Platform]:
    """The platform with what `deploy/argo-workflows` puts there, told of the images of these tests."""
    kube = platform.kube
    kube.kubectl("apply", "-k", str(DEPLOY / "argo-workflows"))
    settings = {
        "runner-image": kube.images["runner"],
        "agent-image": kube.images["agent"],
        "swarms.yaml": "placement: pack\n",
    }
    kube.kubectl("-n", "codexbench", "patch", "configmap", "codexbench-settings", "-p", json.dumps({"data": settings}))
    secret = platform.scratch / "secret.json"
    secret.write_text(json.dumps(SECRET))
    kube.kubectl("apply", "-f", str(secret))
    yield platform
    kube.kubectl("delete", "-k", str(DEPLOY / "argo-workflows"))


def submitted(works: Platform, matrix: str, **parameters: str) -> str:
    """The name of a workflow that was begun with this matrix file."""
    told = {"matrix": "/settings/mine.toml", "file": matrix, **parameters}
    given = [part for name, value in told.items() for part in ("-p", f"{name.replace('_', '-')}={value}")]
    return works.argo("submit", "--from", "workflowtemplate/codexbench-matrix", *given, "-o", "name")


def ended(works: Platform, name: str, within_s: float = 600) -> dict[str, Any]:
    """The status of a workflow once it is over."""

    def status() -> dict[str, Any]:
        found: dict[str, Any] = works.look("codexbench", "workflow", name).get("status", {})
        return found

    until(f"the end of {name}", lambda: status().get("finishedAt"), within_s, lambda: works.argo("get", name))
    return status()


def pods(status: dict[str, Any], template: str) -> list[dict[str, Any]]:
    """What became of the Pods of one kind of step, in the order in which they began."""
    found = [
        node for node in status["nodes"].values() if node.get("templateName") == template and node["type"] == "Pod"
    ]
    return sorted(found, key=lambda node: str(node["startedAt"]))


def gathered(works: Platform, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """``run.json`` and ``results.json`` of the run that a workflow made of all its blocks' runs."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(works.artifact(name, "gather", "run.tgz"))) as archive:
        for document in ("run.json", "results.json"):
            file = archive.extractfile(f"run/{document}")
            assert file is not None
            found.append(json.load(file))
    return found[0], found[1]


def test_nine_cells_become_one_report(works: Platform) -> None:
    """Three shapes by three sizes: a step a block, never two at once, and one run with all their rounds."""
    name = submitted(works, NINE, seed="7")
    status = ended(works, name, 1500)
    provenance, results = gathered(works, name)
    report = works.artifact(name, "gather", "report.html").decode()
    blocks = pods(status, "block")

    assert "Succeeded" == status["phase"], works.argo("get", name)
    assert 12 == len(blocks)  # nine of downloads, three of uploads
    assert {"passed"} == {cell["status"] for cell in results["cells"]}
    assert 24 == len(results["cells"])
    assert {2} == {len(cell["rounds"]) for cell in results["cells"]}
    assert 7 == provenance["seed"]
    assert 12 == len(provenance["gathered_from"])
    assert all(one["finishedAt"] <= other["startedAt"] for one, other in pairwise(blocks))
    assert "<html" in report
    assert [] == [each for each in works.kube.left() if not each.endswith("/codexbench-steps")]


@pytest.mark.parametrize(
    "matrix, parameters, says",
    [
        ('shapes = [[2, 2]]\nsizes = ["1MB"]\n', {}, "has no cell left"),
        (SMALL, {"rounds": '2"; touch /tmp/x; echo "$(id) `id`'}, "a whole number from 1 on is needed"),
        (SMALL, {"systems": "nobody's\n- 'x'"}, "--cb-systems="),
    ],
)
def test_what_cannot_be_measured_ends_before_anything_is_deployed(
    works: Platform, matrix: str, parameters: dict[str, str], says: str
) -> None:
    """A wrong parameter, be it hostile, ends the plan with the reason; no block is begun."""
    name = submitted(works, matrix, **parameters)
    status = ended(works, name, 120)

    assert "Failed" == status["phase"]
    assert [] == pods(status, "block")
    assert says in works.argo("logs", name)


def test_what_was_not_measured_is_tried_again_and_what_was_is_kept(works: Platform) -> None:
    """A block that is killed goes on in the next try with what its journal has; nothing is measured twice."""
    matrix = SMALL.replace("rounds = 1", "rounds = 60")
    name = submitted(works, matrix)
    label = ("-l", f"workflows.argoproj.io/workflow={name}", "-o", "jsonpath={.items[*].metadata.name}")

    def of_the_block() -> str:
        found = works.kube.kubectl("-n", "codexbench", "get", "pods", *label).split()
        return next((pod for pod in found if "-block-" in pod), "")

    def recorded(pod: str) -> int:
        told = works.kube.kubectl(
            "-n",
            "codexbench",
            "exec",
            pod,
            "-c",
            "main",
            "--",
            "sh",
            "-c",
            "cat /results/blocks/*/*/records.jsonl || true",
        )
        return told.count("\n")

    until("a block's Pod", of_the_block, 60)
    pod = of_the_block()
    works.kube.kubectl("-n", "codexbench", "wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=60s")
    until("some rounds", lambda: recorded(pod) > 5, 120)
    works.kube.kubectl("-n", "codexbench", "exec", pod, "-c", "main", "--", "sh", "-c", "kill -9 -1")
    status = ended(works, name)
    provenance, results = gathered(works, name)

    assert "Succeeded" == status["phase"], works.argo("get", name)
    assert 3 == len(pods(status, "block"))  # of two blocks
    assert 2 == len(provenance["gathered_from"])  # a run a block: the second try went on with the first one's
    assert {60} == {len(cell["rounds"]) for cell in results["cells"]}


def test_a_failed_round_is_a_result_and_is_not_tried_again(works: Platform) -> None:
    """A block whose rounds fail ends well, after one try, and the report has its cell as failed."""
    name = submitted(works, SMALL, deadline="0.001s")
    status = ended(works, name)
    _, results = gathered(works, name)

    assert "Succeeded" == status["phase"], works.argo("get", name)
    assert 2 == len(pods(status, "block"))
    assert {"failed"} == {cell["status"] for cell in results["cells"]}


def test_every_night_it_is_done_again(works: Platform) -> None:
    """The nightly workflow is the template's, with its own matrix."""
    works.kube.kubectl("-n", "codexbench", "patch", "cronworkflow", "codexbench-nightly", "--type=merge", "-p", NIGHTLY)
    name = works.argo("submit", "--from", "cronworkflow/codexbench-nightly", "-o", "name")
    status = ended(works, name)
    provenance, _ = gathered(works, name)

    assert "Succeeded" == status["phase"], works.argo("get", name)
    assert "mine" == provenance["matrix"]
