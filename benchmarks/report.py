"""How long a run's documents take, in how much memory, and how large the page becomes."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import journals

MOST_S, MOST_MEMORY, MOST_PAGE = 20.0, 500 * 10**6, 5 * 10**6
PROGRAM = """
import sys
from pathlib import Path
from pytest_codexbench.reports import write_all
write_all(Path(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What making the documents of one run took: seconds by the clock and of processor, bytes resident, of the page."""

    wall_s: float
    cpu_s: float
    memory: int
    page: int


def main() -> int:
    """Time one made-up run; the exit status: 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", choices=journals.RUNS, default="large", help="which made-up run (default: large)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the run there and leave it, to look at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codexbench-report-") as temporary:
        folder = journals.write(options.run, options.keep or Path(temporary))
        return _told(options.run, folder, made(folder))


def made(folder: Path) -> Taken:
    """Make all documents in a fresh process."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True)
    wall_s, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Linux tells the peak of the largest child in units of 1024 bytes
    return Taken(wall_s, cpu_s, after.ru_maxrss * 1024, (folder / "report.html").stat().st_size)


def _told(name: str, folder: Path, taken: Taken) -> int:
    journal = (folder / "records.jsonl").stat().st_size
    print(
        f"All documents of the made-up run {name}, from a journal of {journal / 1e6:.0f} MB.\n"
        f"They took {taken.cpu_s:.1f} s of processor; load of this machine over the last minute: "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n"
    )
    rows = (
        ("time", taken.wall_s, MOST_S, "s", 1.0),
        ("memory at the peak", taken.memory, MOST_MEMORY, "MB", 1e6),
        ("report.html", taken.page, MOST_PAGE, "MB", 1e6),
    )
    for what, value, most, unit, scale in rows:
        word = "PASS" if value < most else "FAIL"
        print(f"{what:20} {value / scale:8.1f} {unit:3} {word}  under {most / scale:g} {unit}")
    return 0 if all(value < most for _, value, most, _, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
