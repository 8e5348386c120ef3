"""What watches swarms in the cluster: the chart `monitoring` with a real database."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from clusters import TESTS, VICTORIA, Kube, Swarms, split

from pytest_codexbench.errors import BenchError
from pytest_codexbench.series import Database

MATRIX = 'shapes = [[2, 1]]\nsizes = ["20MB"]\nlinks = ["50mbit"]\nrounds = 4\n[systems.http]\n[systems.bittorrent]\n'
KUBELETS = 'container_memory_working_set_bytes{namespace=~"codexbench-.*"}'


@pytest.fixture
def watch(kube: Kube, tmp_path: Path) -> Iterator[str]:
    """The address of a database that the chart brought up, reached from outside."""
    values = {
        "database": {
            "kind": "victoriametrics",
            "image": split(kube.images["victoria"]),
            "command": [VICTORIA],
            "interval": "500ms",
        },
        "alerts": {"enabled": False},
        "grafana": {"enabled": False},
    }
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    chart = str(TESTS.parent / "charts" / "monitoring")
    kube.helm(
        "install", "watch", chart, "-n", "watching", "--create-namespace", "-f", str(file), "--wait", "--timeout=120s"
    )
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forward = subprocess.Popen(
        ["kubectl", "-n", "watching", "port-forward", "service/watch", f"{port}:8428"],
        env=kube.env,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield answering(f"http://127.0.0.1:{port}")
    finally:
        forward.terminate()
        forward.wait()
        kube.helm("uninstall", "watch", "-n", "watching")
        kube.kubectl("delete", "namespace", "watching")


def answering(url: str) -> str:
    """The address, once it answers."""
    end = time.monotonic() + 60
    while True:
        try:
            Database(url).check()
        except BenchError:
            assert time.monotonic() < end
            time.sleep(0.3)
        else:
            return url


def test_rounds_are_found_by_query(watch: str, swarms: Swarms) -> None:
    """A round's series come from its Pods' agents into its record; the kubelets tell of the same Pods."""
    run = swarms.run(MATRIX, f"--cb-metrics-url={watch}", "-k", "n02")
    run.assert_outcomes(passed=2)
    for round_ in (each for each in swarms.rounds() if each.index >= 2):  # its Pods were found by then
        received = round_.series["codexbench_transfer_received_bytes"]
        (leecher,) = (one for one in received if one["labels"]["role"] == "leecher")
        values = [value for _, value in leecher["points"]]
        assert len(values) >= 3
        assert 0 < values[-1] <= 1.1 * round_.cell.size
        assert leecher["labels"]["namespace"].startswith("codexbench-")
    hosts = Database(watch).query(f"count by (host) (last_over_time({KUBELETS}[10m]))")
    assert ["node0"] == [series["metric"]["host"] for series in hosts]
    assert [] == list(Database(watch).query("codexbench_node_upp"))
