"""Makes what a cluster is made of and keeps it: Kubernetes' programs, a node's Debian, the Debian of images."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.places import CACHE, HERE
from cluster.progress import Failed, alone, follow, say, timed

DEBIAN = "bookworm"
PACKAGE_OF = {"ip": "iproute2", "mmdebstrap": "mmdebstrap", "openssl": "openssl", "socat": "socat"}
"""Programs that the machine itself must have, and the Debian packages that hold them."""

NODE_PACKAGES = (
    "catatonit",  # the "pause" of every Pod: static, and smaller than a Go program would be
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "iproute2",
    "iptables",  # for the CNI plugin `portmap`
    "kmod",
    "libpython3-stdlib",
    "mount",  # kubelet mounts volumes with it, and Debian's essential packages lack it
    "nftables",
    "procps",
    "python3-minimal",
    "runc",
    "socat",
)
IMAGE_PACKAGES = (
    "ca-certificates",
    "iproute2",
    "libpython3-stdlib",
    "libstdc++6",  # manylinux wheels may expect it of the system, and those of libtorrent do
    "netbase",
    "python3-minimal",
)
PROGRAMS_IN_ONE = (
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
HELM = "helm.sh/helm/v3"
COMPILED = CACHE / "kubernetes-programs.compiled"
"""The compiler's cache: one of its own, as it is 3.4 GB and of no use once the programs are there."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is made once and then kept, under a hash of what it is made from."""

    name: str
    made_from: Sequence[str]
    make: Callable[[Path], None]

    @property
    def folder(self) -> Path:
        """Where it is, once it is made."""
        key = hashlib.sha256("\0".join(self.made_from).encode()).hexdigest()[:16]
        return CACHE / f"kubernetes-{self.name}-{key}"

    def get(self) -> Path:
        """The folder it is in.

        Raises:
            Failed: if it was not made yet.
        """
        if not self.folder.is_dir():
            raise Failed(f"{self.name} is not built ({self.folder} is not there): run {HERE}/kube build")
        return self.folder


def build(more: Sequence[Part] = ()) -> None:
    """Make what is missing. A second build at the same time waits for the first, and finds all done."""
    with timed("build"), alone(CACHE / "kubernetes.build.lock", "build"):
        for part in (node(), base(), programs(), *more):
            if part.folder.is_dir():
                say(f"{part.name}: there already, {part.folder}")
                continue
            _system_packages()
            with timed(part.name):
                _make(part)
        # only now: if this build is killed, the next one goes on from there
        shutil.rmtree(COMPILED, ignore_errors=True)


def _make(part: Part) -> None:
    unfinished = part.folder.with_suffix(".new")
    # what a build that was killed had made so far; nothing is mounted in it, as mounts end with their build
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    part.make(unfinished)
    unfinished.rename(part.folder)


def _system_packages() -> None:
    missing = sorted({package for program, package in PACKAGE_OF.items() if shutil.which(program) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Failed(f"not installed: {' '.join(missing)}; as root on Debian or Ubuntu, build installs them itself")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    with timed(f"installing {' '.join(missing)}"):
        try:
            follow("apt-get update", [*apt, "update"], _last, env=env)
        except Failed as failed:
            # one source of several may be out of order, and not be the one that is needed
            say(str(failed))
        follow("apt-get install", [*apt, "install", "-y", "--no-install-recommends", *missing], _last, env=env)


def _last(lines: Sequence[str]) -> str:
    return f"{len(lines)} lines, the last: {lines[-1][:100]}" if lines else "nothing written yet"


# --- Debian ---------------------------------------------------------------------------------------------------------


def node() -> Part:
    """The root file system of a node, in its folder ``root``."""
    return make_debian("node", "root", NODE_PACKAGES)


def base() -> Part:
    """The root file system of images with Python 3.11, as ``base.tar``."""
    return make_debian("base", "base.tar", IMAGE_PACKAGES)


def make_debian(name: str, tree: str, packages: Sequence[str]) -> Part:
    """A root file system of Debian with these packages, called ``tree`` in its folder: a folder, or a .tar."""
    argv = ["mmdebstrap", "--variant=essential", f"--include={','.join(packages)}"]
    # otherwise a package joins that merges /usr, and for that 46 MB of Perl
    argv += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")]
    # The standard library comes as sources alone, and a Pod can seldom write what Python made of them: each start would
    # make it again.
    argv += ['--customize-hook=chroot "$1" python3 -m compileall -q -j0 /usr/lib/python3.11']
    argv += ['--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/* "$1"/var/log/*', DEBIAN]

    def make(folder: Path) -> None:
        # No SOURCE_DATE_EPOCH: it would set back the times of Python's sources, with which their compiled forms are
        # out of date, so that every start of Python would compile its standard library.
        env = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
        env["TMPDIR"] = str(folder)
        follow(name, [*argv, str(folder / tree)], _last, env=env)

    return Part(name, [*argv, tree, output(["dpkg", "--print-architecture"])], make)


# --- Go -------------------------------------------------------------------------------------------------------------


def programs() -> Part:
    """``kubernetes`` with a link for each of its programs, and ``helm``."""
    sources = [path for path in sorted((HERE / "go").iterdir()) if path.is_file()]
    flags = _link_flags((HERE / "go" / "go.mod").read_text())
    made_from = [text for path in sources for text in (path.name, path.read_text())]

    def make(folder: Path) -> None:
        # GOGC: fewer and larger collections of garbage; the compiler's memory is short-lived
        env = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(COMPILED), "GOGC": "400"}
        targets = [".", f"{HELM}/cmd/helm"]
        options = ["-buildvcs=false", "-trimpath", "-ldflags", flags]
        packages = listed_packages(targets, HERE / "go", env)
        follow(
            "programs: compiling",
            ["go", "build", "-v", *options, "-o", f"{folder}/", *targets],
            lambda lines: f"{len(lines)} of at most {packages} packages, then linking",
            HERE / "go",
            env,
        )
        for name in PROGRAMS_IN_ONE:
            (folder / name).symlink_to("kubernetes")

    return Part("programs", [*made_from, flags, *PROGRAMS_IN_ONE, output(["go", "version"])], make)


def listed_packages(targets: Sequence[str], module: Path, env: Mapping[str, str]) -> int:
    """How many packages there are to compile; asking makes Go fetch the modules that hold them."""
    lines = follow(
        "programs: fetching modules",
        ["go", "list", "-x", "-deps", *targets],
        lambda lines: f"{len(lines)} requests",
        module,
        env,
    )
    return sum(1 for line in lines if not line.startswith("#"))


def _link_flags(module_file: str) -> str:
    """Versions that a release build would have been told, in the linker's words."""
    versions = versions_in(module_file)
    kubernetes, helm = versions["k8s.io/kubernetes"], versions[HELM]
    major, minor = kubernetes.removeprefix("v").split(".")[:2]
    values = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/component-base/version.gitTreeState": "clean",
        # in full, x.y.z: pyhelm3 refuses a helm that says "v3.19", as it would by itself
        f"{HELM}/internal/version.version": helm,
        f"{HELM}/pkg/chartutil.k8sVersionMajor": major,
        f"{HELM}/pkg/chartutil.k8sVersionMinor": minor,
        f"{HELM}/pkg/lint/rules.k8sVersionMajor": major,
        f"{HELM}/pkg/lint/rules.k8sVersionMinor": minor,
    }
    return link_values(values)


def versions_in(module_file: str) -> Mapping[str, str]:
    """The version of each module that a go.mod requires."""
    return {
        words[0]: words[1]
        for words in map(str.split, module_file.splitlines())
        if len(words) >= 2 and words[1].startswith("v")
    }


def link_values(values: Mapping[str, str]) -> str:
    """The linker's flags that set these variables and leave out what debuggers want."""
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])


def output(argv: Sequence[str]) -> str:
    """What a program prints.

    Raises:
        Failed: if it is not there.
    """
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError as error:
        raise Failed(
            f"`{argv[0]}` is not on PATH: it is needed to build a cluster, and to find one that was built"
        ) from error
