"""Writes OCI images, for containerd to import, without Docker.

An image is the base, which holds Debian with Python 3.11, and layers on top of it: folders, and Python packages. They
are not compressed, so that no time is lost on unpacking them. The same input gives the same image.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cluster import build
from cluster.progress import Failed, say

PYTHON = "3.11"
PACKAGES = PurePosixPath("/usr/local/lib/python3.11/dist-packages")
"""Where the image's Python looks for packages by itself: no PYTHONPATH is needed."""
ROOT = PurePosixPath("/")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Layer:
    """A file or a folder, and where in the image it is to be; a folder's content is put there, not the folder."""

    source: Path
    destination: PurePosixPath = ROOT

    @classmethod
    def parse(cls, text: str) -> Layer:
        """SOURCE[:DESTINATION]."""
        source, _, destination = text.partition(":")
        return cls(Path(source), PurePosixPath(destination or "/"))

    def __post_init__(self) -> None:
        if not self.destination.is_absolute():
            raise ValueError(f"{self.source} is to be put at {self.destination}, which does not begin with /")
        if self.source.is_file() and self.destination == ROOT:
            raise ValueError(f"{self.source} is a file: say what it is to be in the image, {self.source}:/NAME")
        if not self.source.exists():
            raise ValueError(f"{self.source} is not there")


@dataclass(frozen=True, slots=True)
class Config:
    """How a container of the image starts, if its Pod says nothing else."""

    command: Sequence[str] = ()
    user: str = ""
    """A number: a Pod that must not run as root is refused if its image names its user."""
    folder: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.user and not self.user.replace(":", "", 1).isdigit():
            raise ValueError(f"user {self.user!r} is neither UID nor UID:GID; Pods with runAsNonRoot want numbers")


def write_image(
    image: Path,
    name: str,
    layers: Sequence[Layer],
    config: Config,
    packages: Sequence[str] = (),
    bare: Sequence[str] = (),
    base: build.Part | None = None,
) -> None:
    """The base with ``layers`` on top, and Python packages as ``pip install`` would be asked for them.

    Those that are ``bare`` come without their dependencies. Another ``base`` than the usual one has its ``base.tar``.

    Raises:
        Failed: if the base is not built, or pip fails.
    """
    with tempfile.TemporaryDirectory(dir=image.parent, prefix=f".{image.name}.") as scratch:
        tars = [(base or build.base()).get() / "base.tar"]
        if packages or bare:
            folder = Path(scratch, "packages")
            _install(packages, bare, folder)
            layers = [Layer(folder, PACKAGES), *layers]
        for number, layer in enumerate(layers):
            tars.append(_tar(layer, Path(scratch, f"{number}.tar")))
        _write(image, name, tars, config)
    say(f"{image}: {name}, {image.stat().st_size / 1e6:.0f} MB")


def write_pause(image: Path) -> None:
    """The image that holds every Pod's namespaces open: one static program of the node's Debian."""
    program = build.node().get() / "root/usr/bin/catatonit"
    layer = _tar(Layer(program, PurePosixPath("/catatonit")), image.with_suffix(".layer"))
    _write(image, "localhost/pause:1", [layer], Config(["/catatonit", "-P"]))
    layer.unlink()


# --- layers -----------------------------------------------------------------------------------------------------------


def _tar(layer: Layer, tar: Path) -> Path:
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        # Folders above it are left out: containerd makes those that are missing, and an entry would replace one that
        # is a link in the base, as /lib is.
        at = layer.destination.relative_to("/")
        if layer.source.is_dir():
            entry = tarfile.TarInfo(str(at))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(_plain(entry))
            for path in sorted(layer.source.iterdir()):
                archive.add(path, str(at / path.name), filter=_plain)
        else:
            archive.add(layer.source, str(at), filter=_plain)
    return tar


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Root's, of no certain time, and readable by all whatever the umask here is: containers run as somebody else."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o444
    if entry.isdir() or entry.mode & stat.S_IXUSR:
        entry.mode |= 0o111
    return entry


def _install(packages: Sequence[str], bare: Sequence[str], folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    # Only wheels: pip insists on that when it installs for another Python than its own.
    pip += ["--python-version", PYTHON, "--only-binary=:all:", "--target", str(folder)]
    for what in (packages, ["--no-deps", *bare] if bare else ()):
        if not what:
            continue
        run = subprocess.run([*pip, *what], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if run.returncode:
            raise Failed(f"pip could not install {' '.join(what)}:\n{run.stderr.strip()}")
    # Their shebangs are this machine's; `python3 -m` does the same.
    for script in (folder / "bin").glob("*"):
        script.unlink()
    # Layers lose their files' times, with which compiled forms of the usual kind would be out of date. And without any,
    # every start of a container would compile all that it imports: its root file system may be read-only.
    compiler = ["python3", "-m", "compileall", "-q", "-j0", "--invalidation-mode=unchecked-hash", "/mnt"]
    inside = _in_debian(folder, compiler)
    run = subprocess.run(inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if run.returncode:
        raise Failed(
            f"some of {' '.join([*packages, *bare])} could not be compiled:\n"
            f"{(run.stdout + run.stderr).strip()[-2000:]}"
        )


def _in_debian(folder: Path, argv: Sequence[str]) -> list[str]:
    """How to run a program in the node's Debian, which has the image's Python, with ``folder`` at /mnt."""
    root = build.node().get() / "root"
    script = 'mount --bind "$0" "$1/mnt" && mount -t proc proc "$1/proc" && exec chroot "$@"'
    # the mounts end with the program
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [*apart, "sh", "-c", script, str(folder), str(root), *argv]


# --- archive ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Blob:
    media_type: str
    content: bytes | Path

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size}

    @property
    def digest(self) -> str:
        with self.open() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def open(self) -> io.BytesIO | io.BufferedReader:
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


def _write(image: Path, name: str, tars: Sequence[Path], config: Config) -> None:
    machine = {"architecture": ARCHITECTURES[platform.machine()], "os": "linux"}
    start: dict[str, Any] = {
        "Env": [PATH, *(f"{key}={value}" for key, value in config.env.items())],
        "WorkingDir": config.folder,
        "Cmd": list(config.command),
    }
    if config.user:
        start["User"] = config.user
    layers = [(blob, blob.descriptor) for blob in (_Blob(f"{OCI}.layer.v1.tar", tar) for tar in tars)]
    about = _json_blob(
        f"{OCI}.config.v1+json",
        {
            **machine,
            "config": start,
            "created": EPOCH,
            "rootfs": {"type": "layers", "diff_ids": [descriptor["digest"] for _, descriptor in layers]},
            "history": [{"created": EPOCH} for _ in layers],
        },
    )
    manifest = _json_blob(
        f"{OCI}.manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": about.descriptor,
            "layers": [descriptor for _, descriptor in layers],
        },
    )
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [{**manifest.descriptor, "platform": machine, "annotations": names}]}

    unfinished = image.with_name(f".{image.name}.new")
    with tarfile.open(unfinished, "w") as archive:
        _add(archive, "oci-layout", _json_blob("", {"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json_blob("", index))
        blobs = {blob.digest: blob for blob in (about, manifest)}
        blobs |= {descriptor["digest"].removeprefix("sha256:"): blob for blob, descriptor in layers}
        for digest, blob in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", blob)
    unfinished.rename(image)


def _json_blob(media_type: str, value: dict[str, Any]) -> _Blob:
    return _Blob(media_type, json.dumps(value, sort_keys=True).encode())


def _add(archive: tarfile.TarFile, name: str, blob: _Blob) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = blob.size, 0o644
    with blob.open() as stream:
        archive.addfile(entry, stream)
