"""The suite as a Job inside the cluster that it measures on."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import time

from clusters import TESTS, Kube, split

SPACE = "runners"
MATRIX = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 2\n[systems.bittorrent]\n[systems.http]\n'


def test_a_job_measures_and_its_results_can_be_taken(kube: Kube) -> None:
    """With the rights of its own role alone, in a namespace that is restricted; the archive has a whole report."""
    values = {
        "matrix": "mine",
        "matrixFile": MATRIX,
        "workers": 2,
        "arguments": ["--cb-seed=7"],
        "results": {"kind": "emptyDir"},
        "swarms": {"placement": "pack"},
        "image": split(kube.images["runner"]),
        "agent": {"image": split(kube.images["agent"])},
    }
    chart = str(TESTS.parent / "charts" / "runner")
    kube.kubectl("create", "namespace", SPACE)
    try:
        kube.kubectl("label", "namespace", SPACE, "pod-security.kubernetes.io/enforce=restricted")
        subprocess.run(
            ["helm", "install", "bench", chart, "-n", SPACE, "--values=-"],
            input=json.dumps(values),
            env=kube.env,
            text=True,
            check=True,
        )
        planned = kube.helm("test", "bench", "-n", SPACE, "--logs")
        log = kube.kubectl("logs", "-n", SPACE, "-f", "job/bench-1", "-c", "run", "--pod-running-timeout=2m")
        taken = _archive(kube)
        kube.kubectl("wait", "-n", SPACE, "--for=condition=complete", "job/bench-1", "--timeout=60s")
        rights = _rights(kube)
    finally:
        kube.helm("uninstall", "bench", "-n", SPACE)
        kube.kubectl("delete", "namespace", SPACE)

    assert "cells       4" in planned
    assert "5 passed" in log  # four cells, and the two systems side by side
    (folder,) = {name.split("/")[1] for name in taken.getnames() if name.endswith("/run.json")}
    results = json.loads(_read(taken, f"runs/{folder}/results.json"))
    assert {"passed"} == {cell["status"] for cell in results["cells"]}
    assert 7 == json.loads(_read(taken, f"runs/{folder}/run.json"))["seed"]
    assert _read(taken, f"runs/{folder}/report.md")
    assert RIGHTS <= rights
    assert [] == sorted(one for one in rights - RIGHTS if not ANYBODYS.match(one[0]))
    assert [] == kube.left()


RIGHTS = {
    ("namespaces", "[list create delete]"),
    ("nodes", "[list]"),
    ("pods", "[list delete]"),
    ("pods/log", "[get]"),
    ("events", "[list]"),
    ("secrets", "[get list create update delete]"),
    ("services", "[get create delete]"),
    ("statefulsets.apps", "[get create delete]"),
    ("deployments.apps", "[get create delete]"),
    ("leases.coordination.k8s.io", "[get list create patch delete]"),
}
ANYBODYS = re.compile(r"self\w+\.|$|clustertrustbundles")
"""What every account may: look at itself, read the server's version and its API."""


def _rights(kube: Kube) -> set[tuple[str, str]]:
    """What the account may do in the namespace that all runs share: resource and verbs."""
    told = kube.kubectl("auth", "can-i", "--list", "-n", "default", f"--as=system:serviceaccount:{SPACE}:bench")
    return {(line[:48].strip(), line[line.rindex("[") :]) for line in told.splitlines()[1:]}


def _archive(kube: Kube) -> tarfile.TarFile:
    """As the chart's notes say."""
    pod = kube.kubectl("get", "pods", "-n", SPACE, "-l", "batch.kubernetes.io/job-name=bench-1", "-o", "name").strip()
    deadline = time.monotonic() + 60
    inside = ["kubectl", "exec", "-n", SPACE, pod, "-c", "shelf", "--"]
    while subprocess.run([*inside, "test", "-e", "/tmp/done"], env=kube.env, check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    data = subprocess.run([*inside, "cat", "/results/runs.tar.gz"], env=kube.env, capture_output=True, check=True)
    subprocess.run([*inside, "touch", "/tmp/taken"], env=kube.env, check=True)
    return tarfile.open(fileobj=io.BytesIO(data.stdout))


def _read(archive: tarfile.TarFile, name: str) -> str:
    file = archive.extractfile(name)
    assert file is not None
    return file.read().decode()
