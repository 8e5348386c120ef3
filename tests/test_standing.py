"""Clusters that Argo CD deploys: pytest_codexbench/standing.py, and what lies in deploy/argocd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rendering import HELM, render

from pytest_codexbench import cli
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.standing import CELLS, HEAD, SET, Source

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `kubernetes`")

DEPLOY = Path(__file__).parents[1] / "deploy"
REPOSITORY = "https://git.example/codexbench.git"
SMOKE = DEPLOY / "argocd" / "smoke"


def emit(folder: Path, *arguments: str) -> int:
    """Write the files of a matrix."""
    told = [f"--output={folder}", f"--repository={REPOSITORY}", "--path=deploy/argocd/smoke"]
    return cli.main(["emit", "applicationset", *told, *arguments])


def cells(folder: Path) -> dict[str, dict[str, Any]]:
    """The content of all cell files, by name."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((folder / CELLS).iterdir())}


def test_there_is_a_file_for_each_cluster_of_the_matrix(tmp_path: Path) -> None:
    """One a system, number of nodes and link: seeders and sizes share it, and it has room for the largest file."""
    matrix = tmp_path / "mine.toml"
    matrix.write_text(
        'shapes = [[2, 1], [8, 1], [8, 4]]\nsizes = ["1MB", "3MB"]\nlinks = ["100mbit", "1gbit"]\n'
        '[systems.http]\n[systems."bittorrent.streaming"]\nprofile = "streaming"\n'
        '[systems."codex.next"]\nimage = "here/storage:2"\ngeneration = "second"\n'
    )
    status = emit(tmp_path / "out", f"--matrix={matrix}", "--agent-image=here/agent@sha256:12", "--no-self-heal")
    found = cells(tmp_path / "out")

    assert 0 == status
    assert 3 * 2 * 2 == len(found)
    assert {
        "name": "codex-next-n08-at100m",
        "chart": "codex",
        "selfHeal": False,
        "values": {
            "nodes": 8,
            "data": {"size": "3000000B", "files": 1},
            "settings": {},
            "link": {"rate": "100mbit"},
            "generation": "second",
            "image": {"repository": "here/storage", "tag": "2"},
            "cell": "codex.next-n08-at100m",
            "agent": {"image": {"repository": "here/agent", "digest": "sha256:12"}},
        },
    } == found["codex-next-n08-at100m"]
    assert {"profile": "streaming"} == found["bittorrent-streaming-n02-at1g"]["values"]["settings"]


@pytest.mark.skipif(HELM is None, reason="no `helm` on PATH, nor in CODEXBENCH_HELM")
def test_the_charts_take_the_values_of_every_cell(tmp_path: Path) -> None:
    """What is written is what the charts' schemas allow, and has the nodes that the file says."""
    assert 0 == emit(tmp_path, "--matrix=smoke", "--systems=http,bittorrent,bittorrent.stock,ipfs,codex")
    for cell in cells(tmp_path).values():
        objects = render(cell["chart"], cell["values"], "swarm")
        (nodes,) = (each["spec"]["replicas"] for each in objects if each["kind"] == "StatefulSet")
        assert cell["values"]["nodes"] == nodes


def test_a_cluster_that_left_the_matrix_leaves_the_folder(tmp_path: Path) -> None:
    """Its Application is then removed; what somebody else put there is in the way, and is left alone."""
    assert 0 == emit(tmp_path, "--matrix=smoke", "--systems=http,bittorrent")
    assert 0 == emit(tmp_path, "--matrix=smoke", "--systems=http")
    assert {"http-n02", "http-n04"} == set(cells(tmp_path))

    (tmp_path / CELLS / "mine.yaml").write_text("name: mine\n")
    assert 2 == emit(tmp_path, "--matrix=smoke", "--systems=bittorrent")
    assert {"http-n02", "http-n04", "mine"} == set(cells(tmp_path))


def test_what_is_in_the_repository_is_what_the_command_writes(tmp_path: Path) -> None:
    """The example in deploy/argocd/smoke was made by `codexbench emit applicationset --matrix=smoke`."""
    assert 0 == emit(tmp_path, "--matrix=smoke")
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}

    assert written == {path.relative_to(SMOKE): path.read_text() for path in SMOKE.rglob("*.yaml")}
    assert all(text.startswith(HEAD) for text in written.values())


@pytest.mark.parametrize(
    "field, value",
    [
        ("repository", "git.example/no-scheme"),
        ("repository", "https://git.example/a b"),
        ("repository", "https://x/{{ .name }}"),
        ("repository", "file:///etc"),
        ("revision", "main; rm -rf /"),
        ("revision", ""),
        ("path", "../../other"),
        ("path", "a{b,c}"),
        ("charts", "{{ .chart }}"),
    ],
)
def test_where_things_are_must_be_plain(field: str, value: str) -> None:
    """What goes into a template of Argo CD's is refused by its name if it could be one itself."""
    given = {"repository": REPOSITORY, "revision": "main", "path": "bench", "charts": "charts", field: value}
    with pytest.raises(WrongInput, match=f"--{field}="):
        Source(**given)


def test_a_system_without_a_chart_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be deployed; nothing is written."""
    monkeypatch.setattr("pytest_codexbench.standing.chart_of", lambda system: None)

    assert 2 == emit(tmp_path / "out", "--matrix=smoke")
    assert not (tmp_path / "out").exists()


def documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def test_what_is_deployed_goes_with_its_application() -> None:
    """Every Application, also those that a set makes, deletes what it deployed, and makes its own namespace."""
    sets = [*documents(SMOKE / SET)]
    found = [each for path in sorted((DEPLOY / "argocd").glob("*.yaml")) for each in documents(path)]
    templates = [each["spec"]["template"] for each in sets] + [
        each for each in found if each.get("kind") == "Application"
    ]

    assert len(templates) >= 3
    for each in templates:
        assert ["resources-finalizer.argocd.argoproj.io"] == each["metadata"]["finalizers"]
        assert each["spec"]["destination"]["namespace"] not in ("default", "argocd")


@pytest.mark.skipif(HELM is None, reason="no `helm` on PATH, nor in CODEXBENCH_HELM")
def test_the_tracker_is_up_before_the_nodes() -> None:
    """Argo CD deploys it in a wave before theirs; Helm does not mind."""
    objects = render("bittorrent", {}, "swarm")
    waves = {
        (each["kind"], each["metadata"]["name"]): int(
            each["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0)
        )
        for each in objects
    }

    assert waves["Deployment", "swarm-tracker"] < waves["StatefulSet", "swarm"]
    assert waves["Service", "swarm-tracker"] < waves["StatefulSet", "swarm"]


@pytest.mark.skipif(HELM is None, reason="no `helm` on PATH, nor in CODEXBENCH_HELM")
def test_steps_of_workflows_may_do_what_a_runner_may() -> None:
    """The rules are those of the chart `runner`, which a run on a cluster holds to what it needs."""
    of_chart = {
        each["kind"]: each["rules"] for each in render("runner", {}, "bench") if each["kind"] in ("ClusterRole", "Role")
    }
    ours = [each for each in documents(DEPLOY / "argo-workflows" / "rights.yaml") if "rules" in each]
    shared = {each["kind"]: each["rules"] for each in ours if each["metadata"].get("namespace", "default") == "default"}

    assert of_chart == shared


@pytest.mark.skipif(
    shutil.which("argo") is None, reason="no `argo` on PATH (`tests/cluster/kube build --argo` makes one)"
)
def test_the_workflows_pass_argos_own_linter(tmp_path: Path) -> None:
    """Without a cluster; and a workflow with a step to nowhere does not pass."""
    lint = ["argo", "lint", "--offline", "--no-color"]
    files = [str(DEPLOY / "argo-workflows" / name) for name in ("matrix.yaml", "nightly.yaml")]
    done = subprocess.run([*lint, *files], capture_output=True, text=True, check=False)
    broken = tmp_path / "broken.yaml"
    broken.write_text(Path(files[0]).read_text().replace("template: gather", "template: nowhere"))
    refused = subprocess.run([*lint, str(broken)], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert 0 != refused.returncode
    assert "nowhere" in refused.stdout + refused.stderr
