"""Brings a cluster up.

etcd, the API server, the controllers, the scheduler and CoreDNS run on node0; containerd, kubelet and kube-proxy on
every node. A node is a set of processes in namespaces of its own (mount, net, pid, uts, ipc): as with kind, but without
Docker.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cluster import api, build
from cluster.certificates import certify_all
from cluster.down import down
from cluster.image import write_pause
from cluster.load import begin, finish, takes_images
from cluster.machines import log_of, switch_on
from cluster.members import first, hierarchies, members, nodes
from cluster.places import DNS, HERE, PORT, STATE, node_address, node_name
from cluster.progress import Failed, say, wait

CONTAINERD_S = 60.0
NODES_S = 120.0
INOTIFY_OF_NODE = 12
"""A node's programs hold about ten inotify instances."""
UP = STATE / "up"


def up(count: int, images: Sequence[Path], kubeconfig: Path | None = None, usual_burst: bool = False) -> Path:
    """Bring a cluster up and return the administrator's kubeconfig.

    Raises:
        Failed: if one is up already. If it does not come up, what there is of it is left to be looked at.
    """
    _check(count, images)
    if is_up():
        raise Failed(f"a cluster is up: take it down first ({HERE}/kube down)")
    if STATE.exists() or any(members()):
        say("first taking down what is left of another cluster")
    down()
    _check_is_free(kubeconfig)

    for node in range(count):
        (STATE / node_name(node)).mkdir(parents=True)
    for folder in ("log", "stopped"):
        (STATE / folder).mkdir()
    (STATE / "shaper").write_text("bandwidth" if usual_burst else "shape")
    config = certify_all(STATE / "pki", count)
    path = _hand_out(config, kubeconfig or STATE / "admin.conf")
    write_pause(STATE / "pause.tar")
    say("certificates are made")

    for node in range(count):
        switch_on(node)
    api.open_door()
    say(f"{count} node(s) are on")

    # The API server takes longer to come up than images take to load.
    for node in range(count):
        wait(f"containerd on {node_name(node)}", CONTAINERD_S, partial(takes_images, node), log_of(node))
    loadings = [begin(node, image) for image in (STATE / "pause.tar", *images) for node in range(count)]
    api.wait_until_ready()
    say("the API server is ready")
    _apply_addons(path)
    finish(loadings)
    say(f"{len(images)} image(s) are loaded")

    kubelet = STATE / "log" / f"{node_name(count - 1)}-kubelet"
    wait(f"{count} node(s)", NODES_S, lambda: api.ready_nodes() == count, kubelet)
    # without it no Pod is admitted
    account = "/api/v1/namespaces/default/serviceaccounts?fieldSelector=metadata.name=default"
    wait("the default service account", NODES_S, lambda: '"name":"default"' in api.ask(account), api.LOG)
    UP.touch()
    say("all nodes are ready")
    return path


def is_up() -> bool:
    """Whether there is a whole cluster: remains of one, or one of which something was stopped, are none."""
    return UP.exists() and all(first(node) is not None for node in nodes()) and api.is_ready()


def _check(count: int, images: Sequence[Path]) -> None:
    if os.geteuid() != 0:
        raise Failed("namespaces and mounts of nodes take root: run this as root")
    hierarchies()
    for program in ("ip", "nsenter", "openssl", "socat", "unshare"):
        if shutil.which(program) is None:
            raise Failed(f"`{program}` is not there: {HERE}/kube build installs what is missing")
    for part in (build.node(), build.base(), build.programs()):
        part.get()
    most = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text()) // INOTIFY_OF_NODE
    if not 1 <= count <= most:
        raise Failed(f"{count} nodes: 1 to {most} will do, or more after sysctl -w fs.inotify.max_user_instances=1024")
    for image in images:
        if not image.is_file():
            raise Failed(f"{image} is not there: {HERE}/kube image makes images")


def _check_is_free(kubeconfig: Path | None) -> None:
    # of another cluster, it would have gone with that
    if kubeconfig and kubeconfig.exists():
        raise Failed(f"{kubeconfig} is there already, and not from here: name another file, `down` removes it")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", PORT))
        except OSError as error:
            raise Failed(f"127.0.0.1:{PORT}, for the API server, is taken: {error}") from error


def _hand_out(config: str, path: Path) -> Path:
    path = path.absolute()
    # first noted and then made, so that `down` finds it whatever happens in between
    (STATE / "kubeconfig").write_text(str(path))
    path.touch(mode=0o600)
    path.write_text(config)
    return path


def _apply_addons(kubeconfig: Path) -> None:
    text = (HERE / "addons.yaml").read_text().replace("DNS_IP", DNS).replace("NODE_IP", node_address(0))
    kubectl = [str(build.programs().get() / "kubectl"), f"--kubeconfig={kubeconfig}"]
    run = subprocess.run([*kubectl, "apply", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if run.returncode:
        raise Failed(f"the cluster's own services were refused: {run.stderr.strip()}")
