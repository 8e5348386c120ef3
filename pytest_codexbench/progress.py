"""What a person sees while it runs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_codexbench.forecast import duration_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

FOLDER = ".events"
LOOK_S = 0.2
HEARTBEAT_S = 30.0


class Events:
    """The file into which one process writes what happens, for whoever shows it."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._file: IO[str] | None = None
        with suppress(OSError):  # as below
            folder.mkdir(exist_ok=True)
            self._file = (folder / f"{worker}.jsonl").open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def say(self, event: Mapping[str, Any]) -> None:
        """Add one event. Nothing is lost if it cannot be written: it is only shown."""
        with self._lock, suppress(OSError, ValueError):
            if self._file is not None:
                self._file.write(json.dumps(event) + "\n")
                self._file.flush()

    def close(self) -> None:
        """No more events."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()


class Work:
    """What one worker is at, made from its events."""

    def __init__(self) -> None:
        self.text = ""
        self.cell = ""
        self.round = ""
        self.size = 1
        self.held: dict[str, tuple[int, float]] = {}

    def see(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        what = event["what"]
        if what == "begin":
            self.cell, self.size, self.text = event["cell"], event["size"], ""
            self.round = round_text(event)
            self.held = dict.fromkeys(event["leechers"], (0, 0.0))
        elif what == "line" and event["node"] in self.held:
            self.held[event["node"]] = event["held"], event["t_s"]
        elif what == "end":
            self.held = {}
            self.text = f"{self.cell} {self.round}: {'ok' if event['success'] else 'FAILED'}"
        elif what in ("cluster", "waiting"):
            self.cell, self.held, self.text = "", {}, event["text"]

    def share(self) -> float:
        """How much of all leechers' bytes is there, 0 to 1."""
        return sum(held for held, _ in self.held.values()) / (self.size * len(self.held)) if self.held else 0.0

    def mb_per_s(self) -> float:
        """10^6 bytes a second of all leechers together since they started."""
        return sum(held / t_s / 1e6 for held, t_s in self.held.values() if t_s)


def round_text(event: Mapping[str, Any]) -> str:
    """``round 2/6``, or that it is a warm-up."""
    if event["index"] < 0:
        return "warm-up"
    # of a soak nobody knows the last one
    return f"round {event['index'] + 1}" + (f"/{event['rounds']}" if event["rounds"] else "")


class Progress(threading.Thread):
    """Shows the events of all workers: bars on a terminal, else a line a round with a heartbeat between.

    ``stream`` is the real terminal or log, whatever pytest captures meanwhile. ``fresh_line`` is called before
    anything is written, and tells whether the cursor stands in the middle of somebody's line. ``expected_s`` is
    what a round of each cell should take, by id; ``set_rounds`` tells how many rounds of which cells there will be.
    ``also`` hears each event, with the name of its worker.
    """

    def __init__(
        self,
        folder: Path,
        stream: IO[str],
        fresh_line: Callable[[], bool],
        expected_s: Mapping[str, float],
        live: bool,
        also: Callable[[str, Mapping[str, Any]], None] = lambda worker, event: None,
    ) -> None:
        super().__init__(name="progress", daemon=True)
        self.also = also
        self.folder, self.stream, self.fresh_line, self.expected_s = folder, stream, fresh_line, expected_s
        self._live_wanted = live
        self._works: dict[str, Work] = {}
        self._offsets: dict[Path, int] = {}
        self._ended = threading.Event()
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._begun = time.monotonic()
        self._spoke = time.monotonic()
        self._left: dict[str, int] = {}
        self._took_s = self._thought_s = 0.0
        self._console: Console | None = None

    def set_rounds(self, rounds: Mapping[str, int]) -> None:
        """How many rounds of each cell are still to come."""
        with self._lock:
            self._left = dict(rounds)

    def run(self) -> None:
        """Look at the events until ``end``."""
        while not self._ended.wait(LOOK_S):
            with self._lock:
                self._look()
                self._show()

    def end(self) -> None:
        """Show what is left and stop."""
        self._ended.set()
        self.join()
        with self._lock:
            self._look()
            self.clear()
            self.stream.close()

    def catch_up(self) -> None:
        """Tell what has happened until now, and take the bars away, so that somebody else can write."""
        with self._lock:
            self._look()
            self.clear()

    def clear(self) -> None:
        """Take the bars away."""
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None

    def quiet(self) -> threading.RLock:
        """Hold this while somebody else writes."""
        return self._lock

    def _look(self) -> None:
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._take(path.stem, json.loads(line))

    def _take(self, worker: str, event: Mapping[str, Any]) -> None:
        self._works.setdefault(worker, Work()).see(event)
        self.also(worker, event)
        if event["what"] == "end" and event["index"] >= 0:
            self._took_s += event["round_s"]
            self._thought_s += self.expected_s.get(event["cell"], event["round_s"])
            self._left[event["cell"]] = max(0, self._left.get(event["cell"], 0) - 1)
        if event["what"] == "trouble":
            self._write(f"!! {event['text']}")
        elif event["what"] == "end":
            ending = f"{event['seconds']:.3g} s" if event["success"] else f"FAILED: {event['failure']}"
            self._write(f"{event['cell']}  {round_text(event)}  {ending}{self._time_left()}")

    def _time_left(self) -> str:
        """How long the rest will take: as expected, times how wrong that was so far."""
        expected_s = sum(self.expected_s.get(cell, 0.0) * count for cell, count in self._left.items())
        if not expected_s:
            return ""
        factor = self._took_s / self._thought_s if self._thought_s else 1.0
        return f"  ({duration_text(expected_s * factor)} left)"

    def _write(self, text: str) -> None:
        self.clear()
        self._spoke = time.monotonic()
        with suppress(OSError):
            start = "\n" if self.fresh_line() else ""
            self.stream.write(f"{start}{text}\n")
            self.stream.flush()

    def _show(self) -> None:
        if not self._works:
            return None
        if self._live_wanted:
            return self._draw()
        if time.monotonic() - self._spoke > HEARTBEAT_S:
            for work in self._works.values():
                if work.held:
                    state = f"{work.share():.0%}  {work.mb_per_s():.1f} MB/s"
                    self._write(f"... {work.cell}  {work.round}  {state}{self._time_left()}")
                elif work.text:
                    self._write(f"... {work.text}{self._time_left()}")
        return None

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._console is None:
            self._console = Console(file=self.stream)
        if self._live is None:
            if self.fresh_line():
                self.stream.write("\n")
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        room = max(4, (self._console.height if self._console else 24) - 6)
        for worker, work in sorted(self._works.items()):
            name = f"{worker}  " if len(self._works) > 1 else ""
            if not work.held:
                parts.append(Text(f"{name}{work.text}", style="dim"))
                continue
            parts.append(
                Text.assemble(name, (work.cell, "bold"), f"  {work.round}  {work.mb_per_s():.1f} MB/s together")
            )
            table = Table.grid(padding=(0, 1))
            for node, (held, t_s) in list(work.held.items())[:room]:
                rate = f"{held / t_s / 1e6:8.1f} MB/s" if t_s else ""
                bar = ProgressBar(total=work.size, completed=held, width=30)
                table.add_row(f"  {node}", bar, f"{held / work.size:4.0%}", rate)
            parts.append(table)
            if len(work.held) > room:
                parts.append(Text(f"  and {len(work.held) - room} more leechers", style="dim"))
        elapsed = duration_text(time.monotonic() - self._begun)
        parts.append(Text(f"{elapsed} so far{self._time_left()}", style="dim"))
        return Group(*parts)


def real_stdout() -> IO[str]:
    """The standard output as it is before pytest captures it, for as long as the process lives."""
    return os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
