"""The Pods of one cluster: waited for, told of, read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_codexbench.backends.kubernetes.api import TIMEOUTS, Api
from pytest_codexbench.errors import BenchError, NotReady

LOOK_S = 0.5
TAIL_LINES = 40
LOG_BYTES = 50_000_000
# A log is worth a wait, but not a long one: the host that keeps it may be gone.
LOG_S, LOG_TIMEOUTS = 10.0, (5.0, 10.0)
EVENTS = 5
# What does not get better by waiting, after this many seconds of it.
HOPELESS = frozenset(
    ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
)
HOPELESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Pod:
    """One node's Pod at one moment. ``reasons`` are why it is not ready, in words.

    By container: its ``images``, how often it was started again (``restarts``), and how it ended last (``ends``).
    """

    name: str
    phase: str
    ready: bool
    address: str = ""
    host: str = ""
    reasons: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)

    @property
    def hopeless(self) -> bool:
        """Whether it will not get better by waiting."""
        return any(word in reason for reason in self.reasons for word in HOPELESS)


def incidents(before: Sequence[Pod], now: Sequence[Pod]) -> list[str]:
    """What happened to Pods between two looks that must not happen while they are measured, each with its name."""
    there = {pod.name: pod for pod in now}
    told = []
    for old in before:
        new = there.get(old.name)
        if new is None:
            told.append(f"{old.name} is gone")
        elif new.uid != old.uid:
            told.append(f"{old.name} was removed and made anew")
        elif new.phase != old.phase:
            told.append(f"{old.name} is {new.phase}{': ' if new.reasons else ''}{'; '.join(new.reasons)}")
        else:
            told += [
                f"the container {name} of {old.name} was started again: {new.ends.get(name, 'nobody knows why')}"
                for name, count in new.restarts.items()
                if count > old.restarts.get(name, 0)
            ]
    return told


@dataclass(frozen=True, slots=True)
class Pods:
    """The Pods of one release in a namespace of its own."""

    api: Api
    namespace: str
    release: str

    def now(self) -> list[Pod]:
        """All of them, by number."""
        selector = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component=node"
        found: Any = self.api.ask(
            f"the Pods of {self.namespace}",
            lambda: self.api.core.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUTS
            ),
        )
        return sorted(map(_pod, found.items), key=lambda pod: int(pod.name.rpartition("-")[2]))

    def same(self, pod: Pod) -> bool:
        """Whether a Pod is still the one it was, with none of its containers started again, on a host that is heard of.

        Of one that is not, the cluster says that its Pods are not ready.
        """
        try:
            now = self.now()
        except NotReady:
            return False
        return not incidents([pod], now) and any(one.ready for one in now if one.name == pod.name)

    def ready(self, count: int, deadline_s: float, say: Callable[[str], None]) -> list[Pod]:
        """Wait until ``count`` of them are ready.

        Raises:
            NotReady: at the deadline, or sooner where waiting is in vain: which Pod, its phase, the reason, the latest
                events, and the end of its log.
        """
        begun, told = time.monotonic(), -1
        hopeless_since: float | None = None
        while True:
            pods = self.now()
            up = [pod for pod in pods if pod.ready]
            if len(up) == count:
                return up
            if len(up) != told:
                told = len(up)
                say(f"{told} of {count} Pods ready")
            now = time.monotonic()
            hopeless_since = (hopeless_since or now) if any(pod.hopeless for pod in pods) else None
            in_vain = hopeless_since is not None and now - hopeless_since > HOPELESS_S
            if in_vain or now - begun > deadline_s:
                waited = f"{now - begun:.0f} s"
                raise NotReady(f"{len(up)} of {count} Pods were ready after {waited}; {self._about(pods)}")
            time.sleep(LOOK_S)

    def _about(self, pods: Sequence[Pod]) -> str:
        """The worst of them, in words."""
        waiting = [pod for pod in pods if not pod.ready]
        if not waiting:
            return f"no Pod was made: {self._events(None)}"
        pod = next((pod for pod in waiting if pod.hopeless), waiting[0])
        reasons = "; ".join(pod.reasons) or "no reason is given"
        log = self.tail(pod.name) or "(empty)"
        return f"{pod.name} is {pod.phase}: {reasons}; events: {self._events(pod.name)}; the end of its log: {log}"

    def _events(self, pod: str | None) -> str:
        chosen = f"involvedObject.name={pod}" if pod else None
        found: Any = self.api.ask(
            f"the events of {self.namespace}",
            lambda: self.api.core.list_namespaced_event(
                self.namespace, field_selector=chosen, _request_timeout=TIMEOUTS
            ),
        )
        texts = [f"{event.reason}: {event.message}" for event in found.items if event.message]
        return " | ".join(dict.fromkeys(texts[-EVENTS:])) or "none"

    def tail(self, pod: str) -> str:
        """The end of a node's log; empty where there is none."""
        try:
            return self._log(pod, "node", tail_lines=TAIL_LINES).strip()[-4000:]
        except NotReady:
            return ""

    def _log(self, pod: str, container: str, **options: Any) -> str:
        text = self.api.ask(
            f"the log of {pod}/{container}",
            lambda: self.api.core.read_namespaced_pod_log(
                pod, self.namespace, container=container, _request_timeout=LOG_TIMEOUTS, **options
            ),
            absent=lambda: "",
            patience_s=LOG_S,
        )
        return str(text)

    def keep_logs(self, folder: Path) -> None:
        """Write what every container said into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for pod in self.now():
            for container, suffix in (("node", ""), ("agent", ".agent")):
                path = folder / f"{pod.name}{suffix}.log"
                try:
                    path.write_text(self._log(pod.name, container, limit_bytes=LOG_BYTES), encoding="utf-8")
                except BenchError as error:
                    path.write_text(f"the log could not be read: {error}\n", encoding="utf-8")


def _pod(told: Any) -> Pod:
    status, deleted = told.status, told.metadata.deletion_timestamp is not None
    conditions = {condition.type: condition.status for condition in status.conditions or ()}
    containers = status.container_statuses or ()
    return Pod(
        name=told.metadata.name,
        phase="being deleted" if deleted else status.phase or "unknown",
        ready=conditions.get("Ready") == "True" and not deleted,
        address=status.pod_ip or "",
        host=told.spec.node_name or "",
        reasons=tuple(_reasons(status)),
        images={one.name: one.image_id for one in containers if one.image_id},
        uid=told.metadata.uid or "",
        restarts={one.name: one.restart_count or 0 for one in containers},
        ends={one.name: _end(one.last_state.terminated) for one in containers if one.last_state.terminated},
    )


def _end(ended: Any) -> str:
    return f"it exited with status {ended.exit_code} ({ended.reason or 'no reason is given'})"


def _reasons(status: Any) -> Iterator[str]:
    """Why it is not ready: of its containers, then of the Pod."""
    for one in (*(status.init_container_statuses or ()), *(status.container_statuses or ())):
        waiting, ended = (one.state.waiting, one.state.terminated) if one.state else (None, None)
        if waiting and waiting.reason not in (None, "PodInitializing", "ContainerCreating"):
            yield f"{one.name} {waiting.reason}: {waiting.message or 'no message'}"
        if ended and ended.exit_code:
            yield f"{one.name} exited with status {ended.exit_code}: {ended.message or ended.reason}"
    if status.reason:
        yield f"{status.reason}: {status.message or 'no message'}"
    for condition in status.conditions or ():
        if condition.reason == "Unschedulable":
            yield f"Unschedulable: {condition.message}"
