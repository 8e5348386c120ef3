"""Under xdist, the clusters of one size go to one worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_codexbench.matrix import Block

if TYPE_CHECKING:
    import pytest

ALL = "all cells"


def cluster_of(block: Block) -> str:
    """What two blocks share that can share their clusters."""
    return f"{block.nodes} nodes, link {block.link}"


def cell_scheduler(config: pytest.Config, log: Any, places: Mapping[str, Block], together: bool) -> Any:
    """A scheduler that keeps the cells of one cluster size on one worker, on every pytest.

    ``loadgroup`` would be xdist's own way, but pytest 9.2 ignores its groups without a word. The controller collects
    nothing and sees node ids alone, so ``places`` tells the block by the id in brackets. ``together`` puts all cells
    on one worker: a budget is spent round-robin, which one process has to oversee.
    """
    from xdist.scheduler import LoadScopeScheduling

    # else xdist would order the groups by their number of tests
    config.option.loadscopereorder = False

    class CellScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            block = places.get(nodeid.rpartition("[")[2].rstrip("]"))
            if block is None:
                return str(super()._split_scope(nodeid))
            return ALL if together else cluster_of(block)

    return CellScheduling(config, log)
