"""Acts on many things at the same time."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_codexbench import together
from pytest_codexbench.together import FEW, each

MANY = 64


@pytest.mark.parametrize("at_first", [None, FEW])
@pytest.mark.parametrize("count", [0, 1, 2, MANY])
def test_results_are_in_the_order_of_their_items(count: int, at_first: int | None) -> None:
    """Whichever of them ends first."""

    def act(item: int) -> int:
        time.sleep((count - item) / 10_000)
        return item * item

    assert each(range(count), act, at_first) == [item * item for item in range(count)]


@pytest.mark.parametrize("at_first", [None, FEW])
def test_all_run_at_the_same_time_if_they_have_to(at_first: int | None) -> None:
    """Acts that take long are not one behind the other: here each waits until the last one has begun."""
    all_of_them = threading.Barrier(MANY)

    assert sorted(each(range(MANY), lambda item: all_of_them.wait(30), at_first)) == list(range(MANY))


def test_short_acts_are_done_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as they get on, no more threads than asked for."""
    monkeypatch.setattr(together, "MOMENT_S", 60.0)
    busy, most, lock = 0, 0, threading.Lock()

    def act(item: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        with lock:
            busy -= 1

    each(range(MANY), act, 2)

    assert most <= 2


@pytest.mark.parametrize("at_first", [None, FEW])
def test_the_first_error_is_raised_when_all_have_ended(at_first: int | None) -> None:
    """Nothing still runs when a caller hears of an error."""
    ended: list[int] = []

    def act(item: int) -> None:
        time.sleep(0.02 if item > 1 else 0)
        ended.append(item)
        if item in {1, 3}:
            raise ValueError(str(item))

    with pytest.raises(ValueError, match=r"^1$"):
        each(range(6), act, at_first)

    assert sorted(ended) == list(range(6))
