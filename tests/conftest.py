"""What the tests of the plugin share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from benches import Bench


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A folder with one cell test and a tiny matrix over http."""
    return Bench(pytester, monkeypatch)


@pytest.fixture
def fault(bench: Bench) -> Callable[[str], Bench]:
    """The same folder, with the double as its only system."""

    def switched(name: str, rounds: int = 1, size: str = "3MB") -> Bench:
        bench.matrix(f'shapes = [[3, 2]]\nsizes = ["{size}"]\nrounds = {rounds}\n[systems.faulty]\nfault = "{name}"\n')
        return bench

    return switched
