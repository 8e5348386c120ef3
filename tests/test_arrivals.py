"""How a file arrives in a cell."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import stories
from stories import MB, cell, round_of, rounds_of

from pytest_codexbench.matrix import BUILT_IN, Variant
from pytest_codexbench.metrics import summarise
from pytest_codexbench.reports.arrivals import arrival, in_order
from pytest_codexbench.timeline import NS, Timeline


def test_the_middle_is_what_the_table_says() -> None:
    """At 50, 90 and 100 % the curve of a cell passes through its median times."""
    rounds = rounds_of(cell(), stories.SIX)
    summary = summarise(rounds)

    told = arrival(rounds, "available")

    assert told is not None
    assert [summary.centre(f"available.{name}") for name in ("ttfb_s", "t50_s", "t90_s", "t100_s")] == [
        told.middle[percent] for percent in (0, 50, 90, 100)
    ]


@pytest.mark.parametrize("seconds", [stories.SIX, (1.0,), (2.0, math.inf, 3.0), (math.inf,)])
def test_curves_never_go_back(seconds: tuple[float, ...]) -> None:
    """More of the file is never there sooner, in the middle and at both sides of the band, which hold the middle."""
    told = arrival(rounds_of(cell(nodes=8), seconds), "available")

    assert told is not None
    for course in (told.middle, told.early, told.late):
        assert 101 == len(course)
        assert all(a <= b for a, b in pairwise(course))
    assert all(early <= middle <= late for early, middle, late in zip(told.early, told.middle, told.late, strict=True))


def test_failed_transfers_are_infinite() -> None:
    """Where most rounds failed the curve ends where it was not reached: nothing is dropped."""
    told = arrival(rounds_of(cell(nodes=4, seeders=1), (2.0, math.inf, math.inf)), "available")

    assert told is not None
    assert math.isfinite(told.middle[40])
    assert [math.inf] * 60 == list(told.middle[41:])


def test_wrong_bytes_never_arrive() -> None:
    """A transfer that ended with the wrong bytes has a course, but no last percent."""
    bad = round_of(cell(nodes=2, seeders=1), 0, 1.0)
    bad = replace(bad, transfers=(replace(bad.transfers[0], outcome="corrupt", error="its digest is another"),))

    told = arrival([bad], "available")

    assert told is not None
    assert (0.99, math.inf) == (told.middle[99], told.middle[100])


def test_a_round_that_broke_off_counts() -> None:
    """Leechers that never began are infinite too."""
    broken = replace(round_of(cell(), 1, 1.0, error="no handle"), transfers=())

    told = arrival([round_of(cell(), 0, 1.0), broken], "available")

    assert told is not None
    assert [math.inf] * 101 == list(told.late)


def test_a_view_that_nobody_tells() -> None:
    """There is no curve of a view that the system does not tell."""
    assert arrival(rounds_of(cell("codex"), (1.0,)), "available") is None


@pytest.mark.parametrize(
    "variant,expected",
    [
        (BUILT_IN["bittorrent"], False),
        (BUILT_IN["bittorrent.stock"], False),
        (BUILT_IN["bittorrent.streaming"], True),
        (Variant("bittorrent.mine", "bittorrent", (("profile", "streaming"),)), True),
        (BUILT_IN["http"], True),
        (BUILT_IN["codex"], True),
    ],
)
def test_who_fetches_in_order(variant: Variant, expected: bool) -> None:
    """BitTorrent fetches in order with the profile ``streaming`` alone; all others read from the start."""
    assert expected == in_order(variant)


def test_a_course_is_seconds_to_each_percent() -> None:
    """In one go through the marks the same times come out as one by one; of failed transfers too."""
    marks = tuple((held * MB, held * NS // 7) for held in (1, 3, 4, 11, 30, 31, 62))

    for timeline in (Timeline(100 * MB, marks), Timeline(62 * MB, marks), Timeline(5, ((2, 7),)), Timeline(9)):
        assert [timeline.seconds_to(percent) for percent in range(101)] == timeline.course(range(101))
