"""What a Prometheus, or a VictoriaMetrics, has of one round: asked for by queries, kept with the record."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from pytest_codexbench.errors import BenchError, WrongInput

NAMES = (
    "codexbench_transfer_received_bytes",
    "codexbench_transfer_held_bytes",
    "codexbench_wire_bytes_total",
    "codexbench_node_cpu_seconds_total",
    "codexbench_node_memory_peak_bytes",
)
"""Series of a round that are kept."""
ANSWER_S = 10.0
MOST_ANSWER = 64 << 20
LEFT_OUT = ("__name__", "cell", "round", "job", "instance")
"""Labels that are the same in every series, or of the scrape alone."""

Series = Mapping[str, Sequence[Mapping[str, Any]]]
"""By metric: each series with its ``labels`` and its ``points``, pairs of a Unix time in seconds and a value."""


class Unanswered(BenchError):
    """The database did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Database:
    """The HTTP API of a Prometheus or a VictoriaMetrics, at its ``url``."""

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise WrongInput(f"--cb-metrics-url={self.url}: an address is needed, as in http://127.0.0.1:9090")

    def check(self) -> None:
        """See that it answers.

        Raises:
            WrongInput: if it does not, with what it says.
        """
        try:
            self.query("1")
        except Unanswered as error:
            raise WrongInput(f"--cb-metrics-url={self.url}: {error}") from error

    def of_round(self, cell: str, index: int, begun_s: float, ended_s: float) -> Series:
        """All samples of a round between two Unix times.

        Raises:
            Unanswered: if the database does not answer, or not in its own form.
        """
        # raw samples and no steps between: the window counts back from the end
        window = math.ceil(max(1.0, ended_s - begun_s))
        where = f'{{cell="{cell}",round="{index}"}}[{window}s]'
        found = {name: self.query(f"{name}{where}", ended_s) for name in NAMES}
        try:
            return {name: [_plain(one) for one in series] for name, series in found.items() if series}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Unanswered(f"{where}: no series: {type(error).__name__}: {error}") from error

    def query(self, expression: str, at_s: float | None = None) -> Sequence[Mapping[str, Any]]:
        """The result of a query, at a Unix time or now.

        Raises:
            Unanswered: if there is none, with the reason.
        """
        asked = {"query": expression} | ({"time": f"{at_s:.3f}"} if at_s is not None else {})
        try:
            answer = self._get(f"/api/v1/query?{urlencode(asked)}")
            told = json.loads(answer)
            if told["status"] != "success":
                raise Unanswered(f"{expression}: {told.get('error', told['status'])}")
            result = told["data"]["result"]
            return result if isinstance(result, list) and all(isinstance(one, dict) for one in result) else []
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
            raise Unanswered(f"{expression}: {type(error).__name__}: {error}") from error

    def _get(self, path: str) -> bytes:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(parts.hostname or "", parts.port, timeout=ANSWER_S)) as connection:
            connection.request("GET", f"{parts.path.rstrip('/')}{path}")
            with closing(connection.getresponse()) as response:
                return response.read(MOST_ANSWER)


def _plain(one: Mapping[str, Any]) -> dict[str, Any]:
    labels = {key: str(value) for key, value in one["metric"].items() if key not in LEFT_OUT}
    points = [[float(t), float(value)] for t, value in one["values"]]
    return {"labels": labels, "points": [point for point in points if math.isfinite(point[1])]}
