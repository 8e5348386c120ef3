"""The dashboards of Grafana, as code: `python deploy/grafana/dashboards.py` writes them into the chart `monitoring`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[2] / "charts" / "monitoring" / "files" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 12, 8


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: what it shows, in which unit of Grafana's, by which queries with their legends."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of panels; ``variables`` are chosen at its top, each from the values of a label."""

    name: str
    title: str
    variables: Sequence[tuple[str, str]]
    panels: Sequence[Panel]


CELL = '{cell=~"$cell"}'
DASHBOARDS = (
    Dashboard(
        "swarm",
        "codexbench: the swarm",
        (("system", "label_values(codexbench_node_up, system)"),),
        (
            Panel(
                "Nodes that run", "short", [('sum by (system) (codexbench_node_up{system=~"$system"})', "{{system}}")]
            ),
            Panel(
                "Bytes that leechers hold",
                "decbytes",
                [('codexbench_transfer_held_bytes{system=~"$system",role="leecher"}', "{{system}} {{node}}")],
            ),
            Panel(
                "Share of the file, all leechers",
                "percentunit",
                [('codexbench:progress:ratio{system=~"$system"}', "{{system}} {{cell}}")],
            ),
            Panel(
                "Bytes on the links",
                "Bps",
                [('codexbench:wire_bytes:rate{system=~"$system"}', "{{system}} {{direction}}")],
                text="All headers; of a Pod its interface's counters, which count a large packet's header once.",
            ),
            Panel(
                "Processor",
                "short",
                [('codexbench:node_cpu:rate{system=~"$system"}', "{{system}} {{node}}")],
                text="Cores taken by the nodes' programs.",
            ),
            Panel(
                "Peak of memory",
                "bytes",
                [('codexbench_node_memory_peak_bytes{system=~"$system"}', "{{system}} {{node}}")],
            ),
        ),
    ),
    Dashboard(
        "cell",
        "codexbench: a cell",
        (("cell", "label_values(codexbench_transfer_size_bytes, cell)"),),
        (
            Panel(
                "Rounds measured", "short", [("max by (round) (codexbench_node_active" + CELL + ")", "round {{round}}")]
            ),
            Panel("Received by each leecher", "decbytes", [("codexbench_transfer_received_bytes" + CELL, "{{node}}")]),
            Panel("Held by each leecher", "decbytes", [("codexbench_transfer_held_bytes" + CELL, "{{node}}")]),
            Panel(
                "Received beyond the file",
                "decbytes",
                [
                    (
                        "clamp_min(codexbench_transfer_received_bytes"
                        + CELL
                        + " - codexbench_transfer_size_bytes"
                        + CELL
                        + ", 0)",
                        "{{node}}",
                    )
                ],
                text="What came twice.",
            ),
        ),
    ),
    Dashboard(
        "node",
        "codexbench: a node",
        (("node", "label_values(codexbench_node_up, node)"),),
        (
            Panel("Runs", "short", [('codexbench_node_up{node=~"$node"}', "{{system}} {{node}}")], "stat"),
            Panel(
                "Bytes on its link",
                "Bps",
                [('rate(codexbench_wire_bytes_total{node=~"$node"}[$__rate_interval])', "{{system}} {{direction}}")],
            ),
            Panel(
                "Processor",
                "short",
                [('rate(codexbench_node_cpu_seconds_total{node=~"$node"}[$__rate_interval])', "{{system}}")],
            ),
            Panel("Peak of memory", "bytes", [('codexbench_node_memory_peak_bytes{node=~"$node"}', "{{system}}")]),
            Panel(
                "Fetches by outcome", "short", [('codexbench_transfers_total{node=~"$node"}', "{{system}} {{outcome}}")]
            ),
        ),
    ),
    Dashboard(
        "comparison",
        "codexbench: systems side by side",
        (),
        (
            Panel(
                "Share of the file, all leechers",
                "percentunit",
                [("avg by (system) (codexbench:progress:ratio)", "{{system}}")],
            ),
            Panel(
                "Speed at which leechers receive",
                "Bps",
                [("codexbench:received_bytes:deriv", "{{system}}")],
            ),
            Panel("Bytes on the links", "Bps", [("sum by (system) (codexbench:wire_bytes:rate)", "{{system}}")]),
            Panel("Processor", "short", [("sum by (system) (codexbench:node_cpu:rate)", "{{system}}")]),
            Panel(
                "Peak of memory, the largest node",
                "bytes",
                [("max by (system) (codexbench_node_memory_peak_bytes)", "{{system}}")],
            ),
            Panel(
                "Fetches that failed",
                "short",
                [
                    (
                        'sum by (system) (codexbench_transfers_total{outcome!="ok"} or codexbench_transfers_total * 0)',
                        "{{system}}",
                    )
                ],
            ),
        ),
    ),
)

ROUNDS = {
    "name": "Rounds",
    "datasource": SOURCE,
    "enable": True,
    "iconColor": "blue",
    "expr": "max by (cell, round) (codexbench_node_active) > 0",
    "titleFormat": "{{cell}}",
    "textFormat": "round {{round}}",
    "step": "1s",
}
"""The time windows of rounds, drawn over every panel."""


def model(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana reads."""
    return {
        "uid": f"codexbench-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["codexbench"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "annotations": {"list": [ROUNDS]},
        "templating": {"list": list(_variables(dashboard))},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "database", "type": "datasource", "query": "prometheus"}
    for name, query in dashboard.variables:
        yield {
            "name": name,
            "type": "query",
            "datasource": SOURCE,
            "query": query,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": number % 2 * WIDTH, "y": number // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def documents() -> dict[str, str]:
    """Each dashboard's file, by name."""
    return {f"{each.name}.json": json.dumps(model(each), indent=2) + "\n" for each in DASHBOARDS}


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (OUTPUT / name).write_text(text, encoding="utf-8")
