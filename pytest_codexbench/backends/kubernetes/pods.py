"""The Pods of one cluster: waited for, told of, read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_codexbench.backends.kubernetes.api import TIMEOUTS, Api
from pytest_codexbench.errors import NotReady
from pytest_codexbench.together import each

LOOK_S = 0.5
TAIL_LINES = 40
LOG_BYTES = 50_000_000
# A log is worth a wait, but not a long one: the host that keeps it may be gone.
LOG_S, LOG_TIMEOUTS = 10.0, (5.0, 10.0)
EVENTS = 5
# What does not get better by waiting, after so many seconds of it. A pull is tried again after 10 s, and after 20 more.
HOPELESS = frozenset(("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"))
HOPELESS_S = 10.0
STUBBORN = frozenset(("ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"))
STUBBORN_S = 45.0


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
    def patience_s(self) -> float:
        """After how many seconds in this state it will not get better by waiting; infinite if it may."""
        words = {word for reason in self.reasons for word in reason.replace(":", " ").split()}
        return HOPELESS_S if words & HOPELESS else STUBBORN_S if words & STUBBORN else math.inf


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
        """Those of nodes, by number."""
        found = self._selected(f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component=node")
        return sorted(found, key=lambda pod: int(pod.name.rpartition("-")[2]))

    def all(self) -> list[Pod]:
        """Those of nodes and of services."""
        return self._selected(f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component!=trial")

    def _selected(self, selector: str) -> list[Pod]:
        found: Any = self.api.ask(
            f"the Pods of {self.namespace}",
            lambda: self.api.core.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUTS
            ),
        )
        return [_pod(one) for one in found.items]

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
        stuck_since: float | None = None
        while True:
            pods = self.now()
            up = [pod for pod in pods if pod.ready]
            if len(up) == count:
                return up
            if len(up) != told:
                told = len(up)
                say(f"{told} of {count} Pods ready")
            now = time.monotonic()
            patience_s = min((pod.patience_s for pod in pods), default=math.inf)
            stuck_since = (stuck_since or now) if math.isfinite(patience_s) else None
            in_vain = stuck_since is not None and now - stuck_since > patience_s
            if in_vain or now - begun > deadline_s:
                waited = f"{now - begun:.0f} s"
                raise NotReady(f"{len(up)} of {count} Pods were ready after {waited}; {self._about(pods)}")
            time.sleep(LOOK_S)

    def _about(self, pods: Sequence[Pod]) -> str:
        """The worst of them, in words."""
        waiting = [pod for pod in pods if not pod.ready]
        if not waiting:
            return f"no Pod was made: {self._events(None)}"
        pod = min(waiting, key=lambda pod: pod.patience_s)
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
        # as bytes: a program may say anything, and the client would break at what is not UTF-8
        answer: Any = self.api.ask(
            f"the log of {pod}/{container}",
            lambda: self.api.core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                _preload_content=False,
                _request_timeout=LOG_TIMEOUTS,
                **options,
            ),
            absent=lambda: None,
            patience_s=LOG_S,
        )
        return "" if answer is None else bytes(answer.data).decode("utf-8", "replace")

    def keep_logs(self, folder: Path) -> None:
        """Add what every container said to its file in ``folder``, below the name of the namespace."""
        folder.mkdir(parents=True, exist_ok=True)
        each(self.now(), lambda pod: self._keep_logs(pod, folder))

    def _keep_logs(self, pod: Pod, folder: Path) -> None:
        for container, suffix in (("node", ""), ("agent", ".agent")):
            try:
                text = self._log(pod.name, container, limit_bytes=LOG_BYTES)
            except NotReady as error:
                text = f"the log could not be read: {error}\n"
            with (folder / f"{pod.name}{suffix}.log").open("a", encoding="utf-8") as file:
                file.write(f"--- {self.namespace} ---\n{text}")


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
