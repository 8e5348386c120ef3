"""The same act on many things at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Threads that wait for the interpreter cost each other time: few do short acts, and more only if they are not short.
FEW = 4
MOMENT_S = 0.01


def each(items: Sequence[T], act: Callable[[T], R], at_first: int | None = None) -> list[R]:
    """``act`` on all items at the same time, the results in their order; the first error is raised when all ended.

    With ``at_first``, on so many at a time as long as they get on: on twice as many after each 10 ms without an end.
    """
    if len(items) == 1:
        return [act(items[0])]
    acts = _Acts(items, act)
    try:
        acts.add_threads(at_first or len(items))
        while left := len(acts.left):
            acts.threads[0].join(MOMENT_S)
            if len(acts.left) == left:
                acts.add_threads(len(acts.threads))
        for thread in acts.threads:
            thread.join()
    finally:
        # on Ctrl-C the acts still run: the end of their cluster ends them, so it must not wait for them
        acts.left.clear()
    if acts.errors:
        raise acts.errors[min(acts.errors)]
    return [acts.results[turn] for turn in range(len(items))]


class _Acts(Generic[T, R]):
    """What is left to do, and what came out of the rest; a thread ends when nothing is left."""

    def __init__(self, items: Sequence[T], act: Callable[[T], R]) -> None:
        self.left = deque(enumerate(items))
        self.results: dict[int, R] = {}
        self.errors: dict[int, BaseException] = {}
        self.threads: list[Thread] = []
        self._act = act

    def add_threads(self, count: int) -> None:
        for _ in range(min(count, len(self.left))):
            self.threads.append(Thread(target=self._work, name=f"each-{len(self.threads)}"))
            self.threads[-1].start()

    def _work(self) -> None:
        while True:
            try:
                turn, item = self.left.popleft()
            except IndexError:
                return
            try:
                self.results[turn] = self._act(item)
            except BaseException as error:  # noqa: BLE001 - raised again when all have ended
                self.errors[turn] = error
