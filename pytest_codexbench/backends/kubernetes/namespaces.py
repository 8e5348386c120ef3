"""The namespaces of clusters, from their making to their removal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_codexbench.backends.kubernetes.api import TIMEOUTS, Api
from pytest_codexbench.backends.kubernetes.owners import (
    COMMON,
    DEAD_S,
    MANAGED,
    OURS,
    OWNER,
    RUN,
    Owner,
    census,
    remove_lease,
)
from pytest_codexbench.errors import NotReady

# On purpose: whoever set it looks after it.
KEPT = "codexbench/kept"
GONE_S, LOOK_S = 180.0, 0.5
# A Pod on a host that is gone is never reported as ended: after so long it is struck off.
LOST_S = 20.0


@contextmanager
def namespace(api: Api, name: str, labels: Mapping[str, str], keep: bool = False) -> Iterator[str]:
    """A namespace of its own, gone when the block is left; one to ``keep`` is marked as such, and stays."""
    from kubernetes.client import V1Namespace, V1ObjectMeta

    told = {MANAGED: OURS, "pod-security.kubernetes.io/enforce": "restricted", **labels}
    body = V1Namespace(metadata=V1ObjectMeta(name=name, labels={**told, KEPT: "true"} if keep else told))
    try:
        api.ask(
            f"namespace {name}",
            lambda: _make(api, body),
            conflict=lambda: None,  # the name is drawn: a first request was heard, and its answer lost
        )
        yield name
    finally:
        if not keep:
            remove(api, [name])


def _make(api: Api, body: Any) -> None:
    api.core.create_namespace(body, _request_timeout=TIMEOUTS)


def copy_secrets(api: Api, names: Iterable[str], name: str) -> None:
    """Copy the Secrets that images are pulled with into a namespace, from the one that is common to all runs.

    Raises:
        NotReady: if one is not there.
    """
    for secret in names:
        found: Any = api.ask(
            f"Secret {secret}",
            partial(_read_secret, api, secret),
            absent=lambda: None,
        )
        if found is None:
            raise NotReady(f"imagePullSecrets: there is no Secret {secret!r} in namespace {COMMON} to copy")
        api.ask(f"Secret {secret} in {name}", partial(_write_secret, api, found, name), conflict=lambda: None)


def _read_secret(api: Api, secret: str) -> Any:
    return api.core.read_namespaced_secret(secret, COMMON, _request_timeout=TIMEOUTS)


def _write_secret(api: Api, found: Any, name: str) -> None:
    from kubernetes.client import V1ObjectMeta, V1Secret

    body = V1Secret(metadata=V1ObjectMeta(name=found.metadata.name), type=found.type, data=found.data)
    api.core.create_namespaced_secret(name, body, _request_timeout=TIMEOUTS)


def remove(api: Api, names: Sequence[str]) -> None:
    """Delete namespaces and wait until they are gone.

    Raises:
        NotReady: if one is still there after three minutes: with what holds it.
    """
    for name in names:
        api.ask(
            f"deletion of namespace {name}",
            partial(_delete, api, name),
            absent=lambda: None,
            conflict=lambda: None,  # it is being deleted
        )
    begun = time.monotonic()
    struck_off = begun + LOST_S
    while left := [one for one in _ours(api) if one.metadata.name in names]:
        if time.monotonic() > begun + GONE_S:
            raise NotReady("; ".join(map(_held, left)))
        if time.monotonic() > struck_off:
            struck_off += LOST_S
            for one in left:
                strike_off(api, one.metadata.name)
        time.sleep(LOOK_S)


def _delete(api: Api, name: str) -> None:
    api.core.delete_namespace(name, _request_timeout=TIMEOUTS)


def _ours(api: Api) -> list[Any]:
    found: Any = api.ask(
        "the namespaces of runs",
        lambda: api.core.list_namespace(label_selector=f"{MANAGED}={OURS}", _request_timeout=TIMEOUTS),
    )
    return list(found.items)


def _held(left: Any) -> str:
    conditions = [one for one in left.status.conditions or () if one.status == "True"]
    why = "; ".join(f"{one.reason}: {one.message}" for one in conditions) or f"it is {left.status.phase}"
    return f"namespace {left.metadata.name} was not gone within {GONE_S:g} s: {why}"


def strike_off(api: Api, name: str) -> None:
    """Delete, without waiting for their ends, the Pods of hosts that are not ready: nobody would tell of those."""
    from kubernetes.client import V1DeleteOptions

    hosts: Any = api.ask("the nodes", lambda: api.core.list_node(_request_timeout=TIMEOUTS))
    up = {host.metadata.name for host in hosts.items if _ready(host)}
    pods: Any = api.ask(f"the Pods of {name}", lambda: api.core.list_namespaced_pod(name, _request_timeout=TIMEOUTS))
    at_once = V1DeleteOptions(grace_period_seconds=0)
    for pod in pods.items:
        if pod.spec.node_name and pod.spec.node_name not in up:
            api.ask(
                f"Pod {pod.metadata.name} of {name}",
                partial(_strike, api, pod, at_once),
                absent=lambda: None,
            )


def _strike(api: Api, pod: Any, how: Any) -> None:
    api.core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, body=how, _request_timeout=TIMEOUTS)


def _ready(host: Any) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in host.status.conditions or ())


@dataclass(frozen=True, slots=True)
class Swept:
    """Names of the namespaces that were removed, and of those that stay, each with the reason."""

    removed: tuple[str, ...]
    stay: Mapping[str, str]


def sweep(api: Api, everything: bool = False) -> Swept:
    """Remove what killed runs left in the cluster: namespaces, and leases. With ``everything`` whatever is of a run.

    Raises:
        NotReady: if a namespace does not go.
    """
    # in this order: whose namespace is there has had a lease before it
    found = _ours(api)
    known, leases = census(api)
    stay = {} if everything else {one.metadata.name: why for one in found if (why := _reason(one, known))}
    names = [one.metadata.name for one in found if one.metadata.name not in stay]
    remove(api, names)
    for lease in leases:
        about: Any = lease.metadata
        owner = known.get((about.labels or {}).get(OWNER, ""))
        if everything or owner is None or owner.gone(DEAD_S):
            remove_lease(api, about.name, about)
    return Swept(tuple(names), stay)


def _reason(one: Any, known: Mapping[str, Owner]) -> str | None:
    """Why a namespace is to stay; None if it is not."""
    labels = one.metadata.labels or {}
    if labels.get(KEPT) == "true":
        return f"kept on purpose by run {labels.get(RUN) or 'unknown'}"
    owner = known.get(labels.get(OWNER, ""))
    if owner is None or owner.gone(DEAD_S):
        return None
    return f"run {owner.run or 'unknown'} is at it: its process was heard of {max(0.0, owner.silent_s):.0f} s ago"


def swept(api: Api) -> list[str]:
    """As ``sweep``, before a run: what was done, in words; what does not go is no reason not to begin."""
    try:
        found = sweep(api)
    except NotReady as trouble:
        return [f"what a killed run left in the cluster does not go: {trouble}"]
    return [f"removed namespace {name}, which a killed run left" for name in found.removed]
