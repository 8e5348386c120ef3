"""Where clusters run: a shape becomes nodes for as long as a ``with`` lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pytest_codexbench.agent.client import Node
from pytest_codexbench.matrix import Shape
from pytest_codexbench.records import Environment


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that are ready, the version of each program as they tell it; the host of each node where there are more.

    ``incidents`` tells in words what happened to the nodes, since it was asked last, that spoils what was measured
    meanwhile: it may raise a ``BenchError``. It may not know before ``late_s`` seconds have passed. ``whole`` tells
    whether all that runs beside the nodes still does; without that, nothing more can be measured here.
    """

    nodes: tuple[Node, ...]
    versions: Mapping[str, str]
    hosts: tuple[str, ...] = ()
    incidents: Callable[[], Sequence[str]] = tuple
    late_s: float = 0.0
    whole: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Room:
    """What is free for clusters: bytes of disk and of memory, where that disk is, and what helps if it is too little.

    ``disk`` is None where nobody knows.
    """

    disk: int | None
    memory: int
    where: str
    more_disk: str = "give another folder by --cb-data, or smaller files"
    more_memory: str = "take fewer nodes, or another machine"


def started_again(node: str) -> str:
    """How an incident begins that tells of a node's program that ended, and was started again by the cluster."""
    return f"the container node of {node} was started again"


class Backend(Protocol):
    """A place for clusters. ``cluster_s`` is what one usually takes to come up, in seconds."""

    name: str
    cluster_s: float

    def sweep(self) -> Sequence[str]:
        """Remove what killed runs left: what was done, in words."""

    def cluster(self, shape: Shape, say: Callable[[str], None], largest: int) -> AbstractContextManager[Cluster]:
        """Nodes of that shape, ready; gone when the block is left. ``say`` hears how far it is.

        No file will have more than ``largest`` bytes.

        Raises:
            NotReady: if it does not come up in time; names the node and the end of its log.
        """

    def clusters(
        self, shapes: Sequence[Shape], say: Callable[[str], None], largest: int
    ) -> AbstractContextManager[Sequence[Cluster]]:
        """One for each shape, in one network: nodes of one can reach those of the others. Else as ``cluster``."""

    def alone(
        self, hosts: Sequence[str], waiting: Callable[[str], None], most_s: float | None
    ) -> AbstractContextManager[None]:
        """Nothing else is measured on these hosts inside the block; ``waiting`` hears whom it waits for.

        Raises:
            NotReady: if nobody can tell, or the others are not through in ``most_s`` seconds, where that is a number.
        """

    def environment(self, workers: int) -> Environment:
        """Where this is."""

    def room(self) -> Room:
        """What is free."""

    def cannot(self, shape: Shape) -> str | None:
        """Why it cannot hold clusters of that shape at all, with the way out; None if it can."""

    def cannot_upset(self, asked: str) -> str | None:
        """Why it cannot do to nodes what a disturbance ``asks``, with the way out; None if it can."""
