"""What the backend ``kubernetes`` does without a cluster: names, values, images, forwarded ports, wrong wishes."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_codexbench.agent.wire import Interface
from pytest_codexbench.backends.kubernetes.values import image_values
from pytest_codexbench.errors import AgentError, CannotRun, WrongInput
from pytest_codexbench.matrix import VARIANT, Shape, Variant

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from pytest_codexbench.backends import kubernetes as backend
from pytest_codexbench.backends.kubernetes.api import Api
from pytest_codexbench.backends.kubernetes.forward import forwarded
from pytest_codexbench.backends.kubernetes.owners import Owner, Process
from pytest_codexbench.backends.kubernetes.pods import Pod, _pod, incidents
from pytest_codexbench.backends.kubernetes.release import Helm

IPFS = Shape(Variant("ipfs.next", "ipfs", (("image", "ipfs/kubo:v0.39.0"),)), 8, 10**8)


@given(st.text(max_size=100))
def test_any_name_becomes_a_label(text: str) -> None:
    """Runs and cells are named by people; the value of a label has 63 characters of a few kinds."""
    assert re.fullmatch(r"|[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", backend._label(text))


@given(st.from_regex(VARIANT, fullmatch=True))
def test_any_shape_becomes_the_name_of_a_namespace(name: str) -> None:
    """Variants have dots and underscores in their names; a namespace has 63 letters, digits and dashes."""
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", backend._space(Shape(Variant(name, "http"), 2, 10**8)))


@pytest.mark.parametrize(
    "text, values",
    [
        ("ipfs/kubo:v0.38.0", {"repository": "ipfs/kubo", "tag": "v0.38.0"}),
        ("ipfs/kubo", {"repository": "ipfs/kubo"}),
        ("host:5000/ipfs/kubo", {"repository": "host:5000/ipfs/kubo"}),
        ("host:5000/ipfs/kubo:1", {"repository": "host:5000/ipfs/kubo", "tag": "1"}),
        ("ipfs/kubo@sha256:ab", {"repository": "ipfs/kubo", "digest": "sha256:ab"}),
        ("ipfs/kubo:1@sha256:ab", {"repository": "ipfs/kubo", "tag": "1", "digest": "sha256:ab"}),
    ],
)
def test_an_image_is_written_as_registries_write_it(text: str, values: dict[str, str]) -> None:
    """By tag or digest, with or without a host and its port."""
    assert values == image_values(text)


@pytest.mark.parametrize(
    "text, size", [("0", 0), ("25Gi", 25 << 30), ("500M", 5 * 10**8), ("2", 2), ("3920m", 3), ("nonsense", 0)]
)
def test_quantities_are_read(text: str, size: int) -> None:
    """As the API server writes what a node gives."""
    assert size == backend._quantity(text)


def test_values_follow_from_the_shape(tmp_path: Path) -> None:
    """Nodes, room, link and image come from the cell; the user's own file has the last word."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("agent: {image: {pullPolicy: Never}}\nnodeSelector: {pool: bench}\n")
    wishes = backend.Wishes(agent_image="me/agent:1", values=mine, registry="mirror.example")
    kube = backend.Kubernetes(tmp_path, "20261124-x", wishes)

    values = kube._values(IPFS, 10**9, "secret")

    assert 8 == values["nodes"]
    assert {"size": "1000000000B", "files": 1} == values["data"]
    assert {"rate": "100mbit"} == values["link"]
    assert {"repository": "ipfs/kubo", "tag": "v0.39.0"} == values["image"]
    assert {"image": {"repository": "me/agent", "tag": "1", "pullPolicy": "Never"}} == values["agent"]
    assert {} == values["settings"]
    assert "mirror.example" == values["imageRegistry"]
    assert {"pool": "bench"} == values["nodeSelector"]


@pytest.mark.parametrize("text", ["- a list", "{", "just words"])
def test_a_file_that_has_no_values_is_refused(text: str, tmp_path: Path) -> None:
    """Named, before anything is installed."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)

    with pytest.raises(WrongInput, match=r"--cb-values=.*mine\.yaml: "):
        backend.Kubernetes(tmp_path, "run", backend.Wishes(values=mine))


def test_without_a_cluster_the_ways_out_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubeconfig, no such context, no helm, no chart: each says what would help."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    kube = backend.Kubernetes(tmp_path, "run", backend.Wishes(context="nowhere"))

    assert "--cb-kube-context=NAME" in (kube.cannot(IPFS) or "")
    assert "there is no chart of mine" in (kube.cannot(Shape(Variant("mine", "mine"), 2)) or "")
    with pytest.raises(CannotRun, match="/absent/helm is not an executable program"):
        Helm("/absent/helm")
    with pytest.raises(CannotRun, match="set KUBECONFIG"):
        Api()


def test_a_program_that_is_no_helm_is_refused(tmp_path: Path) -> None:
    """It does not tell its version as Helm does."""
    impostor = tmp_path / "helm"
    impostor.write_text("#!/bin/sh\necho v3\n")
    impostor.chmod(0o755)

    with pytest.raises(CannotRun, match="does not tell its version as Helm does"):
        Helm(str(impostor))


def told(**more: Any) -> Any:
    """A Pod as the client gives it."""
    status = {
        "phase": "Pending",
        "reason": None,
        "pod_ip": None,
        "conditions": None,
        "container_statuses": None,
        "init_container_statuses": None,
    }
    return SimpleNamespace(
        metadata=SimpleNamespace(name="n-3", deletion_timestamp=None, uid="u"),
        spec=SimpleNamespace(node_name=None),
        status=SimpleNamespace(**{**status, **more}),
    )


def waiting(reason: str, message: str) -> Any:
    """The status of a container that waits."""
    state = SimpleNamespace(waiting=SimpleNamespace(reason=reason, message=message), terminated=None)
    return SimpleNamespace(
        name="node", state=state, image_id="", restart_count=0, last_state=SimpleNamespace(terminated=None)
    )


def test_why_a_pod_is_not_ready_is_told() -> None:
    """In the cluster's own words; what waiting will not mend is known."""
    missing = _pod(told(container_statuses=[waiting("ErrImagePull", "no such image")]))
    full = _pod(
        told(conditions=[SimpleNamespace(type="PodScheduled", status="False", reason="Unschedulable", message="full")])
    )
    starting = _pod(told(container_statuses=[waiting("ContainerCreating", "")]))

    assert ("node ErrImagePull: no such image",) == missing.reasons
    assert 45.0 == missing.patience_s
    assert ("Unschedulable: full",) == full.reasons
    assert math.inf == full.patience_s
    assert 10.0 == _pod(told(container_statuses=[waiting("InvalidImageName", "a//b")])).patience_s
    assert () == starting.reasons
    assert not any(pod.ready for pod in (missing, full, starting))


RUNS = Pod("n-1", "Running", ready=True, uid="u", restarts={"node": 0, "agent": 0})


@pytest.mark.parametrize(
    "now, told",
    [
        ([RUNS], []),
        ([replace(RUNS, ready=False)], []),
        ([], ["n-1 is gone"]),
        ([replace(RUNS, uid="v")], ["n-1 was removed and made anew"]),
        ([replace(RUNS, phase="being deleted")], ["n-1 is being deleted"]),
        (
            [replace(RUNS, phase="Failed", reasons=("Evicted: the node was low on memory",))],
            ["n-1 is Failed: Evicted: the node was low on memory"],
        ),
        (
            [replace(RUNS, restarts={"node": 1, "agent": 0}, ends={"node": "it exited with status 137 (OOMKilled)"})],
            ["the container node of n-1 was started again: it exited with status 137 (OOMKilled)"],
        ),
    ],
)
def test_what_spoils_a_measurement_is_named(now: list[Pod], told: list[str]) -> None:
    """A Pod that was removed, replaced, evicted or started again; that it is less than ready is no such thing."""
    assert told == incidents([RUNS], now)


def test_how_a_container_ended_last_is_read() -> None:
    """From the status that the cluster keeps of it."""
    ended = SimpleNamespace(exit_code=137, reason="OOMKilled")
    one = SimpleNamespace(
        name="node",
        state=None,
        image_id="",
        restart_count=2,
        last_state=SimpleNamespace(terminated=ended),
    )
    pod = _pod(told(container_statuses=[one]))

    assert {"node": 2} == pod.restarts
    assert {"node": "it exited with status 137 (OOMKilled)"} == pod.ends


def test_a_process_is_known_again() -> None:
    """It lives, until another has its number; of another machine nobody here can tell."""
    this = Process.this()
    with subprocess.Popen(["sleep", "60"]) as other:
        there = Process(this.where, other.pid, psutil.Process(other.pid).create_time())
        lived = there.lives
        other.kill()

    assert this == Process.read(str(this))
    assert [True, True, False] == [this.lives, lived, there.lives]
    assert not replace(this, started=this.started - 100).lives
    assert replace(this, where="elsewhere").lives is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"where": 1}', '{"where": "a", "pid": "x", "started": 1}'])
def test_an_annotation_of_somebody_else_is_no_process(text: str) -> None:
    """Then only how long its owner was silent counts."""
    assert Process.read(text) is None


@pytest.mark.parametrize(
    "lives, silent_s, gone",
    [(True, 10**6, False), (False, 0.0, True), (None, 59.0, False), (None, 61.0, True)],
)
def test_who_is_gone(lives: bool | None, silent_s: float, gone: bool) -> None:
    """Its own machine knows; one of another machine is gone when it was silent for too long."""
    this = Process.this()
    process = {
        True: this,
        False: replace(this, started=this.started - 100),
        None: replace(this, where="elsewhere"),
    }[lives]

    assert gone == Owner("o", process, silent_s).gone(60.0)


@pytest.fixture
def echo() -> Iterator[int]:
    """A port at which a server says back what it hears, once a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with closing(connection):
                    connection.sendall(connection.recv(100).upper())

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


def _asked(path: Path, text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as here:
        here.settimeout(10)
        here.connect(str(path))
        try:
            here.sendall(text)
            return here.recv(100)
        except ConnectionError:
            return b""


def test_a_port_is_forwarded_a_stream_for_each_connection(tmp_path: Path, echo: int) -> None:
    """Bytes go both ways, several connections do not mix, and at the end nothing listens any more."""
    path = tmp_path / "s"
    with forwarded(path, lambda: closing(socket.create_connection(("127.0.0.1", echo)))) as url:
        answers = [_asked(path, text) for text in (b"one", b"two")]

    assert f"unix:{path}" == url
    assert [b"ONE", b"TWO"] == answers
    assert not path.exists()


def test_a_stream_that_cannot_be_opened_breaks_the_connection_alone(tmp_path: Path, echo: int) -> None:
    """Whoever asked sees it; the next one is served."""
    opened = iter([None, echo])

    def open_stream() -> closing[socket.socket]:
        port = next(opened)
        if port is None:
            raise RuntimeError("the API server is away")
        return closing(socket.create_connection(("127.0.0.1", port)))

    with forwarded(tmp_path / "s", open_stream):
        assert b"" == _asked(tmp_path / "s", b"one")
        assert b"TWO" == _asked(tmp_path / "s", b"two")


def test_a_pods_interface_counts_its_bytes(tmp_path: Path) -> None:
    """Received and sent, as the kernel tells; an interface that is not there is an error that names it."""
    folder = tmp_path / "eth0" / "statistics"
    folder.mkdir(parents=True)
    (folder / "rx_bytes").write_text("12\n")
    (folder / "tx_bytes").write_text("34\n")

    assert (12, 34) == Interface("eth0", tmp_path).read()
    with pytest.raises(AgentError, match="the bytes of eth9 cannot be read"):
        Interface("eth9", tmp_path)
