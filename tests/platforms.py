"""Argo Workflows and Argo CD under the tests of what is deployed with them."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusters import KUBE, OURS, TESTS, Kube

IMAGE = "localhost/codexbench-argo:test"
STORE = "http://store.store.svc.cluster.local"
WORKLOADS = (
    ("store", "deploy/store"),
    ("argo", "deploy/workflow-controller"),
    ("argocd", "deploy/argocd-redis"),
    ("argocd", "deploy/argocd-repo-server"),
    ("argocd", "deploy/argocd-applicationset-controller"),
    ("argocd", "statefulset/argocd-application-controller"),
)
AUTHOR = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
DEPLOY = TESTS.parent / "deploy"


class Platform:
    """A cluster with both Argos in it."""

    def __init__(self, kube: Kube, scratch: Path) -> None:
        programs = subprocess.run(
            [KUBE, "programs", "--argo"], env=OURS, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
        self.kube, self.scratch, self.programs = kube, scratch, Path(programs)

    def install(self, source: Path) -> None:
        """Put them into the cluster, from their authors' manifests and the kustomizations of these tests."""
        folder = self.scratch / "install"
        shutil.copytree(source, folder)
        # kustomize takes what is beside it, by its relative name
        shutil.copytree(self.programs / "manifests", folder / "manifests")
        for part in ("workflows", "cd"):
            # what a client would note of its own apply is too small for the definition of ApplicationSets
            self.kube.kubectl("apply", "--server-side", "-k", str(folder / part))
        self.kube.kubectl("apply", "-f", str(folder / "store" / "store.yaml"))
        self.kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        key = {"stringData": {"server.secretkey": secrets.token_hex(32)}}
        self.kube.kubectl("-n", "argocd", "patch", "secret", "argocd-secret", "-p", json.dumps(key))
        self.kube.kubectl("apply", "-f", str(folder / "cd" / "project.yaml"))
        for namespace, what in WORKLOADS:
            self.kube.kubectl("-n", namespace, "rollout", "status", what, "--timeout=180s")

    def argo(self, *arguments: str) -> str:
        """What Argo Workflows' own command prints."""
        done = subprocess.run(
            [self.programs / "argo", "-n", "codexbench", *arguments],
            env=self.kube.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()

    def in_store(self, *argv: str, given: bytes | None = None) -> bytes:
        """What a program in the store's Pod prints."""
        where = ["kubectl", "exec", "-n", "store", "-i", "deploy/store", "--"]
        done = subprocess.run([*where, *argv], env=self.kube.env, input=given, capture_output=True, check=False)
        assert 0 == done.returncode, done.stderr.decode()
        return done.stdout

    def artifact(self, workflow: str, step: str, name: str) -> bytes:
        """An artifact of a step, out of the store."""
        folder = f"/data/artifacts/codexbench/{workflow}"
        found = self.in_store("find", folder, "-name", name, "-path", f"*-{step}-*").decode().split()
        assert found, self.in_store("find", "/data/artifacts").decode()
        return self.in_store("cat", found[-1])

    def look(self, namespace: str, kind: str, name: str) -> dict[str, Any]:
        """An object, as it is now; empty if it is not there."""
        told = self.kube.kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        found: dict[str, Any] = json.loads(told) if told else {}
        return found


class Repository:
    """A repository that the store serves, and a work tree of it in the store's Pod."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform, self.tree = platform, f"/data/trees/{name}"
        self.url = f"{STORE}/git/{name}.git"
        bare = f"/data/git/{name}.git"
        platform.in_store("git", "init", "-q", "--bare", "-b", "main", bare)
        platform.in_store("git", "init", "-q", "-b", "main", self.tree)
        platform.in_store("git", "-C", self.tree, "remote", "add", "origin", bare)

    def commit(self, files: Mapping[str, str | Path], remove: Sequence[str] = ()) -> str:
        """A commit with these files, or folders of the checkout, in the tree; its hash."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, content in files.items():
                if isinstance(content, Path):
                    tar.add(content, path)
                    continue
                entry = tarfile.TarInfo(path)
                entry.size = len(content.encode())
                tar.addfile(entry, io.BytesIO(content.encode()))
        put = self.platform.in_store
        if remove:
            put("git", "-C", self.tree, "rm", "-qr", *remove)
        put("tar", "x", "--no-same-owner", "-C", self.tree, given=archive.getvalue())
        put("git", "-C", self.tree, "add", "-A")
        put("git", "-C", self.tree, *AUTHOR, "commit", "-qm", "as the test wants it")
        put("git", "-C", self.tree, "push", "-q", "origin", "main")
        return put("git", "-C", self.tree, "rev-parse", "main").decode().strip()


def until(what: str, happens: Callable[[], object], within_s: float, told: Callable[[], object] = str) -> None:
    """Wait for something; what there is instead is told if it is not within that time."""
    deadline = time.monotonic() + within_s
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s: {told()}"
        time.sleep(0.5)
