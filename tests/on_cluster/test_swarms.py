"""The benchmarks on a real Kubernetes: what is measured on this machine is measured there too."""

from __future__ import annotations

import json
import shutil

from clusters import Swarms

KUBO_IMAGE = "localhost/kubo:test"


def test_swarms_come_up_are_measured_and_go(swarms: Swarms) -> None:
    """Real nodes of each system, checked bytes, counted wires, kept logs; nothing is left in the cluster."""
    ipfs = f'[systems.ipfs]\nimage = "{KUBO_IMAGE}"\n' if shutil.which("ipfs") else ""

    run = swarms.run(
        f'shapes = [[2, 1], [4, 2]]\nsizes = ["10MB"]\nrounds = 2\n[systems.bittorrent]\n[systems.http]\n{ipfs}'
    )

    systems = 3 if ipfs else 2
    run.assert_outcomes(passed=3 * systems)
    (results,) = (swarms.pytester.path / "results").glob("*/results.json")
    document = json.loads(results.read_text())
    assert {"passed"} == {cell["status"] for cell in document["cells"]}
    (log,) = (swarms.pytester.path / "results").glob("*/logs/http-n02/n-0.log")
    assert log.exists()
    assert [] == swarms.kube.namespaces()


def test_an_image_that_does_not_exist_is_told(swarms: Swarms) -> None:
    """An error in set-up, which names the Pod and the cluster's reason; nothing is left."""
    run = swarms.run(
        'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.ipfs]\nimage = "localhost/absent:test"\n', "-k", "n02"
    )

    run.assert_outcomes(errors=1, deselected=1)
    run.stdout.fnmatch_lines(["*ErrImagePull*"])
    assert [] == swarms.kube.namespaces()


def test_codex_nodes_of_both_generations_find_each_other(swarms: Swarms) -> None:
    """The chart starts both by their environment, bootstrapped by the first node's record; over the double's image."""
    program = '[systems.codex]\nimage = "localhost/codex-double:test"\n'

    run = swarms.run(f'shapes = [[3, 1]]\nsizes = ["3MB"]\nrounds = 1\n{program}', "-k", "n03")

    run.assert_outcomes(passed=1, deselected=1)
    assert [] == swarms.kube.namespaces()
