"""Puts images into the nodes of a cluster, which have no registry to pull them from."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cluster.members import first, nodes
from cluster.places import STATE, node_name
from cluster.progress import Failed

CTR = ("ctr", "--namespace", "k8s.io")


def load(images: Sequence[Path]) -> None:
    """Put each image into every node that runs.

    Raises:
        Failed: if there is no cluster, or a node does not take one.
    """
    running = [node for node in nodes() if first(node)]
    if not running:
        raise Failed("there is no cluster to load images into: bring one up")
    for image in images:
        finish([begin(node, image) for node in running])


Loading = tuple[int, Path, subprocess.Popen[str]]


def begin(node: int, image: Path) -> Loading:
    """Start to put an image into a node; ``finish`` waits for it."""
    pid = first(node)
    if pid is None:
        raise Failed(f"{node_name(node)} does not run; its log is in {STATE}/log")
    # a node sees none of the machine's files, so it is handed this one open
    with image.open("rb") as file:
        argv = ["nsenter", "--target", str(pid), "--mount", "--pid", *CTR, "images", "import", "-"]
        process = subprocess.Popen(argv, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return node, image, process


def finish(loadings: Sequence[Loading]) -> None:
    """Wait for all of them.

    Raises:
        Failed: if a node did not take its image.
    """
    for node, image, process in loadings:
        output, _ = process.communicate()
        if process.returncode:
            raise Failed(f"{node_name(node)} did not take {image}: {output.strip()[-500:]}")


def takes_images(node: int) -> bool:
    """Whether the node's containerd answers."""
    pid = first(node)
    if pid is None:
        return False
    argv = ["nsenter", "--target", str(pid), "--mount", "--pid", *CTR, "version"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
