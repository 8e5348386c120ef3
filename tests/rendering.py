"""Helm charts as they are rendered: their objects, what is asked of every Pod, their values and schemas."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

HELM = os.environ.get("CODEXBENCH_HELM") or shutil.which("helm")
REWRITE = "CODEXBENCH_WRITE_GOLDEN" in os.environ
ROOT = Path(__file__).parents[1]
CHARTS, GOLDEN = ROOT / "charts", ROOT / "tests" / "golden_charts"
KUBERNETES = ("1.28", "1.34")
TOKEN = "0123456789abcdef0123456789abcdef"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"

Values = dict[str, Any]
Objects = list[dict[str, Any]]
Spot = tuple[str | int, ...]


class Refused(Exception):
    """What Helm says when it does not render."""


@cache
def rendered(folder: Path, values: str, release: str) -> str:
    """What Helm makes of a chart and of values, which are JSON."""
    argv = [str(HELM), "template", release, str(folder), "--values=-"]
    run = subprocess.run(argv, input=values, capture_output=True, text=True, timeout=60, check=False)
    if run.returncode:
        raise Refused(run.stderr)
    return run.stdout


def text_of(chart: str, values: Values, release: str = "demo") -> str:
    """What Helm prints."""
    return rendered(CHARTS / chart, json.dumps(values), release)


def render(chart: str, values: Values, release: str = "demo") -> Objects:
    """The objects of a release."""
    # the quick one, where there is one
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text_of(chart, values, release), Loader=loader) if each]


def one(objects: Objects, kind: str) -> dict[str, Any]:
    """The only object of that kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod_specs(objects: Objects) -> Iterator[dict[str, Any]]:
    """Of everything that becomes Pods."""
    for each in objects:
        if each["kind"] == "Pod":
            yield each["spec"]
        elif "template" in each.get("spec", {}):
            yield each["spec"]["template"]["spec"]


def all_containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a Pod."""
    return [*spec["containers"], *spec.get("initContainers", [])]


def not_restricted(spec: Mapping[str, Any]) -> Iterator[str]:
    """What the standard forbids and a Pod does."""
    own = spec.get("securityContext", {})
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers") if key in spec)
    if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        if not set(volume) <= {"name"} | kinds:
            yield f"volume {volume}"
    for each in all_containers(spec):
        context = {**own, **each["securityContext"]}
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield f"{each['name']}: root"
        if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
            yield f"{each['name']}: privileges"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
            yield f"{each['name']}: capabilities"
        if any("hostPort" in port for port in each.get("ports", [])) or context.get("procMount"):
            yield f"{each['name']}: hostPort or procMount"


@cache
def schema(chart: str) -> dict[str, Any]:
    """Of a chart's values."""
    told: dict[str, Any] = json.loads((CHARTS / chart / "values.schema.json").read_text())
    return told


@cache
def defaults(chart: str) -> Values:
    """Of a chart."""
    told: Values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    return told


def spots(values: Any, at: Spot = ()) -> Iterator[tuple[Spot, Any]]:
    """Every place in some values, and what is there."""
    yield at, values
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, each in inner:
        yield from spots(each, (*at, key))


def with_at(values: Values, at: Spot, new: Any) -> Values:
    """The same values with another one at one place."""
    changed = copy.deepcopy(values)
    inner: Any = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return changed


def over(under: Values, above: Values) -> Values:
    """Values the way that Helm puts them together."""
    both = {**under, **above}
    for key in under.keys() & above.keys():
        if isinstance(under[key], dict) and isinstance(above[key], dict):
            both[key] = over(under[key], above[key])
    return {key: value for key, value in both.items() if value is not None}


def objects_of(part: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object inside a schema."""
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield part
        for each in part.values():
            yield from objects_of(each)
