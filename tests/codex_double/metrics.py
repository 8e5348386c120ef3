"""What a node tells on its metrics port: the recorded names, with its own numbers where it counts."""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from codex_double.counts import Counts
from codex_double.flavours import RECORDINGS, Flavour
from codex_double.httpserver import HTML, Answer, Request

SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? \S+$")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The recorded text of a flavour; the second generation has the same names with another prefix."""

    def __init__(self, flavour: Flavour) -> None:
        self._flavour = flavour
        self._started = time.time()
        self.done = Counts()

    @cached_property
    def _lines(self) -> list[str]:
        name = "2025-12" if self._flavour.second else self._flavour.name
        for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines():
            told = json.loads(line)
            if told["name"] == "66_metrics":
                text: str = told["response"]["body"]
                return text.replace("codex", self._flavour.word).split("\n")
        raise LookupError(f"no metrics recorded of {name}")

    def text(self, counts: Mapping[str, float]) -> str:
        """All of them: those in ``counts`` (without the prefix), the process's own, and zeros."""
        told = {f"{self._flavour.word}_{name}": value for name, value in counts.items()}
        told |= {name: value for name, value in counts.items() if name.startswith("dht_")} | self._process()
        return "\n".join(self._line(line, told) for line in self._lines)

    def _line(self, line: str, told: Mapping[str, float]) -> str:
        match = SAMPLE.match(line)
        if match is None:
            return line
        name, labels = match[1], match[2] or ""
        value = self._started if name.endswith("_created") else told.get(name, 0)
        return f"{name}{labels} {float(value)}"

    def _process(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        told = {
            "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
            "process_start_time_seconds": self._started,
            "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }
        if (memory := Path("/proc/self/statm")).exists():
            virtual, resident = memory.read_text().split()[:2]
            page = resource.getpagesize()
            told["process_virtual_memory_bytes"] = int(virtual) * page
            told["process_resident_memory_bytes"] = int(resident) * page
            told["process_open_fds"] = len(list(Path("/proc/self/fd").iterdir()))
        else:
            # bytes on macOS
            told["process_resident_memory_bytes"] = usage.ru_maxrss
        return told


def answer(metrics: Metrics, counts: Mapping[str, float], request: Request) -> Answer:
    """To the metrics port."""
    if request.path == ("metrics",):
        return Answer(200, metrics.text(counts).encode(), CONTENT_TYPE)
    if request.path == ("health",):
        return Answer(200, b"OK", f"{HTML}; charset=utf-8")
    return Answer(404)
