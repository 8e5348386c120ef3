"""When the bytes of one transfer arrived."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_codexbench.timeline import MIB, NS, Sample, Timeline, Watch, passes_mark, thin

MB = 10**6


def at(seconds: float, received: int, held: int | None = None) -> Sample:
    """A sample; what is received is also held, unless told otherwise."""
    return Sample(round(seconds * NS), received, received if held is None else held)


def watched(total: int, samples: Iterable[Sample], end_ns: int | None = None) -> Timeline:
    """The timeline of all samples, given up at ``end_ns`` if that is given."""
    watch = Watch(total)
    for sample in samples:
        watch.see(sample)
    if end_ns is not None:
        watch.close(end_ns)
    return watch.timeline()


# --- times ---


def test_times_are_those_of_the_samples() -> None:
    """A steady transfer, a tenth each 0.2 s after a first 0.3 s: every time is known to the digit."""
    timeline = watched(100 * MB, (at(0.3 + 0.2 * tenth, 10 * MB * tenth or 1) for tenth in range(11)))

    assert 0.3 == timeline.seconds_to(0)
    assert 0.5 == timeline.seconds_to_bytes(MIB)
    assert 0.5 == timeline.seconds_to(10)
    assert 1.3 == timeline.seconds_to(50)
    assert 2.1 == timeline.seconds_to(90)
    assert 2.3 == timeline.seconds_to(100)
    assert 100 / 2.3 == timeline.mb_per_s
    assert 2_300_000_000 == timeline.end_ns


def test_half_of_an_odd_number_of_bytes_is_the_larger_half() -> None:
    """held(t) >= 50 %: of 3 bytes that takes 2."""
    timeline = watched(3, [at(1, 1), at(2, 2), at(3, 3)])

    assert [1.0, 1.0, 2.0, 2.0, 3.0, 3.0] == [timeline.seconds_to(percent) for percent in (0, 33, 34, 50, 67, 100)]


@pytest.mark.parametrize("percent", [1, 50, 90, 99])
def test_a_percent_is_reached_with_its_last_byte_only(percent: int) -> None:
    """One byte less than the percent is not the percent."""
    total = 5 * 10**9 + 7
    wanted = -(-total * percent // 100)
    timeline = watched(total, [at(1, 1), at(2, wanted - 1), at(3, wanted), at(4, total)])

    assert 3.0 == timeline.seconds_to(percent)


@pytest.mark.parametrize("seen, t1mib_s", [(MIB - 1, 3.0), (MIB, 2.0), (MIB + 1, 2.0)])
def test_one_mib_has_its_own_mark(seen: int, t1mib_s: float) -> None:
    """1 MiB of a large file is far below its first percent."""
    timeline = watched(5 * 10**9, [at(1, 1), at(2, seen), at(3, 2 * MIB), at(4, 5 * 10**9)])

    assert t1mib_s == timeline.seconds_to_bytes(MIB)


def test_one_mib_of_a_smaller_file_is_all_of_it() -> None:
    """A file of 1 kB has its first MiB when it is whole."""
    timeline = watched(1000, [at(1, 500), at(2, 1000)])

    assert 2.0 == timeline.seconds_to_bytes(MIB)


def test_times_follow_what_is_held_and_not_what_is_received() -> None:
    """Pieces verify in jumps: bytes that are there but not checked do not count."""
    timeline = watched(100, [at(1, 60, 0), at(2, 100, 50), at(3, 100, 100)])

    assert 2.0 == timeline.seconds_to(0)
    assert 2.0 == timeline.seconds_to(50)
    assert 3.0 == timeline.seconds_to(51)


def test_what_never_came_took_infinitely_long() -> None:
    """A partial transfer keeps what came, to be shown."""
    timeline = watched(100, [at(1, 10), at(2, 60)], end_ns=9 * NS)

    assert 2.0 == timeline.seconds_to(50)
    assert math.inf == timeline.seconds_to(90) == timeline.seconds_to(100)
    assert 60 == timeline.held
    assert 0.0 == timeline.mb_per_s
    assert 9 * NS == timeline.end_ns


def test_a_transfer_of_which_nothing_came_is_a_timeline_too() -> None:
    """No mark, no stall, no spread; its end is known."""
    timeline = watched(100, [], end_ns=2 * NS + 1)

    assert Timeline(100, received=(0, 0), end_ns=2 * NS + 1) == timeline
    assert 0 == timeline.held
    assert math.inf == timeline.seconds_to(0)
    assert 0.0 == timeline.longest_stall_s
    assert timeline.throughput_cv is None


# --- stalls ---


def test_a_pause_of_more_than_a_second_is_a_stall() -> None:
    """A second is none; a nanosecond more is one, told with its start and length."""
    timeline = watched(100, [at(0.5, 10), at(1.5, 20), at(2.5 + 1e-9, 30), at(3, 40), at(7, 100)])

    assert ((1_500_000_000, 1_000_000_001), (3 * NS, 4 * NS)) == timeline.gaps
    assert 4.0 == timeline.longest_stall_s


def test_the_wait_for_the_first_byte_is_no_stall() -> None:
    """That is what the time to the first byte says."""
    assert () == watched(100, [at(0.1, 0), at(50, 10), at(50.5, 100)]).gaps


def test_a_pause_is_measured_between_bytes_and_not_between_samples() -> None:
    """Samples that say nothing new do not end a pause, bytes that are received but not verified do."""
    quiet = watched(100, [at(1, 10), *(at(1 + 0.1 * step, 10) for step in range(1, 30)), at(4, 100)])
    unverified = watched(100, [at(1, 10), at(2, 20, 10), at(3, 30, 10), at(4, 100)])

    assert ((NS, 3 * NS),) == quiet.gaps
    assert () == unverified.gaps


def test_a_pause_that_lasted_until_it_was_given_up_counts() -> None:
    """A transfer that hung at the end shows that it hung."""
    assert ((NS, 8 * NS),) == watched(100, [at(1, 10)], end_ns=9 * NS).gaps
    assert () == watched(100, [at(1, 10)], end_ns=2 * NS).gaps
    assert () == watched(100, [at(1, 100)], end_ns=9 * NS).gaps


def test_giving_up_does_not_go_back_in_time() -> None:
    """A moment before the last sample is taken for the last sample's."""
    assert 3 * NS == watched(100, [at(3, 10)], end_ns=2 * NS).end_ns


def test_samples_must_not_go_back() -> None:
    """Less time or fewer bytes than before is a mistake of the caller."""
    for earlier in (at(0.9, 10), at(1, 9)):
        watch = Watch(100)
        watch.see(at(1, 10))
        with pytest.raises(ValueError, match="comes after"):
            watch.see(earlier)


# --- seconds ---


def test_received_bytes_are_kept_for_each_whole_second() -> None:
    """What was there when each second ended; seconds in which nothing came repeat it."""
    timeline = watched(100, [at(0.4, 10), at(0.9, 20), at(1.1, 30), at(4.5, 90, 30), at(5.5, 100)])

    assert (20, 30, 30, 30, 90) == timeline.received


def test_the_spread_of_the_throughput_is_its_coefficient_of_variation() -> None:
    """10, 10, 10 and 30 bytes in four seconds: mean 15, standard deviation sqrt(75)."""
    timeline = watched(60, [at(0.5, 10), at(1.5, 20), at(2.5, 30), at(3.5, 60), at(4, 60)])

    assert (10, 20, 30, 60) == timeline.received
    assert pytest.approx(math.sqrt(75) / 15, rel=1e-12) == timeline.throughput_cv


def test_a_steady_transfer_has_no_spread() -> None:
    """The same amount each second."""
    assert 0.0 == watched(40, [*(at(0.5 + s, 10 * (s + 1)) for s in range(4)), at(4, 40)]).throughput_cv


@pytest.mark.parametrize("seconds, told", [(2.99, False), (3.0, True)])
def test_a_short_transfer_tells_no_spread(seconds: float, told: bool) -> None:
    """Two whole seconds are too few."""
    timeline = watched(100, [at(0.5, 30), at(1.5, 60), at(seconds, 100)])

    assert told == (timeline.throughput_cv is not None)


# --- size and shape on disk ---


@given(st.integers(1, 10**13), st.integers(1, 500))
def test_a_timeline_is_small_however_large_the_file(total: int, steps: int) -> None:
    """The first byte, 1 MiB and each whole percent: no more than 102 marks, in order, the last at the last byte."""
    timeline = watched(total, (Sample(step, total * step // steps, total * step // steps) for step in range(steps + 1)))

    assert 1 <= len(timeline.marks) <= 102
    assert sorted(timeline.marks) == list(timeline.marks)
    assert (total, steps) == timeline.marks[-1]


def test_a_timeline_of_a_million_samples_is_small() -> None:
    """Each percent once, though samples come a thousand times more often."""
    total = 10**10
    samples = [Sample(step * 10**5, step * total // 100_000, step * total // 100_000) for step in range(1, 100_001)]

    assert 102 == len(watched(total, samples).marks)
    assert len(list(thin(samples, total))) <= 102 + 2 * 10


@pytest.mark.parametrize(
    "before, now, total, passed",
    [
        (0, 0, 100, False),
        (0, 1, 10**9, True),
        (1, 2, 10**9, False),
        (MIB - 1, MIB, 10**12, True),
        (MIB, MIB + 1, 10**12, False),
        (10**7 - 1, 10**7, 10**9, True),
        (10**7, 10**7 + 1, 10**9, False),
        (10**9 - 1, 10**9, 10**9, True),
        (5, 4, 10, False),
    ],
)
def test_marks_are_the_first_byte_one_mib_percents_and_the_last(
    before: int, now: int, total: int, passed: bool
) -> None:
    """A mark lies between two counts of bytes, or none."""
    assert passed == passes_mark(before, now, total)


counts = st.integers(0, 10**13)


@given(
    st.builds(
        Timeline,
        st.integers(1, 10**13),
        st.lists(st.tuples(counts, counts)).map(tuple),
        st.lists(counts).map(tuple),
        st.lists(st.tuples(counts, counts)).map(tuple),
        counts,
    )
)
def test_a_timeline_can_be_written_down_and_read_again(timeline: Timeline) -> None:
    """Records are JSON; nothing is lost in it."""
    assert timeline == Timeline.from_json(json.loads(json.dumps(timeline.to_json(), allow_nan=False)))


def test_numbers_are_kept_like_the_tuples_they_came_from() -> None:
    """Marks and counts are kept packed, and read like the tuples that were given: equal, hashable, cut into pieces."""
    timeline = Timeline(100, [(1, 10), (50, 20), (100, 40)], [7, 8, 9], [(10, 30)], 40)

    assert ((1, 10), (50, 20), (100, 40)) == timeline.marks
    assert (((50, 20), (100, 40)), (100, 40)) == (timeline.marks[1:], timeline.marks[-1])
    assert ((7, 8, 9), (8, 9), 7) == (timeline.received, timeline.received[1:], timeline.received[0])
    assert hash(timeline) == hash(Timeline(100, ((1, 10), (50, 20), (100, 40)), (7, 8, 9), ((10, 30),), 40))
    assert "marks=((1, 10), (50, 20), (100, 40))" in repr(timeline)


# --- thin ---

steps_ns = st.sampled_from([0, 1, 10**6, 3 * 10**8, 5 * 10**8, 5 * 10**8 + 1, NS - 1, NS, NS + 1, 25 * 10**8])
bytes_more = st.sampled_from([0, 0, 1, 2, 10**5, MIB, 5 * 10**7])


@st.composite
def transfers(draw: st.DrawFn) -> tuple[int, list[Sample]]:
    """A file's size, and samples of its transfer that go back neither in time nor in bytes."""
    total = draw(st.sampled_from([1, 3, 100, MIB, MIB + 1, 10**8]) | st.integers(1, 2 * 10**8))
    steps = draw(st.lists(st.tuples(steps_ns | st.integers(0, 3 * NS), bytes_more, bytes_more), max_size=30))
    times = accumulate(step for step, _, _ in steps)
    received = accumulate(more for _, more, _ in steps)
    held = accumulate(more for _, _, more in steps)
    return total, [Sample(t, r, min(h, r, total)) for t, r, h in zip(times, received, held, strict=True)]


def moved(samples: Iterable[Sample], by_ns: int) -> Iterator[Sample]:
    """The same samples on a clock that shows ``by_ns`` more."""
    return (Sample(sample.t_ns + by_ns, sample.received, sample.held) for sample in samples)


def told(timeline: Timeline) -> tuple[object, ...]:
    """All that a timeline tells but its end."""
    return timeline.marks, timeline.received, timeline.gaps


starts = st.sampled_from([0, 1, NS // 2, NS, 10**15 + 123_456_789]) | st.integers(0, 10**18)


@settings(max_examples=400)
@given(transfers(), starts)
def test_a_thinned_transfer_that_ends_has_the_same_timeline(transfer: tuple[int, list[Sample]], start_ns: int) -> None:
    """Marks, received bytes and gaps are the same from the few samples as from all, wherever the clock began."""
    total, samples = transfer
    last = samples[-1] if samples else Sample(0, 0, 0)
    samples.append(Sample(last.t_ns + 1, max(last.received, total) + 1, total))
    few = moved(thin(moved(samples, start_ns), total, start_ns), -start_ns)

    assert told(watched(total, samples)) == told(watched(total, few))


@settings(max_examples=400)
@given(transfers(), starts, st.sampled_from([0, 1, NS // 2, NS, NS + 1]))
def test_a_thinned_transfer_that_is_given_up_has_the_same_timeline(
    transfer: tuple[int, list[Sample]], start_ns: int, later_ns: int
) -> None:
    """So it is where the transfer did not end but was given up, then or later."""
    total, samples = transfer
    end_ns = (samples[-1].t_ns if samples else 0) + later_ns
    few = moved(thin(moved(samples, start_ns), total, start_ns), -start_ns)

    assert watched(total, samples, end_ns) == watched(total, few, end_ns)


@pytest.mark.parametrize(
    "samples",
    [
        [at(2.5, 1), at(3, 2), at(3.3, 3), at(3.6, 4), at(4, 10**9)],
        [at(0.5, 1, 0), at(1, 1, 0), at(1, 2, 0), at(1.5, 3, 0), at(1.5 + 1e-9, 10**9)],
        [at(0.5, 1), at(0.9, 2), at(1.3, 3), at(1.7, 4), at(1.99, 5), at(2.4, 6), at(2.8, 7), at(3.2, 10**9)],
    ],
    ids=["told again after a second", "a mark after a turn", "many turns"],
)
def test_thinning_makes_no_stall_of_steady_bytes(samples: list[Sample]) -> None:
    """Bytes that came at least each 0.5 s have no pause over a second in the few samples either."""
    assert () == watched(10**9, samples).gaps
    assert () == watched(10**9, thin(samples, 10**9)).gaps


@given(transfers())
def test_thinning_twice_is_thinning_once(transfer: tuple[int, list[Sample]]) -> None:
    """What is left is what matters: samples are from the transfer, in order, and make the same timeline again."""
    total, samples = transfer
    few = list(thin(samples, total))
    end_ns = samples[-1].t_ns if samples else 0

    remaining = iter(samples)
    assert all(sample in remaining for sample in few)
    assert watched(total, few, end_ns) == watched(total, thin(few, total), end_ns)


def test_a_mark_is_given_at_once() -> None:
    """A reader hears of a mark when it is passed, and not at the next sample."""
    taken: list[Sample] = []

    def samples() -> Iterator[Sample]:
        for sample in (at(0.1, 1), at(0.2, 2), at(0.3, 200), at(0.4, 201)):
            taken.append(sample)
            yield sample

    few = thin(samples(), 10**4)
    assert at(0.1, 1) == next(few)
    assert [at(0.1, 1)] == taken
    assert at(0.3, 200) == next(few)
    assert 3 == len(taken)


def test_a_transfer_that_hangs_is_told_of_each_second() -> None:
    """A reader knows that it is still watched though nothing came."""
    few = list(thin([at(0.1, 1), *(at(0.1 * step, 1) for step in range(2, 51))], 100))

    assert [0.1, 1.1, 2.1, 3.1, 4.1] == [sample.t_ns / NS for sample in few]
