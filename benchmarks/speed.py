"""How fast the suite itself is, each part beside what limits it: an empty process, a copy of memory, the cipher."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import crowd

from pytest_codexbench.agent.client import Node
from pytest_codexbench.backends import Cluster
from pytest_codexbench.backends.local import Local
from pytest_codexbench.errors import BenchError
from pytest_codexbench.experiment import Setting, disseminate
from pytest_codexbench.matrix import BUILT_IN, Block, Variant, parse_size
from pytest_codexbench.metrics import of_round
from pytest_codexbench.payload import BLOCK, Payload
from pytest_codexbench.plan import WARM_UP, WARM_UP_SIZE, deadline_s, draw
from pytest_codexbench.stats import median_interval, ratio, verdict

GB = 10**9
PAYLOAD = 10**9
CROWD_SIZE = parse_size("100MB")
EMPTY = "def test_nothing():\n    pass\n"
USUAL = ("-p", "pytest_benchmark.plugin", "-p", "xdist.plugin")
OURS = ("-p", "pytest_codexbench.plugin")
WORDS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "open"}


@dataclass(frozen=True, slots=True)
class Goal:
    """What one part may take, in ``unit``; ``limit`` names what each turn is held against."""

    what: str
    most: float
    unit: str
    limit: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What it took, and what its limit took right before or after; the time of each part of it, by name."""

    took: float
    limit: float
    parts: Mapping[str, float]


def main() -> int:
    """Measure and print; the exit status: 1 if a goal is missed for certain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", metavar="PART,...", default=",".join(PARTS), help="which parts, by default all: %(default)s"
    )
    parser.add_argument("--turns", type=int, default=10, help="of each part, by default %(default)s")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(PARTS):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    print(f"Load of this machine over the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")
    print(
        "Medians of turns, with their 95 % interval. PASS or FAIL if all of it is within or over the goal; else open.\n"
    )
    print(f"{'part':38} {'took':>26}   {'goal':>10}         {'x the limit':>24}")
    missed = False
    for name in options.only.split(","):
        for goal, turns in PARTS[name](options.turns):
            missed |= _told(goal, turns) == "fail"
    return int(missed)


def _told(goal: Goal, turns: Sequence[Turn]) -> str:
    took = median_interval([turn.took for turn in turns])
    against = median_interval([ratio(turn.took, turn.limit) for turn in turns])
    word = verdict(took, goal.most)
    print(
        f"{goal.what:38} {took.median:8.3f} ({took.low:.3f}..{took.high:.3f}) {goal.unit:5}"
        f" {goal.most:6g} {goal.unit:5} {WORDS[word]}  {against.median:6.2f} ({against.low:.2f}..{against.high:.2f})"
        f"  {goal.limit}",
        flush=True,
    )
    for part in turns[0].parts:
        print(f"    {part:34} {statistics.median(turn.parts[part] for turn in turns):8.3f}", flush=True)
    return word


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


# --- the files --------------------------------------------------------------------------------------------------------


def payload(turns: int) -> Iterator[tuple[Goal, Sequence[Turn]]]:
    """Seconds of processor for each GB that is made, digested and written to memory, and of what nobody can save."""
    for limit, alone in (("memcpy", _copy_s), ("openssl, the cipher alone", _cipher_s)):
        found = []
        for seed in range(turns):
            limit_s, (took, parts) = alone(), _payload_s(seed)
            found.append(Turn(took, limit_s, parts))
        yield Goal("a file of 1 GB, made and digested", GB / (2 * GB), "s", limit), found


def _payload_s(seed: int) -> tuple[float, Mapping[str, float]]:
    memory = "/dev/shm"  # noqa: S108 - so that no disk is measured
    with tempfile.TemporaryDirectory(dir=memory if Path(memory).is_dir() else None) as folder:
        begun = time.process_time()
        for _ in Payload(PAYLOAD, seed).blocks():
            pass
        made_s = time.process_time() - begun
        begun = time.process_time()
        Payload(PAYLOAD, seed).digest()
        digested_s = time.process_time() - begun
        begun = time.process_time()
        Payload(PAYLOAD, seed).write(Path(folder, "file"))
        written_s = time.process_time() - begun
    parts = {"the cipher": made_s, "the digest": digested_s - made_s, "writing to memory": written_s - digested_s}
    return digested_s, parts


def _copy_s() -> float:
    source, target = memoryview(bytearray(os.urandom(BLOCK))), memoryview(bytearray(BLOCK))
    begun = time.process_time()
    for _ in range(PAYLOAD // BLOCK):
        target[:] = source
    return time.process_time() - begun


def _cipher_s() -> float:
    argv = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", str(BLOCK), "-evp", "aes-256-ctr"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return PAYLOAD / float(re.findall(r"^\+F:.*:([\d.]+)$", said, re.MULTILINE)[0])


# --- clusters and their rounds ----------------------------------------------------------------------------------------


def cluster(turns: int) -> Iterator[tuple[Goal, Sequence[Turn]]]:
    """Until a swarm of so many nodes is ready, and until as many empty interpreters as it has processes have ended."""
    for nodes, most in ((8, 2.0), (32, 5.0)):
        found = []
        for _ in range(turns):
            limit_s = _interpreters_s(2 * nodes)
            with _up(nodes, BUILT_IN["http"]) as (_, seconds):
                found.append(Turn(seconds, limit_s, {}))
        yield Goal(f"a swarm of {nodes} nodes until it is ready", most, "s", f"{2 * nodes} empty interpreters"), found


def _interpreters_s(count: int) -> float:
    def run() -> None:
        processes = [subprocess.Popen([sys.executable, "-c", ""]) for _ in range(count)]
        for process in processes:
            process.wait()

    return _timed(run)


@contextmanager
def _up(nodes: int, variant: Variant) -> Iterator[tuple[Cluster, float]]:
    with tempfile.TemporaryDirectory(prefix="speed-") as folder, ExitStack() as stack:
        block, begun = Block(nodes, 1, WARM_UP_SIZE, None, (variant,)), time.perf_counter()
        up = stack.enter_context(
            Local(Path(folder)).cluster(block.cells[0].shape, lambda text: None, parse_size("100MB"))
        )
        yield up, time.perf_counter() - begun


def besides(turns: int) -> Iterator[tuple[Goal, Sequence[Turn]]]:
    """What a round of 4 nodes and 100 MB takes over its transfers and making the file; against one question."""
    for name in ("http", "bittorrent"):
        variant, found = BUILT_IN[name], list[Turn]()
        with _up(4, variant) as (up, _), tempfile.TemporaryDirectory() as folder:
            environment = Local(Path(folder)).environment(1)
            for index in (WARM_UP, *range(turns)):
                size = WARM_UP_SIZE if index == WARM_UP else parse_size("100MB")
                cell = Block(4, 1, size, None, (variant,)).cells[0]
                limit_s = _timed(up.nodes[0].runs)
                setting = Setting(up.nodes, environment, deadline_s(size, None))
                done = disseminate(cell, draw(Block(4, 1, size, None, (variant,)), index, 1), setting)
                if not done.success:
                    raise BenchError(f"a round of {cell} failed: {done.failure}")
                if index != WARM_UP:
                    parts = {
                        "not in it: making the file": done.seconds["make_s"],
                        "not in it: publishing": done.seconds["seed_s"],
                        "not in it: the last leecher's fetch": of_round(done)["t100_max_s"] or 0.0,
                    }
                    found.append(Turn(done.seconds["round_s"] - sum(parts.values()), limit_s, parts))
        yield Goal(f"a round of {name} besides", 0.3, "s", "one question to one agent"), found


# --- the driver -------------------------------------------------------------------------------------------------------


def driver(turns: int) -> Iterator[tuple[Goal, Sequence[Turn]]]:
    """A round with 1000 nodes that answer at once, each a line a percent; in a process of its own, for its memory."""
    argv = [sys.executable, __file__, "--crowd", str(turns)]
    told = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    memory, times = float(told[0]), [float(text) for text in told[1:]]
    questions = times[turns:]
    found = [Turn(took, limit, {}) for took, limit in zip(times[:turns], questions, strict=True)]
    yield Goal("a round with 1000 simulated nodes", 2.0, "s", "a question to each of them, in turn"), found
    yield Goal("its memory at the peak", 256.0, "MB", "256 MB"), [Turn(memory, 256.0, {})] * turns


def _crowd(turns: int) -> None:
    """The other process: prints its memory, the seconds of each round, and those of asking every node a question."""
    rounds, questions, count = [], [], 1000
    with tempfile.TemporaryDirectory(prefix="cr") as text:
        folder = Path(text)
        argv = [sys.executable, crowd.__file__, text, str(count)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as others:
            if others.stdout is None or others.stdout.readline().strip() != "ready":
                raise BenchError("the crowd did not come up")
            nodes = [Node(name, crowd.url_of(folder, name), crowd.TOKEN, {}) for name in crowd.names(count)]
            block = Block(count, 1, CROWD_SIZE, None, (BUILT_IN["http"],))
            setting = Setting(nodes, Local(folder).environment(1), 60.0)
            for index in range(turns):
                questions.append(_timed(lambda: [node.runs() for node in nodes]))
                begun = time.perf_counter()
                done = disseminate(block.cells[0], draw(block, index, 1), setting)
                rounds.append(time.perf_counter() - begun)
                if not done.success:
                    raise BenchError(f"a round failed: {done.failure}")
            others.communicate()
    # Linux tells it in units of 1024 bytes
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(memory, *rounds, *questions)


# --- the command ------------------------------------------------------------------------------------------------------


def collect(turns: int) -> Iterator[tuple[Goal, Sequence[Turn]]]:
    """`--collect-only` of the largest matrix, and pytest without this plugin over one empty test.

    Both without the plugins that only the development of this project needs, which take longer than all others.
    """
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        Path(folder, "test_nothing.py").write_text(EMPTY, encoding="utf-8")
        benches = Path(folder, "benches")
        shutil.copytree(Path(__file__).parents[1] / "tests_bench", benches)
        pytest = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *USUAL]
        empty = [*pytest, "test_nothing.py"]
        full = [*pytest, *OURS, "--matrix=full", "--cb-systems=bittorrent,http", str(benches)]
        found = [Turn(_ran_s(full, folder), _ran_s(empty, folder), {}) for _ in range(turns)]
    yield Goal("pytest --matrix=full --collect-only", 1.0, "s", "pytest over one empty test"), found


def _ran_s(argv: Sequence[str], folder: str) -> float:
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return _timed(lambda: subprocess.run(argv, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL))


PARTS: Mapping[str, Callable[[int], Iterator[tuple[Goal, Sequence[Turn]]]]] = {
    "payload": payload,
    "collect": collect,
    "driver": driver,
    "cluster": cluster,
    "besides": besides,
}


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--crowd"]:
            _crowd(int(sys.argv[2]))
            sys.exit(0)
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BenchError as error:
        sys.exit(str(error))
