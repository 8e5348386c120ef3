"""Storage systems, found by their entry points."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from pytest_codexbench import systems
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.systems import GROUP, find, names


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """The entry points that there are, for a test to fill."""
    there: list[EntryPoint] = []
    monkeypatch.setattr(systems, "entry_points", lambda group: there if group == GROUP else [])
    find.cache_clear()
    yield there
    find.cache_clear()


def point(name: str, value: str) -> EntryPoint:
    """As a distribution gives it."""
    return EntryPoint(name, value, GROUP)


def test_our_own_are_there() -> None:
    """Every system of this distribution is found by its name."""
    for name in ("bittorrent", "codex", "http", "ipfs"):
        assert name == find(name).name
        assert name in names()


@pytest.mark.parametrize(
    "value, why",
    [
        ("no_such_module:System", "cannot be loaded: ModuleNotFoundError"),
        ("pytest_codexbench.systems.http:NoSuch", "cannot be loaded: AttributeError"),
        ("pytest_codexbench.systems.http:HttpNode", "cannot be loaded: TypeError"),
        ("pytest_codexbench.systems.http:Http", "calls itself 'http'; both must be the same"),
    ],
)
def test_one_that_cannot_be_used_is_told(points: list[EntryPoint], value: str, why: str) -> None:
    """Anybody's module may be broken: the error names the system, where it should be, and why it is not."""
    points.append(point("mine", value))

    with pytest.raises(WrongInput, match=rf"system 'mine' \({value}\) {why}"):
        find("mine")


def test_one_that_is_not_installed_is_told_with_those_that_are(points: list[EntryPoint]) -> None:
    """A misspelt name is answered with what there is."""
    points += [point("b", "x:Y"), point("a", "x:Y")]

    with pytest.raises(WrongInput, match="no system 'c'; installed ones: a, b"):
        find("c")
