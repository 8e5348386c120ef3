"""The same act on many things at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(items: Sequence[T], act: Callable[[T], R]) -> list[R]:
    """``act`` on all items at the same time, the results in their order; the first error is raised when all ended."""
    if len(items) == 1:
        return [act(items[0])]
    pool = ThreadPoolExecutor(max(1, len(items)), "node")
    try:
        futures = [pool.submit(act, item) for item in items]
        wait(futures)
        return [future.result() for future in futures]
    finally:
        # on Ctrl-C the acts still run: the end of their cluster ends them, so it must not wait for them
        pool.shutdown(wait=False, cancel_futures=True)
