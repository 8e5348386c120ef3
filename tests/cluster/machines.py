"""The nodes, as machines that are switched on and off."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from cluster import build
from cluster.members import first, make_group, members, nodes, spawn
from cluster.places import HERE, STATE, node_name
from cluster.progress import Failed, wait

APART = ("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child")
ON_S = 30.0
OFF_S = 20.0


def switch_on(node: int) -> None:
    """Start a node, and plug it into the network of the first one, which must be on.

    Raises:
        Failed: if it does not start.
    """
    name = node_name(node)
    if first(node) is not None:
        raise Failed(f"{name} runs already")
    wired = STATE / name / "wired"
    wired.unlink(missing_ok=True)
    make_group(name)
    debian, programs = build.node().get() / "root", build.programs().get()
    arguments = [str(node), str(len(nodes())), str(debian), str(programs), str(STATE)]
    spawn(name, [*APART, str(HERE / "enter"), *arguments], log_of(node))
    wait(f"{name}, as a process", ON_S, lambda: first(node) is not None, log_of(node))
    if node:
        _plug_in(node)
    wait(f"{name}, in the network", ON_S, wired.exists, log_of(node))


def _plug_in(node: int) -> None:
    """Put a cable between a node and the bridge in the first one."""
    switch, end = first(0), first(node)
    if switch is None or end is None:
        raise Failed(f"{node_name(node)} cannot be connected: it does not run, or {node_name(0)} does not")
    argv = ["nsenter", "--target", str(switch), "--net", "ip", "link", "add", f"to-{node_name(node)}", "up"]
    argv += ["master", "nodes", "type", "veth", "peer", "name", "eth0", "netns", str(end)]
    run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if run.returncode:
        raise Failed(f"{node_name(node)} cannot be connected: {run.stdout.strip()}")


def switch_off(node: int) -> None:
    """End all that runs on a node at once, as when a machine loses its power; its disk stays.

    Raises:
        Failed: if there is no such node, or it is the first, whose control plane has nothing on disk.
    """
    if node not in nodes()[1:]:
        others = ", ".join(map(node_name, nodes()[1:])) or "none"
        raise Failed(f"{node_name(node)} cannot be stopped; these can: {others}")
    pid = first(node)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    wait(f"the end of {node_name(node)}", OFF_S, lambda: not any(members(node_name(node))), log_of(node))


def log_of(node: int) -> Path:
    """What the node itself has to say; each of its programs has a log of its own beside it."""
    return STATE / "log" / node_name(node)
