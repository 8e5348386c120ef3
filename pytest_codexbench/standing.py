"""Clusters that stand, for Argo CD to deploy from Git: a file for each shape of a matrix, and the ApplicationSet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_codexbench.backends.kubernetes.release import chart_of
from pytest_codexbench.backends.kubernetes.values import image_values, values_of
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Matrix, Shape
from pytest_codexbench.options import Asked, read_options

CELLS = "cells"
SET = "applicationset.yaml"
HEAD = "# Made by `codexbench emit applicationset`: make it anew, or change it by hand and keep it.\n"
RELEASE = "swarm"
# A repository that Argo CD can fetch, a branch or commit, a folder in it.
REPOSITORY = re.compile(r"(https?|ssh|git)://[^\s'\"{}]+|[\w.-]+@[\w.-]+:[^\s'\"{}]+")
WORD = re.compile(r"[\w./-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """Where Argo CD finds the charts and the cell files: ``path`` is the folder that was written, in the repository."""

    repository: str
    revision: str
    path: str
    charts: str = "charts"

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repository):
            raise WrongInput(
                f"--repository={self.repository}: the address of a Git repository is needed, as in https://git.example/bench.git"
            )
        for name, text in (("revision", self.revision), ("path", self.path), ("charts", self.charts)):
            if not WORD.fullmatch(text) or ".." in text:
                raise WrongInput(f"--{name}={text}: letters, digits, dots, dashes and slashes alone, and no ..")


def write(asked: Asked, source: Source, folder: Path, self_heal: bool) -> list[Path]:
    """Write the ApplicationSet and a file for each cluster of the matrix; those of clusters that it lacks are removed.

    Raises:
        WrongInput: as options do; if a system has no chart; if the folder has files of somebody else's.
    """
    import yaml

    options = read_options(asked)
    cells = folder / CELLS
    files = {f"{name}.yaml": content for name, content in _clusters(options.matrix, asked, self_heal).items()}
    strangers = [path for path in sorted(cells.glob("*")) if path.name not in files and not _ours(path)]
    if strangers:
        raise WrongInput(f"--output={folder}: {strangers[0]} was not made by this command; give a folder of its own")
    cells.mkdir(parents=True, exist_ok=True)
    for path in cells.glob("*"):
        if path.name not in files:
            path.unlink()
    documents = {folder / SET: _set(options.matrix.name, source), **{cells / name: one for name, one in files.items()}}
    for path, document in documents.items():
        path.write_text(HEAD + yaml.safe_dump(document, sort_keys=False, width=120), encoding="utf-8")
    return list(documents)


def _ours(path: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(HEAD)


def _clusters(matrix: Matrix, asked: Asked, self_heal: bool) -> dict[str, dict[str, Any]]:
    """The content of each file, by the cluster's name: one a shape, with room for the matrix's largest file."""
    found: dict[str, dict[str, Any]] = {}
    for link in matrix.links:
        for nodes in sorted({nodes for nodes, _ in matrix.pairs}):
            for variant in matrix.variants:
                shape = Shape(variant, nodes, link)
                name = re.sub(r"[^a-z0-9]+", "-", str(shape).lower())
                found[name] = _cluster(name, shape, max(matrix.sizes), asked, self_heal)
    return found


def _cluster(name: str, shape: Shape, largest: int, asked: Asked, self_heal: bool) -> dict[str, Any]:
    if chart_of(shape.variant.system) is None:
        raise WrongInput(f"{shape}: there is no chart of {shape.variant.system}")
    values = {**values_of(shape, largest), "cell": str(shape).lower()}
    if image := asked("agent-image"):
        values["agent"] = {"image": image_values(image)}
    if registry := asked("image-registry"):
        values["imageRegistry"] = registry
    return {"name": name, "chart": shape.variant.system, "selfHeal": self_heal, "values": values}


def _set(matrix: str, source: Source) -> Mapping[str, Any]:
    name = f"codexbench-{re.sub(r'[^a-z0-9]+', '-', matrix.lower()).strip('-')}"[:60].rstrip("-")
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": name, "namespace": "argocd"},
        "spec": {
            "goTemplate": True,
            "goTemplateOptions": ["missingkey=error"],
            "generators": [
                {
                    "git": {
                        "repoURL": source.repository,
                        "revision": source.revision,
                        "requeueAfterSeconds": 60,
                        "files": [{"path": f"{source.path.strip('/')}/{CELLS}/*.yaml"}],
                    }
                }
            ],
            "template": {
                "metadata": {
                    "name": "codexbench-{{ .name }}",
                    "labels": {"app.kubernetes.io/part-of": "codexbench"},
                    # what is deployed goes with its Application
                    "finalizers": ["resources-finalizer.argocd.argoproj.io"],
                },
                "spec": {
                    "project": "default",
                    "source": {
                        "repoURL": source.repository,
                        "targetRevision": source.revision,
                        "path": f"{source.charts.strip('/')}/{{{{ .chart }}}}",
                        "helm": {"releaseName": RELEASE, "values": "{{ toJson .values }}"},
                    },
                    "destination": {
                        "server": "https://kubernetes.default.svc",
                        "namespace": "standing-{{ .name }}",
                    },
                    # the chart draws a token at random, anew at each look; the first one stays
                    "ignoreDifferences": [{"kind": "Secret", "name": RELEASE, "jsonPointers": ["/data/token"]}],
                    "syncPolicy": {"syncOptions": ["CreateNamespace=true", "RespectIgnoreDifferences=true"]},
                },
            },
            # off in a cell's file while faults are injected: what is killed or cut is then left as it is
            "templatePatch": (
                "spec:\n  syncPolicy:\n    automated:\n      prune: true\n      selfHeal: {{ .selfHeal }}\n"
            ),
        },
    }
