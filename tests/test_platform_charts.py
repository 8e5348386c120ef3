"""The charts that store nothing: what watches, and networks of messages. What they render, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft7Validator
from rendering import (
    CHARTS,
    DIGEST,
    GOLDEN,
    HELM,
    REWRITE,
    Refused,
    Values,
    defaults,
    not_restricted,
    objects_of,
    one,
    over,
    pod_specs,
    render,
    schema,
    spots,
    text_of,
    with_at,
    yaml,
)

from pytest_codexbench.agent.exposition import NODES, OWN
from pytest_codexbench.systems import Place
from pytest_codexbench.systems.waku import METRICS, REST, TCP, GowakuNode, NwakuNode

pytestmark = pytest.mark.skipif(HELM is None, reason="no `helm` on PATH, nor in CODEXBENCH_HELM")

NAMES = ("monitoring", "waku")
FULL: dict[str, Values] = {
    "monitoring": {
        "database": {
            "kind": "victoriametrics",
            "image": {"repository": "here/db", "tag": "2", "digest": DIGEST, "pullPolicy": "Never"},
            "command": ["/db"],
            "interval": "500ms",
            "days": 7,
            "resources": {"requests": {"cpu": "1"}},
        },
        "alerts": {
            "enabled": True,
            "image": {"repository": "here/alerts", "tag": "2", "digest": "", "pullPolicy": "Never"},
            "alertmanager": "http://alertmanager.monitoring:9093",
        },
        "storage": {"kind": "emptyDir", "size": "2Gi", "class": ""},
        "imageRegistry": "registry.example:5000/mirror",
        "imagePullSecrets": [{"name": "my-registry"}],
        "nodeSelector": {"pool": "control"},
        "tolerations": [{"key": "control", "operator": "Exists"}],
        "priorityClassName": "high",
        "podSecurity": {"user": 1000680000, "group": 1000680001},
    },
    "waku": {
        "nodes": 3,
        "implementation": "nwaku",
        "program": "/opt/wakunode2",
        "meets": ["go", "go.other"],
        "image": {"repository": "here/nim", "tag": "2", "digest": DIGEST, "pullPolicy": "Never"},
        "settings": {"shard": 5},
        "token": "t" * 20,
        "run": "nightly",
    },
}
SETS = [(name, kind) for name in NAMES for kind in ("plain", "full")]


def values_of(name: str, kind: str) -> Values:
    """Plain ones have what must not be drawn at random."""
    plain: Values = {"waku": {"token": "t" * 20}, "monitoring": {"grafana": {"enabled": False}}}
    found: Values = FULL[name] if kind == "full" else plain[name]
    return over(found, {"grafana": {"enabled": False}}) if name == "monitoring" else found


@pytest.mark.parametrize("name, kind", SETS)
def test_renders_are_those_that_were_looked_at(name: str, kind: str) -> None:
    """Golden files: a change of a template is seen in them."""
    text, path = text_of(name, values_of(name, kind)), GOLDEN / f"{name}-{kind}.yaml"
    if REWRITE:
        path.write_text(text)

    assert path.read_text() == text


@pytest.mark.parametrize("name, kind", SETS)
def test_pods_are_restricted(name: str, kind: str) -> None:
    """Every Pod passes the Pod Security Standard "restricted", with a root file system that nothing can write to."""
    values = over(values_of(name, kind), {"grafana": {"enabled": True}}) if name == "monitoring" else FULL[name]
    specs = list(pod_specs(render(name, values, "mine")))

    assert specs
    for spec in specs:
        assert [] == list(not_restricted(spec))
        assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in spec["containers"])


@pytest.mark.parametrize("name", NAMES)
def test_schemas_have_no_loophole(name: str) -> None:
    """Every object says what it may have, and nothing else, but for what Kubernetes itself checks."""
    assert [] == [each for each in objects_of(schema(name)) if each.get("additionalProperties") is not False]
    assert defaults(name).keys() == set(schema(name)["required"])


@pytest.mark.parametrize("name", NAMES)
def test_every_wrong_value_is_refused(name: str) -> None:
    """Unknown keys and other types, at every place there is."""
    check = Draft7Validator(schema(name))
    taken = []
    for at, there in spots(FULL[name]):
        if isinstance(there, dict) and check.is_valid(
            over(defaults(name), with_at(FULL[name], (*at, "no such key"), "x"))
        ):
            taken.append((at, "no such key"))
        if at and check.is_valid(over(defaults(name), with_at(FULL[name], at, "\x01"))):
            taken.append((at, "another type"))

    assert [] == taken
    assert check.is_valid(over(defaults(name), FULL[name]))


@pytest.mark.parametrize(
    "name, values, key",
    [
        ("monitoring", {"database": {"kind": "influx"}}, "kind"),
        ("monitoring", {"database": {"interval": "often"}}, "interval"),
        ("monitoring", {"alerts": {"alertmanager": "nowhere"}}, "alertmanager"),
        ("waku", {"implementation": "rust"}, "implementation"),
        ("waku", {"meets": ["a b"]}, "meets"),
        ("waku", {"settings": {"shard": 1024}}, "shard"),
    ],
)
def test_what_is_refused_is_named(name: str, values: Values, key: str) -> None:
    """Helm refuses it before anything is installed, with the key in what it says."""
    with pytest.raises(Refused, match=key):
        text_of(name, values)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_described(name: str) -> None:
    """In values.yaml, and from there in the README, with its default."""
    leaves = [
        ".".join(map(str, at))
        for at, there in spots(defaults(name))
        if at and (not isinstance(there, dict) or not there)
    ]
    rows = re.findall(
        r"^\| (\S+) \| \S+ \| `(.*?)` \| (.+) \|$", (CHARTS / name / "README.md").read_text(), re.MULTILINE
    )
    described = {row[0] for row in rows}

    assert [] == [leaf for leaf in leaves if not any(leaf == one or leaf.startswith(f"{one}.") for one in described)]


@pytest.mark.parametrize("kind", ["prometheus", "victoriametrics"])
def test_everything_is_scraped_where_agents_tell_it(kind: str) -> None:
    """The paths are the agents' own, the port is that of the charts of nodes; kubelets take a right of their own."""
    objects = render("monitoring", {"database": {"kind": kind}, "grafana": {"enabled": False}}, "watch")
    (settings,) = (each for each in objects if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "watch")
    jobs = {job["job_name"]: job for job in yaml.safe_load(settings["data"]["scrape.yaml"])["scrape_configs"]}
    (node,) = pod_specs([one(render("http", {}, "swarm"), "StatefulSet")])
    ports = {port["name"] for each in node["containers"] for port in each.get("ports", [])}

    assert OWN == jobs["agents"]["metrics_path"]
    assert NODES == jobs["programs"]["metrics_path"]
    assert "codexbench;agent" == jobs["agents"]["relabel_configs"][0]["regex"]
    assert "agent" in ports
    assert {"get"} == set(_rule(objects, "nodes/metrics")["verbs"])
    without = render("monitoring", {"kubelet": False, "grafana": {"enabled": False}}, "watch")
    assert "kubelet" not in str(without)


def _rule(objects: list[dict[str, Any]], resource: str) -> dict[str, Any]:
    (found,) = (rule for rule in one(objects, "ClusterRole")["rules"] if resource in rule["resources"])
    told: dict[str, Any] = found
    return told


def test_dashboards_and_rules_are_in_the_chart() -> None:
    """Whole, as they are in its folder."""
    objects = render("monitoring", {"grafana": {"enabled": False}}, "watch")
    data = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    files = CHARTS / "monitoring" / "files"

    assert (files / "rules.yaml").read_text().strip() == data["watch-rules"]["rules.yaml"].strip()
    for path in (files / "dashboards").glob("*.json"):
        assert path.read_text().strip() == data["watch-dashboards"][path.name].strip()


@pytest.mark.parametrize("implementation, node", [("gowaku", GowakuNode), ("nwaku", NwakuNode)])
def test_nodes_are_started_as_on_a_machine(implementation: str, node: type[Any], tmp_path: Any) -> None:
    """With the arguments of the local driver, at the ports that it expects in a Pod, on the shard that is asked for."""
    values: Values = {"implementation": implementation, "settings": {"shard": 5}}
    (spec,) = pod_specs([one(render("waku", values, "mesh"), "StatefulSet")])
    (container,) = (each for each in spec["containers"] if each["name"] == "node")
    given = set(container["args"][1:])
    place = Place("mesh-0", "$(POD_IP)", tmp_path, "t", settings={"shard": 5})
    wanted = set(node(place).arguments("KEY", TCP, REST, METRICS)) - {"--nodekey=KEY"}

    assert wanted == given
    assert '--nodekey="$key"' in container["command"][2]


def test_nodes_look_for_others_unless_the_suite_wires_them() -> None:
    """By the names of the releases' Services."""
    alone, wired = (
        str(one(render("waku", values, "mesh"), "StatefulSet")) for values in ({"meets": ["nim"]}, {"join": False})
    )

    assert "--meet=mesh" in alone
    assert "--meet=nim" in alone
    assert "--meet" not in wired
