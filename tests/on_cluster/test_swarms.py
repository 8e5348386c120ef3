"""The benchmarks on a real Kubernetes: what is measured on this machine is measured there too."""

from __future__ import annotations

import json

import pytest
from clusters import TESTS, Swarms, split

from pytest_codexbench.experiment import carried_mb_s
from pytest_codexbench.metrics import of_round

MB = 10**6


def test_swarms_come_up_are_measured_and_go(swarms: Swarms) -> None:
    """Real nodes of each system, two workers: checked bytes, counted wires, kept logs; nothing is left."""
    kubo = f'[systems."ipfs.new"]\nsystem = "ipfs"\nimage = "{swarms.kube.images["kubo"]}"\n'
    matrix = f'shapes = [[2, 1], [8, 2]]\nsizes = ["10MB"]\nrounds = 2\n[systems.bittorrent]\n[systems.http]\n{kubo}'

    run = swarms.run(matrix, "-n", "2")

    run.assert_outcomes(passed=9)
    assert {"passed"} == {cell["status"] for cell in swarms.results()["cells"]}
    for round_ in swarms.rounds():
        moved = sum(counters.wire_rx_bytes or 0 for counters in round_.nodes.values())
        if round_.cell.kind == "download":
            assert moved > round_.cell.size * round_.cell.leechers
        assert "gso: uncorrected" in round_.environment.wire
        assert round_.environment.colocated
        assert 2 == round_.environment.workers
    for node in ("n-0", "n-7", "n-7.agent"):
        assert (swarms.folder / "logs" / "ipfs.new-n08" / f"{node}.log").exists()
    assert [] == swarms.kube.left()


@pytest.mark.parametrize("generation", ["first", "second"])
def test_nodes_of_both_generations_find_each_other(swarms: Swarms, generation: str) -> None:
    """The chart starts them by their environment, bootstrapped by the first one's record: publish, fetch, delete."""
    image = swarms.kube.images["double"]
    program = f'[systems.codex]\nimage = "{image}"\ngeneration = "{generation}"\n'

    run = swarms.run(f'shapes = [[3, 1]]\nsizes = ["3MB"]\nrounds = 2\n{program}', "-k", "n03")

    run.assert_outcomes(passed=1, deselected=1)
    assert [True, True] == [round_.success for round_ in swarms.rounds()]
    assert [(), ()] == [round_.left_on for round_ in swarms.rounds()]
    assert [] == swarms.kube.left()


def test_a_link_is_limited_to_its_rate(swarms: Swarms) -> None:
    """By annotation, which this cluster's network keeps to: the time to 100 % is within 5 % of what the rate gives."""
    matrix = (
        'shapes = [[2, 1]]\nsizes = ["25MB"]\nrounds = 3\nlinks = ["100mbit"]\n[systems.http]\n[systems.bittorrent]\n'
    )

    run = swarms.run(matrix, "-k", "n02")

    run.assert_outcomes(passed=2, deselected=2)
    for round_ in swarms.rounds():
        wanted = round_.cell.size / MB / carried_mb_s(100 * MB)
        assert wanted == pytest.approx(of_round(round_)["t100_s"], rel=0.05)
        assert 100 * MB / 8e6 == pytest.approx(round_.environment.probe["wire_mb_s"], rel=0.06)


def test_an_image_that_does_not_exist_is_told(swarms: Swarms) -> None:
    """An error in set-up, which names the Pod and the cluster's reason; nothing is left."""
    run = swarms.run(
        'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.ipfs]\nimage = "localhost/absent:test"\n', "-k", "n02"
    )

    run.assert_outcomes(errors=1, deselected=1)
    run.stdout.fnmatch_lines(["*n-? is Pending: node *ErrImagePull*"])
    assert [] == swarms.kube.left()


@pytest.mark.parametrize("chart", ["bittorrent", "codex", "http", "ipfs"])
def test_a_release_alone_is_a_swarm(swarms: Swarms, chart: str) -> None:
    """``helm install`` with a scenario, and nothing else: its own test spreads a file, and all of it goes again."""
    kube, space = swarms.kube, "demo"
    values: dict[str, object] = {"agent": {"image": split(kube.images["agent"])}}
    if image := {"codex": "double", "ipfs": "kubo"}.get(chart):
        values["image"] = split(kube.images[image])
    (swarms.pytester.path / "images.json").write_text(json.dumps(values))
    charts = TESTS.parent / "charts"
    given = ["-f", str(charts / "scenarios" / "n04-s02-50MB.yaml"), "-f", str(swarms.pytester.path / "images.json")]
    kube.kubectl("create", "namespace", space)
    try:
        kube.kubectl("label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
        kube.helm("install", "demo", str(charts / chart), "-n", space, *given)
        tested = kube.helm("test", "demo", "-n", space, "--timeout=4m")
        pods = kube.kubectl("get", "pods", "-n", space, "-l", "app.kubernetes.io/component=node", "-o", "name").split()
        kube.helm("uninstall", "demo", "-n", space)
        kube.kubectl("wait", "pods", "--all", "--for=delete", "-n", space, "--timeout=60s")
        left = kube.kubectl("get", "pods,services,secrets,statefulsets,deployments,pvc", "-n", space, "-o", "name")
    finally:
        kube.kubectl("delete", "namespace", space)

    assert "Succeeded" in tested
    assert [f"pod/demo-{index}" for index in range(4)] == sorted(pods)
    assert "" == left
