"""The chart of the runner: a Job with the suite, the rights it needs, a place for its results."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from rendering import (
    CHARTS,
    DIGEST,
    GOLDEN,
    HELM,
    KUBERNETES,
    REWRITE,
    Refused,
    Spot,
    Values,
    all_containers,
    defaults,
    not_restricted,
    objects_of,
    one,
    over,
    pod_specs,
    render,
    rendered,
    schema,
    spots,
    text_of,
    with_at,
    yaml,
)

from pytest_codexbench.options import REGISTRY, read_options

pytestmark = pytest.mark.skipif(HELM is None, reason="no `helm` on PATH, nor in CODEXBENCH_HELM")

MATRIX = 'shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.http]\n'
FULL: Values = {
    "matrix": "mine",
    "matrixFile": MATRIX,
    "systems": "codex.new,bittorrent",
    "workers": 4,
    "arguments": ["--cb-budget=8h", "-k", 'n08 and not "x"'],
    "swarms": {"placement": "spread", "storage": {"kind": "pvc"}, "nodeSelector": {"pool": "bench"}},
    "results": {"kind": "pvc", "size": "5Gi", "class": "fast", "keepMinutes": 5},
    "image": {"repository": "here/runner", "tag": "2", "digest": DIGEST, "pullPolicy": "Never"},
    "agent": {"image": {"repository": "here/agent", "tag": "2", "digest": "", "pullPolicy": "Never"}},
    "imageRegistry": "registry.example:5000/mirror",
    "imagePullSecrets": [{"name": "my-registry"}],
    "rights": {"create": True},
    "serviceAccount": "",
    "nodeSelector": {"pool": "control"},
    "tolerations": [{"key": "control", "operator": "Exists"}],
    "priorityClassName": "high",
    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "4Gi"}},
    "podSecurity": {"user": 1000680000, "group": 1000680001},
    "jobAnnotations": {"argocd.argoproj.io/hook": "PostSync"},
    "run": "nightly",
    "cell": "all",
}
SETS: dict[str, Values] = {"plain": {}, "full": FULL}


def job(values: Values) -> dict[str, Any]:
    """The Pod of the Job."""
    found: dict[str, Any] = one(render("runner", values, "bench"), "Job")["spec"]["template"]["spec"]
    return found


def command(values: Values) -> list[str]:
    """The command line of the run."""
    return list(job(values)["containers"][0]["args"])


@pytest.mark.parametrize("values", SETS)
def test_renders_are_the_golden_ones(values: str) -> None:
    """What is rendered changes only together with the golden files: CODEXBENCH_WRITE_GOLDEN=1 writes them anew."""
    path, text = GOLDEN / f"runner-{values}.yaml", text_of("runner", SETS[values], "bench")
    if REWRITE:
        path.write_text(text, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("values", SETS)
def test_objects_fit_the_schemas_of_kubernetes(values: str) -> None:
    """No field is misspelt, missing or of another type, for the oldest and a recent Kubernetes."""
    schemas = pytest.importorskip("kubernetes_validate")
    for each in render("runner", SETS[values], "bench"):
        for version in KUBERNETES:
            schemas.validate(each, version, strict=True)


def test_lint_finds_nothing() -> None:
    """``helm lint --strict`` finds neither errors nor warnings."""
    argv = [str(HELM), "lint", "--strict", str(CHARTS / "runner")]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert 0 == run.returncode, run.stdout
    assert "[WARNING]" not in run.stdout


@pytest.mark.parametrize("values", SETS)
def test_pods_are_restricted(values: str) -> None:
    """Every Pod passes the Pod Security Standard "restricted" and can write to volumes alone."""
    for spec in pod_specs(render("runner", SETS[values], "bench")):
        assert [] == list(not_restricted(spec))
        for each in all_containers(spec):
            assert each["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_command_says_what_the_values_do() -> None:
    """Every option that the chart gives is one that the plugin has, with the value that was asked for."""
    told = command(FULL)
    options = dict(word.removeprefix("--").split("=", 1) for word in told if word.startswith("--cb-") and "=" in word)

    assert "--matrix=/settings/mine.toml" in told
    assert ["-n", "4"] == told[told.index("-n") :][:2]
    assert FULL["arguments"] == told[-3:]
    assert "registry.example:5000/mirror/here/agent:2" == options["cb-agent-image"]
    assert "codex.new,bittorrent" == options["cb-systems"]
    assert "--matrix=smoke" in command({})
    asked = {
        name.removeprefix("cb-"): value for name, value in options.items() if name not in ("cb-systems", "cb-values")
    }
    read_options((asked | {"matrix": "smoke"}).get)


def test_settings_are_files_of_the_suite(tmp_path: Path) -> None:
    """The matrix file is what was given, to the letter; the swarms' values are such as every chart takes."""
    data = one(render("runner", FULL, "bench"), "ConfigMap")["data"]
    swarms = yaml.safe_load(data["swarms.yaml"])

    assert MATRIX == data["mine.toml"]
    assert {"agent": {"image": {"pullPolicy": "Never"}}, **FULL["swarms"]} == swarms
    for chart in ("bittorrent", "codex", "http", "ipfs"):
        assert "spread" in FULL["swarms"].values()
        assert "podAntiAffinity" in text_of(chart, swarms)


def test_rights_are_those_of_the_role_alone() -> None:
    """No wildcard, nothing that would give it more rights; none at all, or another account, if that is asked for."""
    objects = render("runner", {}, "bench")
    rules = one(objects, "ClusterRole")["rules"]
    none = render("runner", {"rights": {"create": False}, "serviceAccount": "mine"}, "bench")

    assert [] == [rule for rule in rules if "*" in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}]
    touched = {resource for rule in rules for resource in rule["resources"]}
    assert not touched & {
        "roles",
        "clusterroles",
        "rolebindings",
        "clusterrolebindings",
        "serviceaccounts",
        "pods/exec",
    }
    assert not {"ClusterRole", "ClusterRoleBinding", "ServiceAccount"} & {each["kind"] for each in none}
    assert "mine" == one(none, "Job")["spec"]["template"]["spec"]["serviceAccountName"]


def test_results_outlive_the_release() -> None:
    """On a claim that stays; or, if asked for, in the Pod alone."""
    objects = render("runner", {}, "bench")
    fleeting = render("runner", {"results": {"kind": "emptyDir"}}, "bench")

    assert "keep" == one(objects, "PersistentVolumeClaim")["metadata"]["annotations"]["helm.sh/resource-policy"]
    assert "PersistentVolumeClaim" not in {each["kind"] for each in fleeting}
    assert {"emptyDir": {"sizeLimit": "1Gi"}, "name": "results"} in job({"results": {"kind": "emptyDir"}})["volumes"]


def wrongs() -> list[tuple[Spot, Values]]:
    """Values with one thing wrong, and where."""
    found: list[tuple[Spot, Values]] = [(("no such key",), {**FULL, "no such key": 1})]
    for at, there in spots(FULL):
        if not at:
            continue
        if isinstance(there, dict):
            found.append((at, with_at(FULL, (*at, "no such key"), "x")))
        others = ("\x01", 7.5, -1, True, ["x\n"], {"x": "y"}, None)
        optional = at[0] in ("swarms", "resources", "nodeSelector", "tolerations", "jobAnnotations")
        loose = {
            "nodeSelector": (str,),
            "jobAnnotations": (str,),
            "size": (float,),
            "cpu": (float,),
            "memory": (float,),
        }
        found += [
            (at, with_at(FULL, at, other))
            for other in others
            if type(other) not in (type(there), *loose.get(str(at[-1]), ())) and not (other is None and optional)
        ]
    return found


def test_every_wrong_value_is_refused() -> None:
    """Unknown keys, other types and missing ones, at every place there is; also in what swarms are given."""
    check = Draft7Validator(schema("runner"))
    taken = [at for at, values in wrongs() if check.is_valid(over(defaults("runner"), values))]

    assert [] == taken
    assert check.is_valid(defaults("runner"))
    assert check.is_valid(over(defaults("runner"), FULL))


@pytest.mark.parametrize(
    "values, key",
    [
        ({"workers": 0}, "workers"),
        ({"matrix": "a/b"}, "matrix"),
        ({"systems": "a b"}, "systems"),
        ({"arguments": ["a\nb"]}, "arguments"),
        ({"results": {"size": "1 GB"}}, "size"),
        ({"swarms": {"nodes": 5}}, "swarms"),
        ({"swarms": {"placement": "near"}}, "placement"),
        ({"imageRegistry": "UPPER"}, "imageRegistry"),
    ],
)
def test_what_is_refused_is_named(values: Values, key: str) -> None:
    """Helm refuses it before anything is installed, with the key in what it says."""
    with pytest.raises(Refused, match=key):
        text_of("runner", values)


def test_schemas_have_no_loophole() -> None:
    """Every object says what it may have, and nothing else; what has a default cannot be taken away by a null."""
    found = list(objects_of(schema("runner")))

    assert [] == [each for each in found if each.get("additionalProperties") is not False]
    assert defaults("runner").keys() == set(schema("runner")["required"])
    assert schema("runner")["properties"]["imageRegistry"]["pattern"] == f"^({REGISTRY.pattern})?$"


def test_every_value_is_described() -> None:
    """In values.yaml, and from there in the README, with its default."""
    leaves = [
        ".".join(map(str, at))
        for at, there in spots(defaults("runner"))
        if at and (not isinstance(there, dict) or not there)
    ]
    text = (CHARTS / "runner" / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \| \S+ \| `(.*?)` \| (.+) \|$", text, re.MULTILINE)

    assert sorted(leaves) == sorted(name for name, _, _ in rows)


def test_it_works_where_links_became_files(tmp_path: Path) -> None:
    """As in an archive: the library is inside the chart, and nothing is to be fetched first."""
    shutil.copytree(CHARTS / "runner", tmp_path / "runner")

    assert text_of("runner", {}) == rendered(tmp_path / "runner", "{}", "demo")
