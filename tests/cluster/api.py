"""The API server, as the machine sees it: one loopback port."""

from __future__ import annotations

import json
import os
import signal
import ssl
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection

from cluster.members import end, make_group, running, spawn
from cluster.places import PORT, STATE, node_name
from cluster.progress import wait

SERVER = "kube-apiserver"
LOG = STATE / "log" / f"{node_name(0)}-{SERVER}"
STOPPED = STATE / "stopped" / SERVER
DOOR = "door"
"""The control group of the one program that listens on the machine's own loopback address."""
READY_S = 120.0
ANSWER_S = 5.0
GONE_S = 10.0


def open_door() -> None:
    """Lead the port to the API server: through a socket in a file, as the nodes' networks are out of reach."""
    make_group(DOOR)
    end(DOOR)
    listen = f"TCP-LISTEN:{PORT},bind=127.0.0.1,fork,reuseaddr,backlog=128"
    spawn(DOOR, ["socat", listen, f"UNIX-CONNECT:{STATE}/api.sock"], STATE / "log" / DOOR)


def stop() -> None:
    """End the API server, without warning, and keep it down: from now on connections are refused.

    Everything else runs on, as it does when a real one is down.
    """
    STOPPED.touch()
    end(DOOR)
    for pid in running(node_name(0), SERVER):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait("the end of the API server", GONE_S, lambda: not running(node_name(0), SERVER), LOG)


def start() -> None:
    """Let the API server come back, and wait until it is ready."""
    STOPPED.unlink(missing_ok=True)
    open_door()
    wait_until_ready()


def wait_until_ready() -> None:
    """Wait for the API server.

    Raises:
        Failed: with the end of its log, if it does not come up.
    """
    wait("the API server", READY_S, is_ready, LOG)


def is_ready() -> bool:
    """Whether it answers, and says that it is ready."""
    try:
        ask("/readyz")
    except OSError:
        return False
    return True


def ask(path: str) -> str:
    """What it says to the administrator.

    Raises:
        OSError: if it does not answer, or answers with an error.
    """
    pki = STATE / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    # not urllib: a proxy of the machine's environment has no part in this
    connection = HTTPSConnection("127.0.0.1", PORT, timeout=ANSWER_S, context=context)
    with closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except HTTPException as error:
            raise OSError(f"GET {path}: {error!r}") from error
    if answer.status != HTTPStatus.OK:
        raise OSError(f"GET {path}: {answer.status}: {text[:200]}")
    return text


def ready_nodes() -> int:
    """How many nodes have joined, and can take Pods.

    Raises:
        OSError: if it is not known, as the API server does not answer.
    """
    conditions = [node["status"].get("conditions", []) for node in json.loads(ask("/api/v1/nodes"))["items"]]
    return sum({"type": "Ready", "status": "True"}.items() <= one.items() for node in conditions for one in node)
