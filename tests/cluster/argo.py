"""Argo Workflows and Argo CD for a cluster of the tests: their programs, their manifests, an image that holds them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from cluster import build, image
from cluster.build import Part, link_values, listed_packages, make_debian, output, versions_in
from cluster.places import CACHE, HERE
from cluster.progress import follow

WORKFLOWS, CD = "github.com/argoproj/argo-workflows/v3", "github.com/argoproj/argo-cd/v3"
TARGETS = {
    WORKFLOWS: ("cmd/workflow-controller", "cmd/argoexec", "cmd/argo"),
    CD: ("cmd",),
}
SOURCES = HERE / "go-argo"
COMPILED = CACHE / "kubernetes-argo.compiled"
"""The compiler's cache: gone once the programs are there."""

# What is one program under several names: by its name it knows which part of Argo CD it is.
CD_NAMES = ("application-controller", "applicationset-controller", "repo-server", "cmp-server", "git-ask-pass")
IMAGE_PACKAGES = (*build.IMAGE_PACKAGES, "git", "redis-server", "tini")
USER = "999"
HOME = "/home/argocd"
PASSWD = f"root:x:0:0:root:/root:/bin/bash\nargocd:x:{USER}:{USER}::{HOME}:/bin/bash\n"

# The CLI embeds a web interface that is made by other tools, and is in no module.
NO_INTERFACE = "<!doctype html><title>argo</title>\n"
# labels.Labels has had this method since Kubernetes 0.34.
LOOKUP = """\
package executor

func (g gjsonLabels) Lookup(label string) (string, bool) { return g.Get(label), g.Has(label) }
"""


def parts() -> tuple[Part, ...]:
    """All that has to be made for it, once."""
    return programs(), base()


def base() -> Part:
    """The root file system of the image, as ``base.tar``: Debian with Python, git and Redis."""
    return make_debian("argo-base", "base.tar", IMAGE_PACKAGES)


def programs() -> Part:
    """``workflow-controller``, ``argoexec``, ``argo``, ``argocd``, and the ``manifests`` that their authors ship."""
    text = (SOURCES / "go.mod").read_text()
    versions = versions_in(text)
    told = {
        WORKFLOWS: {
            f"{WORKFLOWS}.version": versions[WORKFLOWS],
            f"{WORKFLOWS}.gitTag": versions[WORKFLOWS],
            f"{WORKFLOWS}.gitTreeState": "clean",
        },
        CD: {f"{CD}/common.version": versions[CD].removeprefix("v"), f"{CD}/common.gitTreeState": "clean"},
    }

    def make(folder: Path) -> None:
        work = folder / "work"
        shutil.copytree(SOURCES, work / "module")
        env = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(COMPILED), "GOGC": "400"}
        _copy_workflows(work / "argo-workflows", versions[WORKFLOWS], env)
        _copy_manifests(folder / "manifests", work / "argo-workflows", _module(CD, versions[CD], env))
        for module, names in TARGETS.items():
            targets = [f"{module}/{name}" for name in names]
            options = ["-buildvcs=false", "-trimpath", "-ldflags", link_values(told[module])]
            packages = listed_packages(targets, work / "module", env)
            follow(
                f"{module.split('/')[2]}: compiling",
                ["go", "build", "-v", *options, "-o", f"{folder}/", *targets],
                partial(_compiled, packages),
                work / "module",
                env,
            )
        (folder / "cmd").rename(folder / "argocd")
        shutil.rmtree(work)
        shutil.rmtree(COMPILED, ignore_errors=True)

    sources = [part for path in sorted(SOURCES.iterdir()) for part in (path.name, path.read_text())]
    return Part("argo", [*sources, str(told), str(TARGETS), NO_INTERFACE, LOOKUP, output(["go", "version"])], make)


def _compiled(most: int, lines: Sequence[str]) -> str:
    return f"{len(lines)} of at most {most} packages, then linking"


def _module(module: str, version: str, env: Mapping[str, str]) -> Path:
    """The folder of a module's sources, in Go's own cache."""
    # asked outside of any module, which could replace it
    lines = follow(
        f"{module}: fetching",
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        lambda lines: f"{len(lines)} lines",
        Path("/"),
        env,
    )
    return Path(json.loads("\n".join(lines))["Dir"])


def _copy_workflows(copy: Path, version: str, env: Mapping[str, str]) -> None:
    """Workflows' sources with what a module cannot hold: a symbolic link, and what is made by other tools."""
    shutil.copytree(
        _module(WORKFLOWS, version, env), copy, ignore=shutil.ignore_patterns("docs", "examples"), dirs_exist_ok=True
    )
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    interface = copy / "ui" / "dist" / "app"
    interface.mkdir(parents=True)
    (interface / "index.html").write_text(NO_INTERFACE)
    executor = copy / "workflow" / "executor"
    # in the repository the former is a link to the latter
    shutil.copy(executor / "osspecific" / "signal_darwin.go", executor / "osspecific" / "signal_linux.go")
    (executor / "labels_lookup.go").write_text(LOOKUP)


def _copy_manifests(folder: Path, workflows: Path, cd: Path) -> None:
    for name, source in (("workflows", workflows), ("cd", cd)):
        shutil.copytree(source / "manifests", folder / name)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def write_image(path: Path, name: str, layers: Sequence[image.Layer] = ()) -> None:
    """One image for all Pods of both and for what serves their tests: Git, Redis, Python, and the programs on top."""
    found = programs().get()
    helm = build.programs().get() / "helm"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        root = Path(scratch)
        for folder in ("app/config/ssh", "app/config/tls", "app/config/gpg/source", "app/config/gpg/keys", HOME[1:]):
            (root / folder).mkdir(parents=True)
        (root / "usr/local/bin").mkdir(parents=True)
        for part in CD_NAMES:
            (root / f"usr/local/bin/argocd-{part}").symlink_to("argocd")
        passwd = root.with_name(f"{root.name}.passwd")
        passwd.write_text(PASSWD)
        try:
            own = [image.Layer(root), image.Layer(passwd, PurePosixPath("/etc/passwd"))]
            bins = PurePosixPath("/usr/local/bin")
            own += [image.Layer(found / each, bins / each) for each in ("workflow-controller", "argoexec", "argocd")]
            own += [image.Layer(helm.resolve(), bins / "helm"), *layers]
            # its Pods run as this user, and git and Redis want to know who that is
            config = image.Config(user=USER, folder=HOME, env={"USER": "argocd", "HOME": HOME})
            image.write_image(path, name, own, config, base=base())
        finally:
            passwd.unlink()
