"""A page on this machine that a Prometheus scrapes while a run goes on: its rounds, and all of its nodes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pytest_codexbench.agent.exposition import NODES, OWN, PREFIX, text_of
from pytest_codexbench.errors import BenchError, WrongInput
from pytest_codexbench.rpc import look
from pytest_codexbench.together import each

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

ADDRESS = "127.0.0.1"
# A scrape waits ten seconds of itself; an agent that is slower than this is left out of it.
AGENT_S = 5.0
HELP = f"codexbench: {OWN} has this run and its nodes, {NODES} what the nodes' own programs tell\n"


@dataclass(frozen=True, slots=True)
class Agent:
    """Where a node's agent answers, and of which cluster the node is."""

    cluster: str
    node: str
    url: str


class Board:
    """What a run is at, made from the events of all its processes."""

    def __init__(self, run: Mapping[str, str], rounds: int) -> None:
        self.run, self.rounds = run, rounds
        self._lock = threading.Lock()
        self._agents: dict[tuple[str, str], list[Agent]] = {}
        self._active: dict[str, tuple[str, str]] = {}
        self._done: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}

    def see(self, worker: str, event: Mapping[str, Any]) -> None:
        """Take in one event of one process."""
        with self._lock:
            what = event["what"]
            if what == "up":
                cluster = event["cluster"]
                self._agents[worker, cluster] = [Agent(cluster, one["name"], one["url"]) for one in event["agents"]]
            elif what == "down":
                self._agents.pop((worker, event["cluster"]), None)
            elif what == "begin":
                self._active[worker] = event["cell"], str(event["index"])
            elif what == "end":
                self._active.pop(worker, None)
                if event["index"] >= 0:
                    self._done[event["cell"], "ok" if event["success"] else "failed"] += 1
                    if event["seconds"] is not None:
                        self._seconds[event["cell"]] = event["seconds"]

    def agents(self) -> list[Agent]:
        """Those of all clusters that are up."""
        with self._lock:
            return [agent for agents in self._agents.values() for agent in agents]

    def families(self) -> Iterator[Metric]:
        """The run's own metrics."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        with self._lock:
            active, done, seconds = list(self._active.values()), dict(self._done), dict(self._seconds)
        info = GaugeMetricFamily(f"{PREFIX}run_info", "The run that goes on.", labels=list(self.run))
        info.add_metric(list(self.run.values()), 1)
        wanted = GaugeMetricFamily(f"{PREFIX}run_rounds", "Rounds that the run sets out for.", value=self.rounds)
        now = GaugeMetricFamily(f"{PREFIX}round_active", "1 while a round is measured.", labels=["cell", "round"])
        for cell, index in active:
            now.add_metric([cell, index], 1)
        ended = CounterMetricFamily(f"{PREFIX}rounds", "Rounds that ended.", labels=["cell", "outcome"])
        for (cell, outcome), count in sorted(done.items()):
            ended.add_metric([cell, outcome], count)
        took = GaugeMetricFamily(
            f"{PREFIX}round_seconds", "Time to 100 % in the cell's last round, of uploads to publish.", labels=["cell"]
        )
        for cell, value in sorted(seconds.items()):
            took.add_metric([cell], value)
        yield from (info, wanted, now, ended, took)


class Page:
    """Serves a board, and the nodes of its clusters as they are at that moment, until it is closed.

    Raises:
        WrongInput: if the port is taken, or may not be had.
    """

    def __init__(self, port: int) -> None:
        self.board: Board | None = None
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = page.text(self.path.partition("?")[0])
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.end_headers()
                self.wfile.write(HELP.encode() if text is None else text)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: scrapes are not news."""

        try:
            self._server = ThreadingHTTPServer((ADDRESS, port), Handler)
        except OSError as error:
            raise WrongInput(
                f"--cb-metrics-port={port}: {error.strerror or error}; give a port of {ADDRESS} that is free"
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def text(self, path: str) -> bytes | None:
        """What is served at a path; None if there is nothing."""
        if self.board is None or path not in (OWN, NODES):
            return None
        own = list(self.board.families()) if path == OWN else []
        return text_of([*own, *_merged(self.board.agents(), path)])

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


def _merged(agents: list[Agent], path: str) -> list[Metric]:
    """What all agents tell, each family once, the samples with the names of their cluster and node."""
    from prometheus_client.parser import text_string_to_metric_families

    def ask(agent: Agent) -> str:
        try:
            return look(agent.url, path, AGENT_S).decode()
        except BenchError:  # its cluster comes up, or goes down
            return ""

    found: dict[str, Metric] = {}
    for agent, text in zip(agents, each(agents, ask), strict=True) if agents else ():
        try:
            told = list(text_string_to_metric_families(text))
        except ValueError:  # a program's own, in another form: nothing of it is passed on
            continue
        for family in told:
            kept = found.setdefault(family.name, family)
            of = {"cluster": agent.cluster, "node": agent.node}
            samples = [sample._replace(labels={**sample.labels, **of}) for sample in family.samples]
            kept.samples = samples if kept is family else [*kept.samples, *samples]
    return list(found.values())
