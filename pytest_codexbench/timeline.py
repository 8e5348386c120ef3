"""When the bytes of one transfer arrived."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar, cast, overload

T = TypeVar("T")

NS = 10**9
MIB = 1 << 20
GAP_NS = NS
# Below this many seconds there are too few whole ones for a spread to mean anything.
LEAST_SECONDS_FOR_CV = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """What was there at one moment: ``t_ns`` since the request, bytes received, bytes held and verified."""

    t_ns: int
    received: int
    held: int


class _Packed(Sequence[T]):
    """Like the tuple of the same, but in eight bytes a number: a night's journal holds millions of them."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class Counts(_Packed[int]):
    """Whole numbers."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = array("q", numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Counts: ...

    def __getitem__(self, index: int | slice) -> int | Counts:
        return Counts(self._numbers[index]) if isinstance(index, slice) else self._numbers[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)


class Pairs(_Packed[tuple[int, int]]):
    """Pairs of whole numbers."""

    __slots__ = ("_firsts", "_seconds")

    def __init__(self, pairs: Iterable[Sequence[int]]) -> None:
        firsts, seconds = zip(*pairs, strict=True) if (pairs := tuple(pairs)) else ((), ())
        self._firsts, self._seconds = array("q", firsts), array("q", seconds)

    def __len__(self) -> int:
        return len(self._firsts)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, index: slice) -> Pairs: ...

    def __getitem__(self, index: int | slice) -> tuple[int, int] | Pairs:
        if isinstance(index, slice):
            return Pairs(zip(self._firsts[index], self._seconds[index], strict=True))
        return self._firsts[index], self._seconds[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._seconds, strict=True)

    def after(self, least: int) -> float:
        """The second number of the first pair whose first one, of such as never fall, is ``least`` or more; or inf."""
        index = bisect_left(self._firsts, least)
        return self._seconds[index] if index < len(self._seconds) else math.inf


@dataclass(frozen=True, slots=True)
class Timeline:
    """One view of one transfer, small however large the file.

    ``marks`` are (bytes held, nanoseconds) where the first byte, 1 MiB, each whole percent and the last byte came.
    ``received`` is the count of received bytes at each whole second. ``gaps`` are (start, length) in nanoseconds of
    every pause over 1 s in received bytes after the first. ``end_ns`` is the last moment seen.
    """

    total: int
    marks: Sequence[tuple[int, int]] = ()
    received: Sequence[int] = ()
    gaps: Sequence[tuple[int, int]] = ()
    end_ns: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", Pairs(self.marks))
        object.__setattr__(self, "received", Counts(self.received))
        object.__setattr__(self, "gaps", Pairs(self.gaps))

    def seconds_to(self, percent: float) -> float:
        """Seconds from the request to ``percent`` of the bytes; infinite if they never came. 0 means the first byte."""
        return self.seconds_to_bytes(max(1, math.ceil(self.total * percent / 100)))

    def seconds_to_bytes(self, count: int) -> float:
        """Seconds from the request until ``count`` bytes were held, or infinite; files that are smaller count whole."""
        wanted = min(count, self.total)
        return cast("Pairs", self.marks).after(wanted) / NS  # as __post_init__ made them

    def course(self, percents: Iterable[int]) -> list[float]:
        """``seconds_to`` of each of these percents, which must not fall, in one go through the marks."""
        found = list[float]()
        held, seconds = 0, 0.0
        marks = iter(self.marks)
        for percent in percents:
            wanted = min(max(1, -(-self.total * percent // 100)), self.total)
            while held < wanted:
                held, t_ns = next(marks, (self.total, math.inf))
                seconds = t_ns / NS
            found.append(seconds)
        return found

    @property
    def held(self) -> int:
        """Bytes held at the last mark."""
        return self.marks[-1][0] if self.marks else 0

    @property
    def mb_per_s(self) -> float:
        """10^6 bytes a second over the whole transfer; 0 if it did not end."""
        seconds = self.seconds_to(100)
        return self.total / seconds / 1e6 if 0 < seconds < math.inf else 0.0

    @property
    def longest_stall_s(self) -> float:
        """The longest pause over 1 s in received bytes, in seconds; 0 without one."""
        return max((length for _, length in self.gaps), default=0) / NS

    @property
    def throughput_cv(self) -> float | None:
        """Coefficient of variation of the bytes received in each whole second; None for less than 3 s."""
        amounts = [b - a for a, b in pairwise((0, *self.received))]
        if len(amounts) < LEAST_SECONDS_FOR_CV or not sum(amounts):
            return None
        mean = sum(amounts) / len(amounts)
        return math.sqrt(sum((amount - mean) ** 2 for amount in amounts) / len(amounts)) / mean

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "total": self.total,
            "marks": [list(mark) for mark in self.marks],
            "received": list(self.received),
            "gaps": [list(gap) for gap in self.gaps],
            "end_ns": self.end_ns,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Timeline:
        """The inverse of ``to_json``."""
        return cls(
            total=data["total"],
            marks=data["marks"],
            received=data["received"],
            gaps=data["gaps"],
            end_ns=data["end_ns"],
        )


class Watch:
    """Makes a timeline out of samples as they come; samples must not go back in time or bytes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._marks: list[tuple[int, int]] = []
        self._received: list[int] = []
        self._gaps: list[tuple[int, int]] = []
        self._last_growth = Sample(0, 0, 0)
        self._end_ns = 0

    def see(self, sample: Sample) -> bool:
        """Take in one sample; whether it passed a mark."""
        if sample.t_ns < self._end_ns or sample.received < self._last_growth.received:
            raise ValueError(f"{sample} comes after {self._last_growth} at {self._end_ns} ns")
        self._fill_seconds(sample.t_ns)
        if sample.received > self._last_growth.received:
            pause = sample.t_ns - self._last_growth.t_ns
            if self._last_growth.received and pause > GAP_NS:
                self._gaps.append((self._last_growth.t_ns, pause))
            self._last_growth = sample
        self._end_ns = sample.t_ns
        held_before = self._marks[-1][0] if self._marks else 0
        if passes_mark(held_before, sample.held, self.total):
            self._marks.append((sample.held, sample.t_ns))
            return True
        return False

    @property
    def received(self) -> int:
        """Bytes received so far."""
        return self._last_growth.received

    def close(self, t_ns: int) -> None:
        """The transfer was given up at ``t_ns``: a pause that lasted until then counts."""
        t_ns = max(t_ns, self._end_ns)
        self._fill_seconds(t_ns)
        pause = t_ns - self._last_growth.t_ns
        held = self._marks[-1][0] if self._marks else 0
        if self._last_growth.received and held < self.total and pause > GAP_NS:
            self._gaps.append((self._last_growth.t_ns, pause))
        self._end_ns = t_ns

    def timeline(self) -> Timeline:
        """What was seen so far."""
        return Timeline(self.total, tuple(self._marks), tuple(self._received), tuple(self._gaps), self._end_ns)

    def _fill_seconds(self, t_ns: int) -> None:
        """Every whole second that ends before ``t_ns`` ended with what the sample before it said."""
        while (len(self._received) + 1) * NS <= t_ns:
            self._received.append(self._last_growth.received)


def merged(lines: Sequence[Timeline]) -> Timeline:
    """Several timelines of one clock as one of all their bytes; pauses are those in what was held."""
    watch = Watch(sum(line.total for line in lines))
    held = [0] * len(lines)
    moments = sorted((t_ns, index, count) for index, line in enumerate(lines) for count, t_ns in line.marks)
    for t_ns, index, count in moments:
        held[index] = count
        watch.see(Sample(t_ns, sum(held), sum(held)))
    watch.close(max(line.end_ns for line in lines))
    return watch.timeline()


def passes_mark(before: int, now: int, total: int) -> bool:
    """Whether a mark lies between ``before`` and ``now`` bytes: the first byte, 1 MiB, a whole percent, the last."""
    if now <= before:
        return False
    return before == 0 or before < MIB <= now or now * 100 // total > before * 100 // total


def thin(samples: Iterable[Sample], total: int, start_ns: int = 0) -> Iterator[Sample]:
    """Only the samples that a timeline is made of: ``Watch`` makes the same timeline from these as from all.

    Gives each as soon as it is known to matter: a mark at once; the last sample before a whole second or a pause
    when the next one comes; and one each second even if nothing grew, so that a reader knows it is still watched.
    ``start_ns`` is where the seconds count from.
    """
    marked, pending, given_ns, shown_ns = 0, False, start_ns, start_ns
    growth = Sample(start_ns, 0, 0)
    for sample in samples:
        grew = sample.received > growth.received
        mark = passes_mark(marked, sample.held, total)
        pause = grew and sample.t_ns - growth.t_ns > GAP_NS // 2
        turn = grew and (sample.t_ns - start_ns) // NS > (growth.t_ns - start_ns) // NS
        # or a reader would see a pause where bytes came, but were not given
        far = grew and sample.t_ns - shown_ns > GAP_NS
        silent = sample.t_ns - given_ns >= NS
        if pending and (pause or turn or far or ((mark or silent) and not grew)):
            yield growth
            pending, shown_ns = False, growth.t_ns
        if mark or pause or silent:
            yield sample
            marked, given_ns = max(marked, sample.held), sample.t_ns
            shown_ns = sample.t_ns if grew else shown_ns
        if grew:
            growth, pending = sample, not (mark or pause or silent)
    if pending:
        yield growth
