"""The Helm charts: what they render, from which values, and what they refuse."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from rendering import (
    CHARTS,
    DIGEST,
    GOLDEN,
    HELM,
    KUBERNETES,
    REWRITE,
    TOKEN,
    Objects,
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
)

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import LEAST_RATE, MOST_RATE, MOST_SIZE, PROFILES, parse_rate, parse_size
from pytest_codexbench.rpc import TOKEN_VARIABLE
from pytest_codexbench.systems import Place
from pytest_codexbench.systems.codex import OURS, WAYS, quota
from pytest_codexbench.systems.ipfs import ENVIRONMENT, _private

HELM_DOCS = os.environ.get("CODEXBENCH_HELM_DOCS") or shutil.which("helm-docs")
KUBO = os.environ.get("CODEXBENCH_IPFS_BIN") or shutil.which("ipfs")

pytestmark = pytest.mark.skipif(HELM is None, reason="no `helm` on PATH, nor in CODEXBENCH_HELM")
yaml = pytest.importorskip("yaml")

NAMES = ("bittorrent", "codex", "http", "ipfs")
SCENARIOS = sorted(path.stem for path in (CHARTS / "scenarios").glob("*.yaml"))


# Every example is a run of Helm: one that fails is told as it is, instead of being made smaller for minutes.
few = settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
each_chart = pytest.mark.parametrize("chart", NAMES)

PLAIN: Values = {"token": TOKEN}
SETTINGS: Mapping[str, Values] = {
    "bittorrent": {"profile": "stock", "piece_size": 1 << 20},
    "codex": {"download": "background", "flags": "--max-peers=200 --block-mn=2000"},
    "http": {},
    "ipfs": {},
}


def full(chart: str) -> Values:
    """Values that leave nothing at its default."""
    image = {"repository": "registry.local:5000/a/b_c", "tag": "v1.2-3", "digest": DIGEST, "pullPolicy": "Never"}
    amounts = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "3G"}
    own: Values = {}
    if chart in ("codex", "ipfs"):
        own["image"] = dict(image)
    if chart == "codex":
        own |= {"generation": "second", "program": "/opt/storage", "bootstrap": {"deadlineSeconds": 30}}
    return {
        **own,
        "nodes": 8,
        "data": {"size": "1.5GiB", "files": 3},
        "settings": dict(SETTINGS[chart]),
        "agent": {"image": image | {"digest": ""}},
        "imageRegistry": "registry.example:5000/mirror",
        "imagePullSecrets": [{"name": "my-registry"}],
        "storage": {"kind": "pvc", "class": "fast.local", "reserve": True},
        "link": {"rate": "100mbit"},
        "placement": "spread",
        "nodeSelector": {"disktype": "ssd", "node.kubernetes.io/pool": "bench"},
        "tolerations": [
            {"key": "bench", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60}
        ],
        "priorityClassName": "high",
        "resources": {
            "node": {"requests": dict(amounts), "limits": dict(amounts)},
            "agent": {"requests": dict(amounts), "limits": dict(amounts)},
        },
        "podSecurity": {"user": 1000680000, "group": 1000680001},
        "token": TOKEN,
        "run": "2026-11-24T03.27_a",
        "cell": "n08-s02-1.5GiB",
        "extraEnv": [{"name": "TRACE", "value": "$(POD_NAME): all"}],
    }


SETS = {"plain": lambda chart: PLAIN, "full": full}


def pod(objects: Objects) -> dict[str, Any]:
    """A node's Pod."""
    found: dict[str, Any] = one(objects, "StatefulSet")["spec"]["template"]["spec"]
    return found


def container(objects: Objects, name: str) -> dict[str, Any]:
    """One container of a node's Pod."""
    spec = pod(objects)
    (found,) = (each for each in [*spec["containers"], *spec.get("initContainers", [])] if each["name"] == name)
    return dict(found)


def variables(of: Mapping[str, Any]) -> dict[str, str]:
    """A container's variables that are told in the values."""
    return {each["name"]: each["value"] for each in of["env"] if "value" in each}


def arguments(of: Mapping[str, Any]) -> dict[str, str]:
    """A container's arguments of the form --name=value."""
    return dict(each.removeprefix("--").split("=", 1) for each in of["args"] if each.startswith("--") and "=" in each)


# --- what they render ---


@pytest.mark.parametrize("chart", [*NAMES, "node"])
def test_lint_finds_nothing(chart: str) -> None:
    """``helm lint --strict`` finds neither errors nor warnings."""
    argv = [str(HELM), "lint", "--strict", str(CHARTS / chart)]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert 0 == run.returncode, run.stdout
    assert "[WARNING]" not in run.stdout


@each_chart
@pytest.mark.parametrize("values", SETS)
def test_renders_are_the_golden_ones(chart: str, values: str) -> None:
    """What is rendered changes only together with the golden files: CODEXBENCH_WRITE_GOLDEN=1 writes them anew."""
    path, text = GOLDEN / f"{chart}-{values}.yaml", text_of(chart, SETS[values](chart))
    if REWRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == text


@each_chart
@pytest.mark.parametrize("values", SETS)
def test_objects_fit_the_schemas_of_kubernetes(chart: str, values: str) -> None:
    """No field is misspelt, missing or of another type, for the oldest and a recent Kubernetes."""
    schemas = pytest.importorskip("kubernetes_validate")
    objects = render(chart, SETS[values](chart))

    for each in objects:
        for version in KUBERNETES:
            schemas.validate(each, version, strict=True)
    kinds = {"Secret", "Service", "StatefulSet", "Pod"} | ({"Deployment"} if chart == "bittorrent" else set())
    assert kinds == {each["kind"] for each in objects}


@each_chart
@pytest.mark.parametrize("values", SETS)
def test_pods_are_restricted(chart: str, values: str) -> None:
    """Every Pod passes the Pod Security Standard "restricted", can write to volumes alone, and has no API token."""
    specs = list(pod_specs(render(chart, SETS[values](chart))))

    assert specs
    for spec in specs:
        assert [] == list(not_restricted(spec))
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for each in all_containers(spec):
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"/tmp"} <= {mount["mountPath"] for mount in each["volumeMounts"]}


@each_chart
def test_all_objects_carry_the_labels_of_run_and_cell(chart: str) -> None:
    """What is to be found and removed by label has them, Pods and claims too; an object without a run has none."""
    wanted = {"codexbench/run": "r1", "codexbench/cell": "c1", "app.kubernetes.io/instance": "demo"}
    objects = render(chart, PLAIN | {"run": "r1", "cell": "c1", "storage": {"kind": "pvc"}})
    inner = [each["spec"]["template"] for each in objects if "template" in each.get("spec", {})]
    claims = one(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]

    for each in [*objects, *inner, *claims]:
        assert wanted.items() <= each["metadata"]["labels"].items()
    unmarked = [label for each in render(chart, PLAIN) for label in each["metadata"]["labels"]]
    assert [] == [label for label in unmarked if label.startswith("codexbench/")]


@each_chart
def test_selectors_select_the_pods_of_one_component(chart: str) -> None:
    """The nodes' Service and StatefulSet select the nodes' Pods, and neither the tracker's nor the trial's."""
    objects = render(chart, full(chart))
    nodes = one(objects, "StatefulSet")["spec"]
    services = {each["metadata"]["name"]: each["spec"]["selector"] for each in objects if each["kind"] == "Service"}
    others = [each["metadata"]["labels"] for each in objects if each["kind"] == "Pod"]
    others += [each["spec"]["template"]["metadata"]["labels"] for each in objects if each["kind"] == "Deployment"]

    selector = nodes["selector"]["matchLabels"]
    assert selector == services["demo"]
    assert selector.items() <= nodes["template"]["metadata"]["labels"].items()
    assert selector == nodes_affinity(nodes)["labelSelector"]["matchLabels"]
    assert not [each for each in others if selector.items() <= each.items()]


def nodes_affinity(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The term of the only rule that a StatefulSet's Pods are placed by."""
    ((_, rule),) = nodes["template"]["spec"]["affinity"].items()
    (term,) = rule["requiredDuringSchedulingIgnoredDuringExecution"]
    return dict(term)


@each_chart
def test_the_swarm_starts_at_once_under_stable_names(chart: str) -> None:
    """All Pods start in parallel, and have their names in DNS before they are ready."""
    objects = render(chart, PLAIN | {"nodes": 32})
    nodes = one(objects, "StatefulSet")["spec"]
    (service,) = (each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == "demo")

    assert (32, "Parallel", "demo") == (nodes["replicas"], nodes["podManagementPolicy"], nodes["serviceName"])
    assert ("None", True) == (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"])


@each_chart
def test_node_and_agent_share_processes_and_volume(chart: str) -> None:
    """The agent sees the node's processes and, at the same path, its files."""
    objects = render(chart, PLAIN)
    mounts = [container(objects, name)["volumeMounts"] for name in ("node", "agent")]

    assert pod(objects)["shareProcessNamespace"] is True
    assert mounts[0] == mounts[1]
    assert {"name": "data", "mountPath": "/codexbench"} in mounts[0]


@each_chart
def test_agents_understand_what_they_are_told(chart: str) -> None:
    """The agent's own parser takes the arguments: only then does it miss the token, which is not given here."""
    objects = render(chart, PLAIN | {"settings": SETTINGS[chart]})
    told = [container(objects, "agent")["args"]]
    if "--become" in (own := container(objects, "node")["args"]):
        assert ["python3", "-m", "pytest_codexbench.agent"] == own[:3]
        told.append(own[3:])

    for args in told:
        argv = [sys.executable, "-m", "pytest_codexbench.agent", *args]
        env = {key: value for key, value in os.environ.items() if key != TOKEN_VARIABLE}
        run = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert f"WrongInput: the environment variable {TOKEN_VARIABLE} is not set" in run.stderr
    system = arguments(container(objects, "agent"))["system"]
    assert chart == system
    assert SETTINGS[chart] == json.loads(arguments(container(objects, "agent"))["settings"])


@each_chart
def test_the_token_is_in_the_secret_alone(chart: str) -> None:
    """Whoever reads the Pods does not learn it; without one in the values there is a random one."""
    objects = render(chart, PLAIN)
    drawn = {one(render(chart, {"run": run}), "Secret")["data"]["token"] for run in ("a", "b")}

    assert TOKEN == base64.b64decode(one(objects, "Secret")["data"]["token"]).decode()
    assert TOKEN not in json.dumps([each for each in objects if each["kind"] != "Secret"])
    (token,) = (each for each in container(objects, "agent")["env"] if each["name"] == TOKEN_VARIABLE)
    assert {"secretKeyRef": {"name": "demo", "key": "token"}} == token["valueFrom"]
    assert 2 == len(drawn)
    assert {48} == {len(base64.b64decode(each)) for each in drawn}


@each_chart
def test_images_by_tag_or_digest(chart: str) -> None:
    """A digest goes before a tag, which else is the chart's own."""
    version = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())["appVersion"]
    by_digest = PLAIN | {"agent": {"image": {"repository": "here/agent", "tag": "1", "digest": DIGEST}}}

    assert container(render(chart, PLAIN), "agent")["image"].endswith(f"/agent:{version}")
    assert f"here/agent@{DIGEST}" == container(render(chart, by_digest), "agent")["image"]


@each_chart
@pytest.mark.parametrize(
    "named, image",
    [
        ("here/agent", "mirror.example:5000/all/here/agent:1"),
        ("agent", "mirror.example:5000/all/agent:1"),
        ("there.example/agent", "there.example/agent:1"),
        ("there:5000/agent", "there:5000/agent:1"),
        ("localhost/agent", "localhost/agent:1"),
    ],
)
def test_a_registry_goes_before_images_that_name_none(chart: str, named: str, image: str) -> None:
    """Of the agents and of the nodes alike, also where the chart names the image."""
    values = PLAIN | {"imageRegistry": "mirror.example:5000/all", "agent": {"image": {"repository": named, "tag": "1"}}}
    objects = render(chart, values)

    assert image == container(objects, "agent")["image"]
    if chart in ("codex", "ipfs"):
        assert container(objects, "node")["image"].startswith("mirror.example:5000/all/")


@each_chart
def test_placement(chart: str) -> None:
    """One node a host, all on one host, or as the scheduler likes."""
    rules = {
        placement: pod(render(chart, PLAIN | {"placement": placement})).get("affinity", {})
        for placement in ("any", "spread", "pack")
    }

    assert {} == rules["any"]
    assert {"podAntiAffinity"} == rules["spread"].keys()
    assert {"podAffinity"} == rules["pack"].keys()


@each_chart
def test_storage_is_bounded_and_goes_with_the_release(chart: str) -> None:
    """A volume of the host's has a limit, and its room may be reserved; a claim asks for as much, and is deleted."""
    volume = {each["name"]: each for each in pod(render(chart, PLAIN))["volumes"]}["data"]
    reserved = container(render(chart, PLAIN | {"storage": {"reserve": True}}), "node")["resources"]["requests"]
    nodes = one(render(chart, PLAIN | {"storage": {"kind": "pvc", "class": "fast"}}), "StatefulSet")["spec"]
    (claim,) = nodes["volumeClaimTemplates"]

    assert {"name": "data", "emptyDir": {"sizeLimit": reserved["ephemeral-storage"]}} == volume
    assert {"requests": {"storage": reserved["ephemeral-storage"]}} == claim["spec"]["resources"]
    assert "fast" == claim["spec"]["storageClassName"]
    assert {"Delete"} == set(nodes["persistentVolumeClaimRetentionPolicy"].values())
    assert not [each for each in nodes["template"]["spec"]["volumes"] if each["name"] == "data"]


@each_chart
def test_resources_never_contradict_each_other(chart: str) -> None:
    """A limit or request that is given stands alone: the usual one of the other kind might not go with it."""
    given = {"node": {"limits": {"memory": "10Mi", "cpu": "1m"}}, "agent": {"requests": {"memory": "100Gi"}}}
    objects = render(chart, PLAIN | {"resources": given})
    node, agent = (container(objects, name)["resources"] for name in ("node", "agent"))

    assert {"limits": {"memory": "10Mi", "cpu": "1m"}, "requests": {}} == node
    assert {"limits": {}, "requests": {"memory": "100Gi", "cpu": "20m"}} == agent


@pytest.mark.parametrize("release", ["1st", "a.b", "a" * 53])
def test_a_release_whose_name_cannot_name_pods_is_refused(release: str) -> None:
    """Helm allows names that a Service or a StatefulSet's labels cannot have."""
    with pytest.raises(Refused, match="it names Pods and Services"):
        text_of("http", PLAIN, release)


@each_chart
def test_names_that_yaml_would_read_otherwise_stay_names(chart: str) -> None:
    """A release, a class or a variable may be called true, null or on."""
    values = PLAIN | {
        "storage": {"kind": "pvc", "class": "null"},
        "priorityClassName": "on",
        "agent": {"image": {"repository": "20", "tag": "30"}},
        "extraEnv": [{"name": "NULL", "value": "="}, {"name": "Y", "value": "1e3"}],
        "run": "1e3",
        "cell": "0x1",
    }
    objects = render(chart, values, "true")
    nodes = one(objects, "StatefulSet")

    assert ("true", "true", "on") == (
        nodes["metadata"]["name"],
        nodes["spec"]["serviceName"],
        pod(objects)["priorityClassName"],
    )
    assert "null" == nodes["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"]
    assert {"NULL": "=", "Y": "1e3"}.items() <= variables(container(objects, "node")).items()
    assert "20:30" == container(objects, "agent")["image"]
    for each in objects:
        assert {str} == {type(label) for label in each["metadata"]["labels"].values()}


# --- what is each one's own ---


@pytest.mark.parametrize(
    "generation, word, image",
    [("first", "codex", "codexstorage/nim-codex"), ("second", "storage", "logosstorage/logos-storage-nim")],
)
def test_both_generations_get_the_same_settings(generation: str, word: str, image: str) -> None:
    """Each reads its own prefix; the program, its image and the path of the first node's record differ."""
    objects = render("codex", PLAIN | {"generation": generation})
    node, bootstrap = (container(objects, name) for name in ("node", "bootstrap"))
    by_prefix = [
        {name.removeprefix(prefix): value for name, value in variables(node).items() if name.startswith(prefix)}
        for prefix in ("CODEX_", "STORAGE_")
    ]

    assert by_prefix[0] == by_prefix[1]
    assert [word] == node["args"]
    assert image == node["image"].partition(":")[0]
    assert f"http://demo-0.demo:8080/api/{word}/v1/spr" == arguments(bootstrap)["url"]


def test_the_ports_are_those_that_the_agent_is_told() -> None:
    """What stands beside the agent listens where the agent asks."""
    settings_ = variables(container(render("codex", PLAIN), "node"))
    script = container(render("ipfs", PLAIN), "node")["command"][2]
    told = {chart: json.loads(arguments(container(render(chart, PLAIN), "agent"))["beside"]) for chart in NAMES}

    ports = {"api": int(settings_["CODEX_API_PORT"]), "metrics": int(settings_["CODEX_METRICS_PORT"])}
    assert {"codex": ports, "ipfs": {"api": 5001}, "http": {}, "bittorrent": {}} == told
    assert 'Addresses.API "/ip4/127.0.0.1/tcp/5001"' in script


def test_flags_of_the_variant_go_to_the_program() -> None:
    """Those that the chart sets itself are refused, the same ones that the driver refuses."""
    flags = {"settings": {"flags": "--max-peers=200 --block-mn=2000"}}

    assert ["codex", "--max-peers=200", "--block-mn=2000"] == container(render("codex", PLAIN | flags), "node")["args"]
    template = (CHARTS / "codex/templates/_node.tpl").read_text()
    (ours,) = re.findall(r'define "codex.ours" -}}(.*?){{', template, re.DOTALL)
    assert set(OURS) == set(json.loads(ours))
    with pytest.raises(Refused, match=r"settings.flags: --nat=none is set by the chart"):
        text_of("codex", {"settings": {"flags": "--max-peers=1 --nat=none"}})


def test_only_nodes_after_the_first_wait_for_its_record(tmp_path: Path) -> None:
    """The first one must not: it would wait for itself. It is also the only one that starts without knowing anybody."""
    objects = render("codex", PLAIN)
    wait, start = (container(objects, name)["command"] for name in ("bootstrap", "node"))
    record = tmp_path / "bootstrap.env"
    record.write_text("CODEX_BOOTSTRAP_NODE='spr:abc'\n")
    told = ["sh", "-c", 'echo "${CODEX_BOOTSTRAP_NODE:-} ${STORAGE_NO_BOOTSTRAP_NODE:-}"']

    def said(argv: Sequence[str], name: str) -> str:
        argv = [part.replace("/codexbench/bootstrap.env", str(record)) for part in argv]
        env = {"PATH": os.environ["PATH"], "POD_NAME": name, "CODEX_DATA_DIR": str(tmp_path / name)}
        return subprocess.run([*argv, *told], env=env, capture_output=True, text=True, check=True).stdout.strip("\n")

    assert ["", " ", " "] == [said(wait, name) for name in ("demo-0", "demo-1", "demo-10")]
    assert [" true", "spr:abc ", "spr:abc "] == [said(start, name) for name in ("a-1-0", "demo-1", "demo-10")]
    assert 0o40700 == (tmp_path / "demo-1").stat().st_mode


def test_peers_meet_at_the_releases_own_tracker() -> None:
    """The agents and the nodes are told its Service, which gives them the Pod's own address."""
    objects = render("bittorrent", PLAIN, "mine")
    (service,) = (each for each in objects if each["metadata"]["name"] == "mine-tracker" and each["kind"] == "Service")
    told = {arguments(container(objects, name))["services"] for name in ("node", "agent")}

    assert {'{"tracker":"http://mine-tracker:6969"}'} == told
    assert ("None", 6969) == (service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"])


@pytest.mark.skipif(KUBO is None, reason="no `ipfs` on PATH, nor in CODEXBENCH_IPFS_BIN")
def test_the_repository_is_set_up_as_on_one_machine(tmp_path: Path) -> None:
    """The chart's shell script and the driver make the same configuration and the same swarm key."""
    node = container(render("ipfs", PLAIN | {"data": {"size": "30MB"}}), "node")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ipfs").symlink_to(str(KUBO))
    told = {"IPFS_PATH": str(tmp_path / "ipfs"), "POD_IP": "10.0.0.7", TOKEN_VARIABLE: TOKEN, "HOME": str(tmp_path)}
    env = {**variables(node), **told, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    for _ in range(2):  # a container that starts again finds the repository there
        subprocess.run([*node["command"], "true"], env=env, capture_output=True, timeout=120, check=True)

    place = Place("n", "10.0.0.7", tmp_path, TOKEN, largest=30_000_000)
    config = json.loads((tmp_path / "ipfs/config").read_text())
    fresh = copy.deepcopy(config)
    wanted = _private(fresh, place, 4001, 5001)
    wanted["Addresses"]["API"] = "/ip4/127.0.0.1/tcp/5001"  # the agent is in the same Pod
    assert _said(wanted) == _said(config)
    assert ENVIRONMENT.items() <= variables(node).items()
    key = f"/key/swarm/psk/1.0.0/\n/base16/\n{hashlib.sha256(TOKEN.encode()).hexdigest()}\n"
    assert key == (tmp_path / "ipfs/swarm.key").read_text()
    assert ["ipfs", "daemon", "--migrate=false"] == node["args"]


def _said(value: Any) -> Any:
    """Without what says nothing: Kubo writes empty objects for settings of its own that have none."""
    if not isinstance(value, dict):
        return value
    inner = {key: _said(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if each not in ({}, None)}


# --- sizes ---

WHOLE = st.one_of(st.integers(0, 1100), st.integers(0, 10**13))
DIGITS = st.text("0123456789", max_size=6).map(lambda digits: f".{digits}" if digits else "")
UNITS = st.sampled_from(["B", "kB", "KiB", "MB", "mb", "MiB", "GB", "gib", "TB", "TiB"])
SIZES = st.builds("{}{}{}{}".format, WHOLE, DIGITS, st.sampled_from(["", " "]), UNITS)
RATES = st.builds(
    "{}{}{}bit".format, st.integers(0, 999_999), st.sampled_from(["", ".5", ".025", ".001"]), st.sampled_from("kmgKMG")
)


@pytest.fixture(scope="module")
def computing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart that prints what the library computes of lists of values, so that one run of Helm checks many."""
    chart = tmp_path_factory.mktemp("computing")
    shutil.copytree(CHARTS / "node", chart / "charts" / "node")
    (chart / "Chart.yaml").write_text(
        "{apiVersion: v2, name: computing, version: 0.0.1, dependencies: [{name: node, version: 0.1.0}]}\n"
    )
    (chart / "templates").mkdir()
    (chart / "templates/all.yaml").write_text(
        "told:\n{{ range .Values.data }}{{ $in := dict `Values` (dict `data` .) }}"
        "- [{{ range list `largest` `quota` `volume` }}{{ include (printf `node.%s` .) $in }},{{ end }}]\n{{ end }}"
        "{{ range .Values.links }}- {{ include `node.bandwidth` (dict `Values` (dict `link` .)) }}\n{{ end }}"
    )
    return chart


@few
@given(texts=st.lists(SIZES, min_size=20, max_size=80), files=st.integers(1, 1000))
def test_sizes_are_computed_to_the_byte(computing: Path, texts: list[str], files: int) -> None:
    """Agents are told the size that the same text has in a matrix; the quota of one file is that on one machine."""
    sizes = {text: size for text in texts if (size := _size(text)) is not None}
    data = [{"size": text, "files": files} for text in sizes] + [{"size": size, "files": 1} for size in sizes.values()]
    if not data:
        return
    told = yaml.safe_load(rendered(computing, json.dumps({"data": data}), "demo"))["told"]

    several, single = told[: len(sizes)], told[len(sizes) :]
    assert list(sizes.values()) == [largest for largest, _, _ in several] == [largest for largest, _, _ in single]
    assert [quota(size) for size in sizes.values()] == [quota_ for _, quota_, _ in single]
    for size, stored, volume in [*several, *single]:
        made = size * (files if [size, stored, volume] in several else 1)
        assert volume >= stored + made


def _size(text: str) -> int | None:
    try:
        return parse_size(text)
    except WrongInput:
        return None


@few
@given(texts=st.lists(RATES, min_size=20, max_size=80))
def test_rates_are_what_they_are_in_a_matrix(computing: Path, texts: list[str]) -> None:
    """The annotation's quantity is as many bits a second."""
    rates = {text: rate for text in texts if (rate := _rate(text)) is not None}
    if not rates:
        return
    links = [{"rate": text} for text in rates]
    told = yaml.safe_load(rendered(computing, json.dumps({"links": links}), "demo"))["told"]

    units = {"k": 10**3, "M": 10**6, "G": 10**9}
    bits = [int(each[:-1]) * units[each[-1]] if str(each)[-1] in units else each for each in map(_plain, told)]
    assert list(rates.values()) == bits


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else str(value)


def _rate(text: str) -> int | None:
    try:
        return parse_rate(text)
    except WrongInput:
        return None


@few
@given(text=SIZES)
def test_a_size_is_taken_if_a_matrix_takes_it(text: str) -> None:
    """What is no whole number of bytes, or too many, is refused by name; the rest is what the agent is told."""
    size, values = _size(text), PLAIN | {"data": {"size": text}}
    if size is None:
        with pytest.raises(Refused, match=r"data.size"):
            text_of("http", values)
    else:
        assert size == int(arguments(container(render("http", values), "agent"))["largest"])


@each_chart
def test_links_are_limited_both_ways(chart: str) -> None:
    """By annotation; without a rate there is none."""
    names = [f"kubernetes.io/{way}-bandwidth" for way in ("ingress", "egress")]
    limited, free = (
        one(render(chart, values), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        for values in (PLAIN | {"link": {"rate": "1.5mbit"}}, PLAIN)
    )

    assert ["1500k", "1500k"] == [limited[name] for name in names]
    assert not set(names) & set(free)


# --- values ---


# Where other types are right too.
ALSO: Mapping[str, tuple[type, ...]] = {
    "size": (int,),
    **dict.fromkeys(("cpu", "memory", "ephemeral-storage"), (int, float)),
}
OTHERS = ("no such thing", 7.5, 7, True, ["x"], {"x": "y"})
# Texts that are right nowhere but in a variable's value, and numbers that are too small or too large everywhere.
TEXTS, NUMBERS = ("a\tb", "{{ 1 }}", "-", "ä"), (-1, 10**18)


def wrongs(chart: str) -> Iterator[tuple[Values, str]]:
    """Values with one thing wrong, and the key that a message must name."""
    right, usual = full(chart), defaults(chart)
    yield {**right, "no such key": "x"}, "no such key"
    for at, there in spots(right):
        if isinstance(there, dict) and at:
            yield with_at(right, (*at, "no such key"), "x"), "no such key"
        if at:
            yield from ((with_at(right, at, other), key_of(at)) for other in wrong_at(at, there))
    for at, _ in spots(usual):
        if at and at[0] != "settings":
            yield with_at(usual, at, None), key_of(at)
    for at, beyond in BEYOND:
        if at[0] in right:
            yield with_at(right, at, beyond), key_of(at)


def wrong_at(at: Spot, there: Any) -> Iterator[Any]:
    """What is wrong at one place, whatever else it allows: another type, a text of other signs, a number too large."""
    taken = (type(there), *ALSO.get(str(at[-1]), ()))
    yield from (other for other in OTHERS if type(other) not in taken)
    if type(there) is str and at[0] != "extraEnv":
        yield from TEXTS
    if type(there) is int:
        yield from NUMBERS


def key_of(at: Spot) -> str:
    """The last key on the way to a place, whose elements may be in a list."""
    return str(next(part for part in reversed(at) if isinstance(part, str)))


# Just beyond what is right.
BEYOND: Sequence[tuple[Spot, Any]] = [
    *((("nodes",), number) for number in (0, 1, 1001, 2.5)),
    *((("data", "files"), number) for number in (0, 1001, 1.5)),
    *((("data", "size"), size) for size in ("1", "1GBB", "01GB", "1.GB", ".5GB", "1 000MB", "-1MB", 0, MOST_SIZE + 1)),
    *((("link", "rate"), rate) for rate in ("100", "100mbps", "-1mbit", "1.2345mbit", "1tbit", "01mbit")),
    *((("run",), label) for label in ("a" * 64, "a/b", ".a", "a-")),
    *((("token",), token) for token in ("short", "a" * 129, f"{TOKEN} ")),
    *((("podSecurity", "user"), number) for number in (0, 2**31)),
    *((("agent", "image", "digest"), text) for text in ("sha256:0", DIGEST[:-1], DIGEST.upper())),
    *((("agent", "image", "repository"), text) for text in ("", "a:1", "a@b", "A/B/", "a//b", "/a")),
    *((("agent", "image", "tag"), text) for text in ("a" * 129, "a:b", ".a")),
    *((("resources", "node", "limits", "memory"), text) for text in ("0", "1 Gi", "1GB", "-1", 0, -1)),
    (("tolerations", 0, "effect"), "noexecute"),
    (("extraEnv", 0, "name"), "1A"),
    (("extraEnv", 0, "value"), "a\nb"),
    (("extraEnv", 0, "value"), "\x85"),
    (("settings", "piece_size"), 16383),
    (("settings", "profile"), "Tuned"),
    (("settings", "download"), "STREAM"),
    (("settings", "flags"), "max-peers=1"),
    (("settings", "flags"), "--a='b c'"),
    (("bootstrap", "deadlineSeconds"), 0),
]


@each_chart
def test_every_wrong_value_is_refused(chart: str) -> None:
    """Unknown keys, other types, missing ones, numbers and texts out of range, at every place there is."""
    check = Draft7Validator(schema(chart))
    taken = [
        f"{json.dumps(values)}: {key}" for values, key in wrongs(chart) if check.is_valid(over(defaults(chart), values))
    ]

    assert [] == taken
    assert check.is_valid(defaults(chart))
    assert check.is_valid(full(chart))


@each_chart
@few
@given(data=st.data())
def test_what_is_refused_is_named(chart: str, data: st.DataObject) -> None:
    """Helm itself refuses them too, before anything is installed, with the key in what it says."""
    values, key = data.draw(st.sampled_from(_wrongs(chart)))

    with pytest.raises(Refused) as refused:
        text_of(chart, values)
    assert key.replace("/", "~1") in str(refused.value).replace("/", "~1")


@cache
def _wrongs(chart: str) -> list[tuple[Values, str]]:
    return list(wrongs(chart))


@pytest.mark.parametrize(
    "values, said",
    [
        ({"data": {"size": "10.1TB"}}, 'data.size: "10.1TB" is not a whole number of bytes between 1 B and 10 TB'),
        ({"data": {"size": "1.5B"}}, 'data.size: "1.5B" is not a whole number'),
        ({"data": {"size": "99999999999999TiB"}}, "data.size: "),
        ({"link": {"rate": "99kbit"}}, 'link.rate: "99kbit" is not between 100kbit and 100gbit'),
        ({"link": {"rate": "999999999gbit"}}, "link.rate: "),
        ({"extraEnv": [{"name": "POD_IP", "value": "10.0.0.1"}]}, "extraEnv: POD_IP is set by the chart"),
        ({"extraEnv": [{"name": TOKEN_VARIABLE, "value": ""}]}, f"extraEnv: {TOKEN_VARIABLE} is set by the chart"),
    ],
)
def test_what_a_schema_cannot_say_is_refused_in_words(values: Values, said: str) -> None:
    """Sums and names that the chart has itself."""
    with pytest.raises(Refused, match=re.escape(said)):
        text_of("http", values)


LABELS = st.from_regex(r"\A([A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?)?\Z")
AMOUNTS = st.sampled_from(["100m", "1", "0.5", "2Gi", "1500M", 1, 0.25, 2**30])
PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
SOME = st.fixed_dictionaries({}, optional={"cpu": AMOUNTS, "memory": AMOUNTS, "ephemeral-storage": AMOUNTS})
RESOURCES = st.fixed_dictionaries({}, optional={"requests": SOME, "limits": SOME})
OWN: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "bittorrent": {"profile": st.sampled_from(PROFILES), "piece_size": st.integers(14, 27).map(lambda p: 1 << p)},
    "codex": {
        "download": st.sampled_from(WAYS),
        "flags": st.lists(st.from_regex(r"\A--x-[a-z0-9-]{1,9}(=[a-z0-9:;,./@]{0,9})?\Z")).map(" ".join),
    },
    "http": {},
    "ipfs": {},
}


def right(chart: str) -> st.SearchStrategy[Values]:
    """Values that must be taken."""
    return st.fixed_dictionaries(
        {
            "nodes": st.integers(2, 1000),
            "data": st.fixed_dictionaries(
                {"size": st.integers(1, MOST_SIZE) | SIZES.filter(_size), "files": st.integers(1, 1000)}
            ),
            "settings": st.fixed_dictionaries({}, optional=dict(OWN[chart])),
            "link": st.fixed_dictionaries(
                {"rate": st.just("") | st.integers(LEAST_RATE // 1000, MOST_RATE // 1000).map("{}kbit".format)}
            ),
        },
        optional={
            "storage": st.fixed_dictionaries({"kind": st.sampled_from(["emptyDir", "pvc"]), "reserve": st.booleans()}),
            "placement": st.sampled_from(["any", "spread", "pack"]),
            "nodeSelector": st.dictionaries(st.from_regex(r"\A[a-z]{1,9}/[A-Za-z0-9]{1,9}\Z"), LABELS, max_size=3),
            "resources": st.fixed_dictionaries({}, optional={"node": RESOURCES, "agent": RESOURCES}),
            "podSecurity": st.fixed_dictionaries({"user": st.integers(1, 2**31 - 1)}),
            "run": LABELS,
            "cell": LABELS,
            "token": st.from_regex(r"\A[A-Za-z0-9_-]{16,64}\Z"),
            "extraEnv": st.lists(
                st.fixed_dictionaries(
                    {"name": st.from_regex(r"\AX_[A-Z0-9_]{1,9}\Z"), "value": st.text(PRINTABLE, max_size=9)}
                ),
                max_size=3,
            ),
        },
    )


@each_chart
@few
@given(data=st.data())
def test_right_values_render_to_what_they_say(chart: str, data: st.DataObject) -> None:
    """Nothing that is right is refused, and every text reaches its container unchanged, whatever is in it."""
    values = data.draw(right(chart))
    objects = render(chart, values)
    agent, node = arguments(container(objects, "agent")), container(objects, "node")

    size = values["data"]["size"]
    assert (size if isinstance(size, int) else parse_size(size)) == int(agent["largest"])
    assert values["nodes"] == one(objects, "StatefulSet")["spec"]["replicas"]
    assert values["settings"] == json.loads(agent["settings"])
    given_ = values.get("extraEnv", [])
    assert given_ == [each for each in node["env"] if each["name"].startswith("X_")]
    labels = one(objects, "StatefulSet")["metadata"]["labels"]
    assert (values.get("run") or None, values.get("cell") or None) == (
        labels.get("codexbench/run"),
        labels.get("codexbench/cell"),
    )
    assert values.get("nodeSelector", {}) == pod(objects).get("nodeSelector", {})
    for spec in pod_specs(objects):
        assert [] == list(not_restricted(spec))


def test_what_all_charts_share_is_the_same_in_each() -> None:
    """Shared values have the same default, description and schema: who knows one chart knows all."""
    own = {"image", "settings", "generation", "program", "bootstrap"}
    shared = [
        {
            "defaults": {key: value for key, value in defaults(chart).items() if key not in own},
            "schema": {key: value for key, value in schema(chart)["properties"].items() if key not in own},
            "definitions": schema(chart)["definitions"],
        }
        for chart in NAMES
    ]

    assert [shared[0]] * len(NAMES) == shared


@pytest.mark.parametrize("chart", [*NAMES, "node"])
def test_schemas_have_no_loophole(chart: str) -> None:
    """Every object says what it may have, and nothing else; what has a default cannot be taken away by a null."""
    found = list(objects_of(schema(chart)))

    assert found
    assert [] == [each for each in found if each.get("additionalProperties") is not False]
    if chart in NAMES:
        assert defaults(chart).keys() == set(schema(chart)["required"])


@each_chart
def test_every_value_is_described(chart: str) -> None:
    """In values.yaml, and from there in the README, with its default."""
    leaves = [
        ".".join(map(str, at))
        for at, there in spots(defaults(chart))
        if at and (not isinstance(there, dict) or not there)
    ]
    rows = re.findall(
        r"^\| (\S+) \| \S+ \| `(.*?)` \| (.*) \|$", (CHARTS / chart / "README.md").read_text(), re.MULTILINE
    )

    assert sorted(leaves) == sorted(name for name, _, _ in rows)
    assert [] == [name for name, _, description in rows if not description.strip()]


@pytest.mark.skipif(HELM_DOCS is None, reason="no `helm-docs` on PATH, nor in CODEXBENCH_HELM_DOCS")
def test_readmes_are_up_to_date(tmp_path: Path) -> None:
    """``helm-docs --template-files=./readme.gotmpl --template-files=README.md.gotmpl`` in charts/ changes nothing."""
    copied = tmp_path / "charts"
    shutil.copytree(CHARTS, copied, symlinks=True)
    argv = [str(HELM_DOCS), "--template-files=./readme.gotmpl", "--template-files=README.md.gotmpl"]
    subprocess.run(argv, cwd=copied, capture_output=True, timeout=60, check=True)

    for chart in (*NAMES, "node", "runner"):
        assert (CHARTS / chart / "README.md").read_text() == (copied / chart / "README.md").read_text()


# --- scenarios, and where charts are used from ---


@each_chart
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios_are_what_they_are_called(chart: str, scenario: str) -> None:
    """Each goes with every chart as it is, and its name, that of a block of cells, tells the truth."""
    values = yaml.safe_load((CHARTS / "scenarios" / f"{scenario}.yaml").read_text())
    match = re.fullmatch(r"n(\d+)-s(\d+)-(\w+?)(?:-at(\w+))?", scenario)
    assert match is not None
    objects = render(chart, values)
    nodes = one(objects, "StatefulSet")

    assert int(match[2]) < int(match[1]) == nodes["spec"]["replicas"]
    assert parse_size(match[3]) == int(arguments(container(objects, "agent"))["largest"])
    assert (f"{match[4]}bit" if match[4] else None) == values.get("link", {}).get("rate")
    assert scenario == nodes["metadata"]["labels"]["codexbench/cell"]


@each_chart
def test_charts_work_where_links_became_files(chart: str, tmp_path: Path) -> None:
    """As in the installed package: the library is inside each chart, and nothing is to be fetched first."""
    shutil.copytree(CHARTS / chart, tmp_path / chart)
    copied = rendered(tmp_path / chart, json.dumps(PLAIN), "demo")

    assert (CHARTS / chart / "charts/node").resolve() == CHARTS / "node"
    assert not (tmp_path / chart / "charts/node").is_symlink()
    assert text_of(chart, PLAIN) == copied


@each_chart
def test_charts_can_be_packaged(chart: str, tmp_path: Path) -> None:
    """``helm package`` takes the library along."""
    argv = [str(HELM), "package", str(CHARTS / chart), "--destination", str(tmp_path)]
    subprocess.run(argv, capture_output=True, timeout=60, check=True)
    (package,) = tmp_path.iterdir()

    assert text_of(chart, PLAIN) == rendered(package, json.dumps(PLAIN), "demo")


def test_versions_go_together() -> None:
    """The charts are made for the library that they bring along."""
    told = {name: yaml.safe_load((CHARTS / name / "Chart.yaml").read_text()) for name in (*NAMES, "node", "runner")}

    for name in (*NAMES, "runner"):
        assert [{"name": "node", "version": told["node"]["version"], "repository": "file://../node"}] == told[name][
            "dependencies"
        ]
    assert 1 == len({each["appVersion"] for each in told.values()})
