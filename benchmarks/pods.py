"""What Kubernetes costs: the same cells in Pods and in this machine's namespaces, and how long swarms take to come."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_codexbench.backends import Backend, Cluster
from pytest_codexbench.backends.kubernetes import Kubernetes, Wishes
from pytest_codexbench.backends.local import Local
from pytest_codexbench.errors import BenchError
from pytest_codexbench.experiment import Setting, disseminate
from pytest_codexbench.matrix import BUILT_IN, Block, Variant, parse_size
from pytest_codexbench.metrics import of_round
from pytest_codexbench.plan import WARM_UP, WARM_UP_SIZE, deadline_s, draw
from pytest_codexbench.records import Round
from pytest_codexbench.stats import median, median_interval


@dataclass(frozen=True, slots=True)
class Up:
    """A swarm that is up, and the seconds that took."""

    backend: Backend
    cluster: Cluster
    seconds: float


def main() -> int:
    """Measure and print; nothing is judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent-image", required=True, metavar="IMAGE", help="as pytest's --cb-agent-image")
    parser.add_argument("--kube-context", metavar="NAME", help="as pytest's --cb-kube-context")
    parser.add_argument("--systems", default="http,bittorrent", help="by comma, by default %(default)s")
    parser.add_argument(
        "--nodes", type=int, default=4, help="of the cell, one of them a seeder; by default %(default)s"
    )
    parser.add_argument("--size", default="100MB", help="of the file, by default %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="in each place, by default %(default)s")
    parser.add_argument("--swarms", default="8,32", metavar="N,...", help="sizes to bring up, by default %(default)s")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is taken down

    with tempfile.TemporaryDirectory(prefix="pods-") as folder:
        places: list[Backend] = [
            Local(Path(folder, "local")),
            Kubernetes(Path(folder, "kubernetes"), "pods", Wishes(options.kube_context, None, options.agent_image)),
        ]
        print(f"Load of this machine over the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n")
        if options.swarms:
            _print_swarms(places, BUILT_IN["http"], [int(text) for text in options.swarms.split(",")])
        for name in options.systems.split(","):
            _print_cell(
                places, Block(options.nodes, 1, parse_size(options.size), None, (BUILT_IN[name],)), options.rounds
            )
    return 0


# --- swarms come and go -----------------------------------------------------------------------------------------------


def _print_swarms(places: Sequence[Backend], variant: Variant, sizes: Sequence[int]) -> None:
    print(f"{'swarm':10} {'place':12} {'until ready':>12} {'until gone':>12}")
    for nodes in sizes:
        shape = Block(nodes, 1, WARM_UP_SIZE, None, (variant,)).cells[0].shape
        for place in places:
            with ExitStack() as stack:
                up = stack.enter_context(_up(place, Block(nodes, 1, WARM_UP_SIZE, None, (variant,))))
                begun = time.monotonic()
                stack.close()
            print(f"{shape!s:10} {place.name:12} {up.seconds:10.1f} s {time.monotonic() - begun:10.1f} s", flush=True)
    print()


@contextmanager
def _up(place: Backend, block: Block) -> Iterator[Up]:
    begun = time.monotonic()
    with place.cluster(block.cells[0].shape, lambda text: None, max(block.size, WARM_UP_SIZE)) as cluster:
        yield Up(place, cluster, time.monotonic() - begun)


# --- the same cell in both --------------------------------------------------------------------------------------------


def _print_cell(places: Sequence[Backend], block: Block, count: int) -> None:
    """Rounds in turn, each with the same bytes and the same draw in both places."""
    rounds: dict[str, list[Round]] = {place.name: [] for place in places}
    with ExitStack() as stack:
        ups = [stack.enter_context(_up(place, block)) for place in places]
        for up in ups:
            _round(up, Block(block.nodes, 1, WARM_UP_SIZE, None, block.variants), WARM_UP)
        for index in range(count):
            turns: list[Callable[[], None]] = [
                lambda up=up, index=index: rounds[up.backend.name].append(_round(up, block, index))  # type: ignore[misc]  # the defaults bind what the loop has
                for up in ups
            ]
            random.Random(index).shuffle(turns)
            for turn in turns:
                turn()
    print(
        f"{block.cells[0]}: {'t100 s':>10}  {'least..most':>14}  {'MB/s':>6}  {'a round besides, s':>18}  {'skew s':>7}"
    )
    for name, found in rounds.items():
        times = [of_round(one)["t100_s"] or 0.0 for one in found]
        besides = [one.seconds["round_s"] - (of_round(one)["t100_max_s"] or 0.0) for one in found]
        centre = median(times)
        print(
            f"  {name:14} {centre:10.3f}  {min(times):.3f}..{max(times):.3f}  {block.size / centre / 1e6:6.0f}"
            f"  {median(besides):18.2f}  {median(one.seconds['start_skew_s'] for one in found):7.3f}"
        )
    here, there = (rounds[place.name] for place in places)
    ratios = [(of_round(b)["t100_s"] or 0.0) / (of_round(a)["t100_s"] or 1.0) for a, b in zip(here, there, strict=True)]
    ratio = median_interval(ratios)
    kind = "95 %" if ratio.level else "range"
    print(
        f"  kubernetes / local, round by round: {ratio.median:.2f} ({kind}: {ratio.low:.2f} to {ratio.high:.2f})\n",
        flush=True,
    )


def _round(up: Up, block: Block, index: int) -> Round:
    cell = block.cells[0]
    setting = Setting(up.cluster.nodes, up.backend.environment(1), deadline_s(cell.size, None))
    done = disseminate(cell, draw(block, index, 1), setting)
    if not done.success:
        raise BenchError(f"round {index} of {cell} failed on {up.backend.name}: {done.failure}")
    return done


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BenchError as error:
        sys.exit(str(error))
