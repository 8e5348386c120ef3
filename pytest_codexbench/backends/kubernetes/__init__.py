"""Clusters on Kubernetes: a Helm release in a namespace of its own."""

from __future__ import annotations

import platform
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pytest_codexbench import __version__
from pytest_codexbench.agent.client import Again, Download, Heard, Node, Ready, finish
from pytest_codexbench.backends import Cluster, Room
from pytest_codexbench.backends.kubernetes.api import TIMEOUTS, Api
from pytest_codexbench.backends.kubernetes.forward import forwarded
from pytest_codexbench.backends.kubernetes.namespaces import copy_secrets, namespace, swept
from pytest_codexbench.backends.kubernetes.owners import OWNER, RUN, Register
from pytest_codexbench.backends.kubernetes.pods import Pod, Pods, incidents
from pytest_codexbench.backends.kubernetes.release import SHARED, Helm, chart_of
from pytest_codexbench.backends.kubernetes.values import image_values, values_of
from pytest_codexbench.errors import CannotRun, NotReady, WrongInput
from pytest_codexbench.matrix import Shape
from pytest_codexbench.records import Environment
from pytest_codexbench.systems import Contact, Handle, needs_of
from pytest_codexbench.together import each

AGENT_PORT = 7070
PODS_S, NODE_S = 600.0, 120.0
STREAM_END_S = 10.0
# A host tells the cluster of a container's end within a second or two.
LATE_S = 5.0
# The Pods are n-0, n-1, ...
RELEASE = "n"
CELL = "codexbench/cell"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants of the cluster: a context of the kubeconfig, a helm program, an image, values of charts.

    ``registry`` goes before the name of every image that names none; to ``keep`` swarms is to leave them when it ends.
    """

    context: str | None = None
    helm: str | None = None
    agent_image: str | None = None
    values: Path | None = None
    registry: str | None = None
    keep: bool = False


class Kubernetes:
    """The backend ``kubernetes``. ``logs`` is the folder for the logs of all clusters, ``run`` the run's id."""

    name = "kubernetes"
    cluster_s = 20.0

    def __init__(self, logs: Path, run: str, wishes: Wishes | None = None) -> None:
        self.logs, self.run, self.wishes = logs, run, wishes or Wishes()
        self._more = _read(self.wishes.values) if self.wishes.values else {}
        self._memory_taken = 0

    @cached_property
    def _api(self) -> Api:
        return Api(self.wishes.context)

    @cached_property
    def _register(self) -> Register:
        return Register(self._api, _label(self.run))

    @cached_property
    def _helm(self) -> Helm:
        return Helm(self.wishes.helm, self.wishes.context)

    def cannot(self, shape: Shape) -> str | None:
        """What is missing: a cluster, Helm, a chart of the system."""
        if chart_of(shape.variant.system) is None:
            return f"there is no chart of {shape.variant.system}; use the local backend"
        if shape.variant.system in SHARED and not shape.variant.setting("image"):
            # nothing else asks for these: a cluster that cannot pull them would be waited for in every run
            return (
                f"no image is given for it; write image = 'NAME:TAG' below [systems.{shape.variant}] in a matrix file"
            )
        try:
            _ = self._api, self._helm
        except CannotRun as error:
            return str(error)
        return None

    def cannot_upset(self, asked: str) -> str | None:
        """Nodes may do nothing in a Pod but their work."""
        return (
            f"Pods have no rights from which {asked} (they drop all capabilities, and run as no root); take "
            "--cb-backend=local for it"
        )

    def room(self) -> Room:
        """What all nodes of the cluster together give to Pods, less this run's; what others use is not known.

        How much there is of volumes that are claimed, nobody knows.
        """
        claimed = self._more.get("storage", {}).get("kind") == "pvc"
        disk = None if claimed else self._given("ephemeral-storage")
        memory = max(0, self._given("memory") - self._memory_taken)
        return Room(
            disk,
            memory,
            f"all {len(self._nodes())} nodes together",
            "claim volumes (storage.kind: pvc in --cb-values), or take smaller files, or more nodes in the cluster",
            "take fewer nodes, or more nodes in the cluster",
        )

    def _nodes(self) -> list[Any]:
        found: Any = self._api.ask("the nodes", lambda: self._api.core.list_node(_request_timeout=TIMEOUTS))
        nodes: list[Any] = found.items
        return nodes

    def _given(self, what: str) -> int:
        """What all nodes give to Pods of one resource."""
        return sum(_quantity((node.status.allocatable or {}).get(what, "0")) for node in self._nodes())

    def sweep(self) -> list[str]:
        """Remove what killed runs left in the cluster."""
        return swept(self._api)

    def environment(self, workers: int) -> Environment:
        """The cluster; which of its nodes a swarm has, ``Cluster`` tells."""
        nodes = self._nodes()
        version: Any = self._api.ask("the version", lambda: self._api.version.get_code(_request_timeout=TIMEOUTS))
        infos = [node.status.node_info for node in nodes]
        return Environment(
            backend=self.name,
            isolation="pods",
            versions={
                "codexbench": __version__,
                "python": platform.python_version(),
                "kubernetes": version.git_version,
            },
            machine={
                "system": _one_or_all(info.operating_system for info in infos),
                "architecture": _one_or_all(info.architecture for info in infos),
                "processor": f"{len(nodes)} nodes",
                "cores": self._given("cpu"),
                "memory": self._given("memory"),
            },
            kernel=_one_or_all(info.kernel_version for info in infos),
            colocated=True,
            workers=workers,
            wire="counters of the Pods' interfaces (gso: uncorrected)",
        )

    @contextmanager
    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> Iterator[Cluster]:
        """See ``Backend.cluster``."""
        chart = chart_of(shape.variant.system)
        if chart is None:
            raise NotReady(f"there is no chart of {shape.variant.system}")
        token, keep = secrets.token_hex(32), self.wishes.keep
        with self._register.entered() as owner, ExitStack() as stack:
            name = _space(shape)
            labels = {RUN: _label(self.run), CELL: _label(str(shape)), OWNER: owner}
            space = stack.enter_context(namespace(self._api, name, labels, keep))
            values = self._values(shape, largest, token)
            stack.enter_context(self._counted(shape))
            copy_secrets(self._api, [one["name"] for one in values.get("imagePullSecrets", ())], space)
            pods = Pods(self._api, space, RELEASE)
            if keep:
                say(f"{shape}: stays in namespace {space} when the run ends")
            else:
                stack.callback(self._helm.uninstall, RELEASE, space)
            self._helm.install(RELEASE, chart, space, values)
            stack.callback(pods.keep_logs, self.logs / str(shape))
            up = pods.ready(shape.nodes, PODS_S, lambda text: say(f"{shape}: {text}"))
            urls = [stack.enter_context(self._reached(pod, space)) for pod in up]
            yield replace(_started(up, urls, token, pods), incidents=_Watch(pods, self._register), late_s=LATE_S)

    @contextmanager
    def clusters(
        self, shapes: Sequence[Shape], say: Callable[[str], None], largest: int
    ) -> Iterator[Sequence[Cluster]]:
        """See ``Backend.clusters``: Pods reach each other, in whatever namespace."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.cluster(shape, say, largest)) for shape in shapes]

    @contextmanager
    def _counted(self, shape: Shape) -> Iterator[None]:
        """The memory that its Pods are expected to take, while they are there."""
        taken = needs_of(shape).memory * shape.nodes
        self._memory_taken += taken
        try:
            yield
        finally:
            self._memory_taken -= taken

    @contextmanager
    def alone(self, hosts: Sequence[str], waiting: Callable[[str], None], most_s: float | None) -> Iterator[None]:
        """A lease for each of the hosts, which all runs on the cluster look for."""
        with self._register.alone_on(hosts, waiting, most_s):
            yield

    def _values(self, shape: Shape, largest: int, token: str) -> dict[str, Any]:
        values = {
            **values_of(shape, largest),
            "token": token,
            "run": _label(self.run),
            "cell": _label(str(shape)),
        }
        if self.wishes.registry:
            values["imageRegistry"] = self.wishes.registry
        if self.wishes.agent_image:
            values["agent"] = {"image": image_values(self.wishes.agent_image)}
        return _merged(values, self._more)

    @contextmanager
    def _reached(self, pod: Pod, namespace: str) -> Iterator[str]:
        """The URL of a Pod's agent: its own address from inside the cluster, a forwarded port from outside."""
        if self._api.inside:
            yield f"http://{pod.address}:{AGENT_PORT}"
            return
        with (
            tempfile.TemporaryDirectory(prefix="codexbench-kube-") as folder,
            forwarded(Path(folder) / "agent.sock", partial(self._stream, pod.name, namespace)) as url,
        ):
            yield url

    @contextmanager
    def _stream(self, pod: str, namespace: str) -> Iterator[socket.socket]:
        """A stream to a Pod's agent."""
        from kubernetes.stream import portforward

        connect = self._api.for_a_stream().connect_get_namespaced_pod_portforward
        forward = portforward(connect, pod, namespace, ports=str(AGENT_PORT))
        try:
            with closing(forward.socket(AGENT_PORT)) as stream:
                yield stream
        finally:
            # A thread of the client's ends what was closed here, but not what was lost. While that thread lives it must
            # not be done here: it would read from whatever gets the same descriptor next.
            end = time.monotonic() + STREAM_END_S
            while forward.websocket.sock is not None and time.monotonic() < end:
                time.sleep(0.02)
            forward.websocket.shutdown()


@dataclass(frozen=True)
class PodNode(Node):
    """A node in a Pod: what it said last, the cluster tells; the way to its agent may break."""

    pod: Pod = field(repr=False)
    pods: Pods = field(repr=False)

    @property
    def _again(self) -> Again:
        return partial(self.pods.same, self.pod)

    def download(
        self,
        handle: Handle,
        size: int,
        sources: Sequence[Contact],
        position: int,
        deadline_s: float,
        heard: Heard,
        ready: Ready | None = None,
        again: bool = False,
    ) -> Download:
        """As every node's; a transfer that failed brings the end of the container's log."""
        got = super().download(handle, size, sources, position, deadline_s, heard, ready, again)
        if got.transfer.error is None:
            return got
        return replace(got, transfer=replace(got.transfer, log_tail=self.pods.tail(self.name)))

    def log_tail(self) -> str:
        """The end of its container's log."""
        return self.pods.tail(self.name)


class _Watch:
    """Asked what spoilt a measurement, tells what happened to the release's Pods since it was asked last.

    And who else measured on their hosts, as may be if this process was not heard of for a while.
    """

    def __init__(self, pods: Pods, register: Register) -> None:
        self.pods, self.register, self.seen = pods, register, pods.all()

    def __call__(self) -> Sequence[str]:
        before, self.seen = self.seen, self.pods.all()
        return [*incidents(before, self.seen), *self.register.lost()]


def _started(pods: Sequence[Pod], urls: Sequence[str], token: str, read: Pods) -> Cluster:
    """Nodes of which every agent has seen its node ready, joined."""

    def start(turn: tuple[Pod, str]) -> Mapping[str, Any]:
        pod, url = turn
        request, again = {"bootstrap": [], "deadline_s": NODE_S}, partial(read.same, pod)
        return finish(url, "start", request, token, deadline_s=2 * NODE_S, again=again)

    turns = list(zip(pods, urls, strict=True))
    told = each(turns, start)
    contacts: list[Contact] = [one["contact"] for one in told]
    nodes = tuple(
        PodNode(pod.name, url, token, contact, pod, read) for (pod, url), contact in zip(turns, contacts, strict=True)
    )
    each(nodes, lambda node: node.join([contact for contact in contacts if contact["name"] != node.name]))
    images = {f"image {container}": image for container, image in pods[0].images.items()}
    return Cluster(nodes, {**told[0]["versions"], **images}, tuple(pod.host for pod in pods))


def _space(shape: Shape) -> str:
    """A name for a namespace that no other has: of letters, digits and dashes alone, 63 at most."""
    return f"codexbench-{secrets.token_hex(4)}-{_label(str(shape)).replace('.', '-')}"[:63].rstrip("-")


def _label(text: str) -> str:
    """``text`` as the value of a label: 63 letters, digits, dashes and dots at most."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower())[:63].strip("-.")


def _read(path: Path) -> dict[str, Any]:
    """A file of values.

    Raises:
        WrongInput: if it is none.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise WrongInput(f"--cb-values={path}: {error}") from error
    if not isinstance(found, dict):
        raise WrongInput(f"--cb-values={path}: no values in it: a mapping is needed")
    return found


def _merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in more.items():
        there = merged.get(key)
        merged[key] = _merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return merged


UNITS = {
    "m": 1e-3,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}


def _quantity(text: str) -> int:
    """A quantity as Kubernetes writes it, whole: ``25Gi`` of bytes, ``3920m`` of processors."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", text)
    return int(float(match[1]) * UNITS.get(match[2], 1.0)) if match else 0


def _one_or_all(texts: Any) -> str:
    return ", ".join(sorted(set(texts)))
