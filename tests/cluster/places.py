"""Where everything is: the folders, names and addresses that a cluster and its nodes agree on."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent

# --- on the machine ---------------------------------------------------------------------------------------------------

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codexbench"
"""What `build` made; it stays."""

STATE = Path("/var/lib/codexbench-kubernetes")
"""What a cluster has on disk; `down` removes it. It is one place a machine, so that remains are always found."""

CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "codexbench-kubernetes"
"""The control group, in each hierarchy, that every process of a cluster is in: so `down` finds them all."""

PORT = 16443
"""The API server's, on 127.0.0.1: all of a cluster that the machine's own network has. Not one of those that the kernel
gives to outgoing connections, else one could take it while the API server is stopped."""

# --- in a node --------------------------------------------------------------------------------------------------------

SHARED = Path("/run/cluster")
"""`STATE`, as a node sees it."""
OWN = Path("/run/node")
"""Files of one node, in memory."""
PROGRAMS = Path("/opt/kubernetes")
CODE = Path("/opt/tests/cluster")
"""This folder, as a node sees it."""
CONTAINERD = Path("/run/containerd/containerd.sock")

# These addresses exist in the nodes' own networks alone. Those have no way out and no default route, so that no packet
# of a cluster can leave the machine, and nothing on it can be in their way.
NODE_NET = "10.80.0"
POD_NET = "10.81"
SERVICE_NET = "10.82"
DNS = f"{SERVICE_NET}.0.10"
API = f"https://{NODE_NET}.1:6443"


def node_name(index: int) -> str:
    """What Kubernetes calls it."""
    return f"node{index}"


def node_address(index: int) -> str:
    """Its address among the nodes."""
    return f"{NODE_NET}.{index + 1}"


def pod_net(index: int) -> str:
    """The addresses of the Pods of a node."""
    return f"{POD_NET}.{index}.0/24"
