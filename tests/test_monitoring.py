"""What watches a run: agents' metrics, the page that gathers them, databases that scrape it, dashboards and rules."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from benches import LEAN, Bench

from pytest_codexbench.records import Round, read_journal
from pytest_codexbench.series import NAMES, Database, Unanswered

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `kubernetes`")

# Whole runs, with a database beside them.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[1]
FILES = ROOT / "charts" / "monitoring" / "files"
RULES = ROOT / "deploy" / "prometheus"
SUITE = str(ROOT / "tests_bench")
PROMETHEUS, PROMTOOL, VICTORIA = map(shutil.which, ("prometheus", "promtool", "victoria-metrics"))
MATRIX = 'shapes = [[2, 1]]\nsizes = ["16MB"]\nrounds = 2\n[systems.bittorrent]\n[systems.http]\n'
# A scrape that is not answered within its interval is lost, and Kubo's own metrics are a long text.
SCRAPES = """\
global: {{scrape_interval: 400ms}}
scrape_configs:
  - job_name: agents
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
  - job_name: programs
    metrics_path: /node-metrics
    scrape_interval: 1s
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def dashboards() -> Any:
    """The module that writes the dashboards."""
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "deploy" / "grafana" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboards"] = module
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    """One that nobody has at this moment."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def asked(url: str, path: str, **values: object) -> Any:
    """The answer of a database."""
    with urlopen(f"{url}{path}?{urlencode(values)}", timeout=20) as response:  # noqa: S310 - ours
        return json.load(response)["data"]


@dataclass(frozen=True)
class Watched:
    """A run that a database has scraped: where the database is, when it was, its rounds."""

    url: str
    begun_s: float
    ended_s: float
    rounds: list[Round]

    def samples(self, query: str) -> int:
        """How many points a query has over the time of the run."""
        told = asked(self.url, "/api/v1/query_range", query=query, start=self.begun_s, end=self.ended_s + 5, step="0.5")
        return sum(len(series["values"]) for series in told["result"])


def prometheus(folder: Path, config: Path, port: int) -> list[str]:
    """How to start one, with the rules of the chart."""
    text = config.read_text().replace("scrape_interval: 400ms}", "scrape_interval: 400ms, evaluation_interval: 1s}")
    config.write_text(text + f"rule_files: [{FILES / 'rules.yaml'}]\n")
    flags = [f"--config.file={config}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    return [str(PROMETHEUS), *flags, "--log.level=warn"]


def victoria(folder: Path, config: Path, port: int) -> list[str]:
    """How to start one: it has no rules of its own."""
    flags = [f"-promscrape.config={config}", f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{port}"]
    return [str(VICTORIA), *flags, "-search.latencyOffset=0s", "-loggerLevel=WARN"]


KINDS: dict[str, tuple[str | None, Callable[[Path, Path, int], list[str]]]] = {
    "prometheus": (PROMETHEUS, prometheus),
    "victoria": (VICTORIA, victoria),
}


@contextmanager
def database(kind: str, folder: Path, page: int) -> Iterator[str]:
    """A real one that scrapes the page at a port; its address."""
    program, start = KINDS[kind]
    if program is None:
        pytest.skip(f"no {kind} on PATH: apt-get install prometheus victoria-metrics")
    config, port = folder / "scrape.yaml", free_port()
    config.write_text(SCRAPES.format(port=page))
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(start(folder / "data", config, port), stdout=log, stderr=log, cwd=folder)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                asked(url, "/api/v1/query", query="1")
                break
            except (URLError, OSError):
                assert time.monotonic() < end, (folder / "log").read_text()
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module", params=list(KINDS))
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run of real swarms that a real database scrapes meanwhile, and of which it is asked for the rounds' series."""
    folder, page = tmp_path_factory.mktemp(request.param), free_port()
    systems = MATRIX + ("[systems.ipfs]\n" if shutil.which("ipfs") else "")
    (folder / "mine.toml").write_text(systems)
    with database(request.param, folder, page) as url:
        argv = ["--matrix=mine.toml", "--cb-link=40mbit", f"--cb-metrics-port={page}", f"--cb-metrics-url={url}"]
        begun_s = time.time()
        run = subprocess.run(
            [sys.executable, "-m", "pytest", SUITE, "--rootdir", str(folder), *argv, *LEAN, "-q", "-k", "n02"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert 0 == run.returncode, run.stdout + run.stderr
        ended_s = time.time()
        time.sleep(3)  # rules are evaluated once a second
        (journal,) = folder.glob("results/*/records.jsonl")
        yield Watched(url, begun_s, ended_s, list(read_journal(journal).measured()))


def plain(query: str) -> str:
    """A query as Grafana asks it, with everything chosen."""
    return re.sub(r'"\$\w+"', '".*"', query).replace("$__rate_interval", "10s")


def queries() -> Iterator[tuple[str, str]]:
    """Every query of every panel, and of every variable and annotation, with its place."""
    for path in sorted((FILES / "dashboards").glob("*.json")):
        model = json.loads(path.read_text())
        for panel in model["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", plain(target["expr"])
        for note in model["annotations"]["list"]:
            yield f"{path.stem}: {note['name']}", plain(note["expr"])
        for variable in model["templating"]["list"]:
            if label := re.fullmatch(r"label_values\((\w+), \w+\)", str(variable["query"])):
                yield f"{path.stem}: ${variable['name']}", label[1]


def spelled_out(query: str) -> str:
    """A query with what the rules record put in place of its name: a database without rules then answers it too."""
    groups = yaml.safe_load((FILES / "rules.yaml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"] if "record" in rule):
        query = re.sub(rf"{rule['record']}(\{{[^}}]*\}})?", f"({rule['expr']})", query)
    return query


def without_an_answer(watched: Watched, asked: list[tuple[str, str]]) -> list[str]:
    """The places whose queries found nothing in the whole run."""
    return [place for place, query in asked if not watched.samples(query)]


def test_every_panel_shows_something_of_a_real_run(watched: Watched, request: pytest.FixtureRequest) -> None:
    """Each query of each dashboard has points while swarms are measured."""
    found = list(queries())
    told = request.node.callspec.params["watched"]
    asked = found if told == "prometheus" else [(place, spelled_out(query)) for place, query in found]

    assert len(found) > 25
    assert [] == without_an_answer(watched, asked)


def test_a_misspelt_metric_is_found(watched: Watched) -> None:
    """The check before this one is not blind: one letter is enough."""
    places = [(place, query.replace("codexbench_node_up", "codexbench_node_upp")) for place, query in queries()]

    assert {"swarm: Nodes that run", "node: Runs"} <= set(without_an_answer(watched, places))


def test_a_rounds_series_are_in_its_record(watched: Watched) -> None:
    """What the database has of each round is there: bytes that grow to the file's size, and the links' counters."""
    for round_ in watched.rounds:
        assert [] == [flag for flag in round_.flags if "series" in flag]
        received = round_.series["codexbench_transfer_received_bytes"]
        (leecher,) = (one for one in received if one["labels"]["role"] == "leecher")
        values = [value for _, value in leecher["points"]]
        times = [moment for moment, _ in leecher["points"]]
        assert sorted(values) == values
        assert len(values) >= 3
        assert 0 < values[-1] <= 1.1 * round_.cell.size
        assert watched.begun_s < times[0] < times[-1] < watched.ended_s
        assert set(round_.series) <= set(NAMES)


def test_what_a_nodes_program_tells_is_passed_on(watched: Watched) -> None:
    """Kubo's own metrics come with the names of the cluster and the node."""
    if shutil.which("ipfs") is None:
        pytest.skip("no `ipfs` on PATH")

    assert watched.samples('ipfs_bitswap_recv_all_blocks_bytes_count{cluster="ipfs-n02-at40m",node="n00"}')


def test_the_dashboards_are_those_of_the_code() -> None:
    """`python deploy/grafana/dashboards.py` changes nothing."""
    assert dashboards().documents() == {path.name: path.read_text() for path in (FILES / "dashboards").glob("*.json")}


@pytest.mark.skipif(PROMTOOL is None, reason="no `promtool` on PATH: apt-get install prometheus")
def test_rules_and_alerts_do_what_they_say() -> None:
    """Promtool takes them, and its tests of them pass; the deployed file is the chart's."""
    check = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(FILES / "rules.yaml")], capture_output=True, check=False
    )
    tests = subprocess.run(
        [str(PROMTOOL), "test", "rules", "rules_test.yaml"], cwd=RULES, capture_output=True, text=True, check=False
    )

    assert 0 == check.returncode, check.stderr
    assert 0 == tests.returncode, tests.stdout + tests.stderr
    assert (RULES / "rules.yaml").resolve() == FILES / "rules.yaml"


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A folder in which pytest is run."""
    return Bench(pytester, monkeypatch)


def test_a_port_that_is_taken_is_told_before_anything_starts(bench: Bench) -> None:
    """Exit 4, with the port and the way out."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = bench.run(f"--cb-metrics-port={port}")

    assert 4 == run.ret
    run.stderr.fnmatch_lines(
        [f"*--cb-metrics-port={port}: Address already in use; give a port of 127.0.0.1 that is free*"]
    )
    assert [] == bench.folders


@pytest.mark.parametrize(
    "url, says",
    [
        ("localhost:9090", "an address is needed"),
        ("ftp://localhost", "an address is needed"),
        ("http://127.0.0.1:1", "Connection refused"),
    ],
)
def test_a_database_that_does_not_answer_is_told_before_anything_starts(bench: Bench, url: str, says: str) -> None:
    """Exit 4, with the address and the reason."""
    run = bench.run(f"--cb-metrics-url={url}")

    assert 4 == run.ret
    run.stderr.fnmatch_lines([f"*--cb-metrics-url={url}: *{says}*"])


def test_a_database_that_goes_away_fails_no_round(bench: Bench) -> None:
    """The round is kept with a flag that says what it lacks."""
    if PROMETHEUS is None:
        pytest.skip("no prometheus on PATH")
    bench.pytester.makeconftest(
        """
        import pytest
        from pytest_codexbench.series import Database, Unanswered

        @pytest.fixture(autouse=True)
        def gone(monkeypatch):
            def query(self, expression, at_s=None):
                raise Unanswered("it is gone")
            monkeypatch.setattr(Database, "query", query)
        """
    )
    folder = bench.pytester.mkdir("database")
    with database("prometheus", folder, free_port()) as url:
        run = bench.run(f"--cb-metrics-url={url}")

    run.assert_outcomes(passed=1)
    assert {("no series: it is gone",)} == {
        tuple(flag for flag in round_.flags if "series" in flag) for round_ in bench.story().measured()
    }


def test_an_answer_that_is_none_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a server sends that is no database's answer."""
    for answer in (b"<html>", b"[]", b"{}", b'{"status": "error", "error": "no"}', b'{"status": "success"}', b""):
        monkeypatch.setattr(Database, "_get", lambda self, path, answer=answer: answer)
        with pytest.raises(Unanswered):
            Database("http://127.0.0.1").query("1")


def test_a_round_is_written_before_any_database_is_asked(bench: Bench) -> None:
    """Killed while a database hangs, the run has lost nothing."""
    bench.pytester.makeconftest(
        """
        import os, signal
        import pytest
        from pytest_codexbench import campaign
        from pytest_codexbench.series import Database

        @pytest.fixture(autouse=True)
        def hangs(monkeypatch):
            monkeypatch.setattr(campaign, "VISIBLE_S", 0.0)
            monkeypatch.setattr(Database, "check", lambda self: None)
            monkeypatch.setattr(Database, "query", lambda self, *_: os.kill(os.getpid(), signal.SIGKILL))
        """
    )
    folder = bench.pytester.mkdir("database")
    if PROMETHEUS is None:
        pytest.skip("no prometheus on PATH")
    with database("prometheus", folder, free_port()) as url:
        bench.run(f"--cb-metrics-url={url}")

    assert 1 == sum(1 for _ in bench.story().measured())


@pytest.mark.parametrize("result", [[{}], [{"metric": {}, "values": [["a", "b"]]}], [{"metric": 1, "values": []}], [1]])
def test_a_series_that_is_none_is_told_as_such(monkeypatch: pytest.MonkeyPatch, result: list[object]) -> None:
    """Whatever is in a database's answer, a round is not lost by it."""
    answer = json.dumps({"status": "success", "data": {"result": result}}).encode()
    monkeypatch.setattr(Database, "_get", lambda self, path: answer)
    found: object = None
    try:
        found = Database("http://127.0.0.1").of_round("c", 0, 1.0, 2.0)
    except Unanswered:
        return

    assert {} == found
