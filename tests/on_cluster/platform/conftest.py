"""Argo Workflows and Argo CD in the cluster of these tests, with a store for Git and for artifacts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from clusters import KUBE, OURS, Images, Machine
from platforms import IMAGE, Platform

# Not even collected without being asked for: the programs take some minutes more to build.
if "CODEXBENCH_PLATFORM" not in os.environ:
    collect_ignore_glob = ["test_*.py"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def argo_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image for all Pods of both, and for the store."""
    file = tmp_path_factory.mktemp("argo") / "argo.tar"
    store = HERE / "install" / "store" / "server.py"
    subprocess.run(
        [KUBE, "image", "--argo", file, IMAGE, "--layer", f"{store}:/opt/store/server.py"], env=OURS, check=True
    )
    return file


@pytest.fixture(scope="session")
def platform(machine: Machine, images: Images, argo_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A cluster of one node with both Argos in it; it goes with the session's machine."""
    if "KUBECONFIG" in OURS:
        pytest.skip("it installs Argo, and the cluster of KUBECONFIG is somebody's")
    kube = machine.with_()
    subprocess.run([KUBE, "load", argo_image], env=OURS, check=True)
    found = Platform(kube, tmp_path_factory.mktemp("platform"))
    found.install(HERE / "install")
    return found
