"""What may be done to a swarm while a file is spread: the catalogue of disturbances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DOWN_S = 8.0
CUT_S = 5.0
LOSS_PERCENT = 1
CPU_SHARE = 0.05
ROOM_SHARE = 1.1
FILES = 4
UNDISTURBED = "undisturbed"

# What a disturbance asks of the place where the nodes run.
NETWORK, PROCESSOR, DISK = "packets of a node can be dropped", "processors can be limited", "disks can be made small"


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One thing that happens to a swarm.

    ``percent`` is the part of the file that must be there when it happens: at the victim itself where ``own``, else at
    the median of the other leechers; None: it is so from before the start. ``victim`` is who it happens to: the first
    drawn ``seeder`` or ``leecher``, or ``all``. ``down_s`` is how long it lasts; None: to the end of the round.
    ``kills``: programs are ended in it, so that nothing more is measured on the cluster. ``asks`` is what the place
    must be able to do.
    """

    name: str
    words: str
    victim: str = "all"
    percent: int | None = None
    own: bool = False
    down_s: float | None = None
    kills: bool = False
    asks: str = ""
    least_seeders: int = 1
    most_seeders: int | None = None
    least_leechers: int = 1
    files: int = 1

    def impossible(self, nodes: int, seeders: int) -> str | None:
        """Why a swarm of that shape cannot have it; None if it can."""
        if seeders < self.least_seeders:
            return f"it takes {self.least_seeders} seeders or more"
        if self.most_seeders is not None and seeders > self.most_seeders:
            return "it is of a swarm with one seeder" if self.most_seeders == 1 else f"{self.most_seeders} at most"
        if nodes - seeders < self.least_leechers:
            return f"it takes {self.least_leechers} leechers or more"
        return None

    @property
    def moment(self) -> str:
        """When it happens, in words."""
        if self.percent is None:
            return "from before the start"
        whose = f"the {self.victim} that it happens to" if self.own else "the median of the leechers that fetch"
        return f"when {whose} has {self.percent} %"

    @property
    def extra_s(self) -> float:
        """Seconds that it adds to a round at least."""
        return self.down_s or 0.0


DISTURBANCES: Mapping[str, Disturbance] = {
    each.name: each
    for each in (
        Disturbance(UNDISTURBED, "nothing happens: what the others are held against"),
        Disturbance(
            "seeder-restarts",
            f"the only seeder is killed at 30 % and started again {DOWN_S:g} s later",
            victim="seeder",
            percent=30,
            down_s=DOWN_S,
            kills=True,
            most_seeders=1,
        ),
        Disturbance(
            "seeder-dies",
            "one of several seeders is killed at 30 % for good",
            victim="seeder",
            percent=30,
            kills=True,
            least_seeders=2,
        ),
        Disturbance(
            "leecher-restarts",
            f"a leecher is killed when it has 30 %, and started again {DOWN_S:g} s later",
            victim="leecher",
            percent=30,
            own=True,
            down_s=DOWN_S,
            kills=True,
        ),
        Disturbance(
            "late-leecher",
            "a leecher joins when the others are at 90 %",
            victim="leecher",
            percent=90,
            least_leechers=2,
        ),
        Disturbance("packet-loss", f"{LOSS_PERCENT} % of the packets to every node are lost", asks=NETWORK),
        Disturbance(
            "link-cut",
            f"the link of a leecher is cut for {CUT_S:g} s when it has 30 %",
            victim="leecher",
            percent=30,
            own=True,
            down_s=CUT_S,
            asks=NETWORK,
        ),
        Disturbance("files-at-once", f"{FILES} files, which together have the size, at once", files=FILES),
        Disturbance(
            "slow-processor", f"every node's program has {CPU_SHARE:.0%} of one processor at the most", asks=PROCESSOR
        ),
        Disturbance(
            "disk-nearly-full",
            f"a leecher's disk has room for {ROOM_SHARE:g} x what its system says that it stores",
            victim="leecher",
            kills=True,
            asks=DISK,
        ),
    )
}


def named(name: str) -> Disturbance:
    """The disturbance of that name."""
    return DISTURBANCES[name]
