"""In which order the rounds run, with what draw, at what cost."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import BUILT_IN, Block, Cell, Matrix, Shape, Variant, preset
from pytest_codexbench.plan import (
    Cost,
    Draw,
    Needs,
    Plan,
    by_cluster,
    cost,
    deadline_s,
    draw,
    fluid_bound_s,
    parse_time,
    visits,
)

HTTP, CODEX, TORRENT = (BUILT_IN[name] for name in ("http", "codex", "bittorrent"))
THREE = (TORRENT, HTTP, CODEX)
MB = 10**6

blocks = st.builds(
    lambda shape, size, link, kind: Block(shape[0], shape[1], size, link, THREE, kind),
    st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))),
    st.integers(1, 10**10),
    st.none() | st.integers(10**5, 10**10),
    st.sampled_from(["download", "upload"]),
)
seeds = st.integers(0, 10**15)
few = st.lists(
    st.builds(
        lambda nodes, size, link: Block(nodes, 1, size, link, THREE),
        st.sampled_from([2, 4, 8]),
        st.sampled_from([1, 2]),
        st.sampled_from([None, 10**8, 10**9]),
    ),
    max_size=6,
    unique=True,
)
rounds = st.integers(-1, 50)


def block(nodes: int = 8, seeders: int = 2, size: int = 100 * MB, link: int | None = None) -> Block:
    """A block of three systems."""
    return Block(nodes, seeders, size, link, THREE)


# --- draws ---


def test_a_draw_is_the_same_on_every_machine() -> None:
    """The same seed draws the same plan elsewhere: this one was drawn on another machine."""
    drawn = draw(block(), 3, 1)

    assert Draw(3, 34242550260452, (3, 1), (0, 4, 7, 6, 5, 2), (HTTP, TORRENT, CODEX)) == drawn


@given(blocks, rounds, seeds)
def test_the_same_seed_draws_the_same(block: Block, index: int, seed: int) -> None:
    """A round can be repeated from the seed in its record."""
    assert draw(block, index, seed) == draw(block, index, seed)


@given(blocks, rounds, seeds)
def test_every_node_is_either_a_seeder_or_a_leecher(block: Block, index: int, seed: int) -> None:
    """Seeders are as many as the block says, leechers all others, nobody both; every variant has its turn once."""
    drawn = draw(block, index, seed)

    assert block.seeders == len(drawn.seeders)
    assert list(range(block.nodes)) == sorted(drawn.seeders + drawn.leechers)
    assert sorted(block.variants) == sorted(drawn.order)
    assert index == drawn.index


@given(blocks, rounds, seeds, st.sampled_from([(HTTP,), (CODEX, TORRENT), ()]))
def test_what_is_drawn_does_not_depend_on_who_takes_part(
    block: Block, index: int, seed: int, variants: tuple[Variant, ...]
) -> None:
    """Bytes, seeders and the order of leechers are the same in every system, now and with systems added later."""
    one, other = draw(block, index, seed), draw(replace(block, variants=variants), index, seed)

    assert replace(one, order=()) == replace(other, order=())


def test_another_seed_round_or_block_draws_otherwise() -> None:
    """Every round draws new bytes; places and orders vary."""
    draws = [draw(block(16, 4), index, seed) for index in range(10) for seed in range(10)]
    others = [draw(each, 0, 1) for each in (block(), block(16), block(8, 1), block(size=1), block(link=10**8))]

    assert 100 == len({each.seed for each in draws})
    assert 100 == len({(each.seeders, each.leechers) for each in draws})
    assert 6 == len({each.order for each in draws})
    assert 5 == len({each.seed for each in others})
    assert draw(block(2, 1), 0, 1).seed != draw(replace(block(2, 1), kind="upload"), 0, 1).seed


def test_every_node_gets_to_seed() -> None:
    """Over many rounds the seeders are drawn from all nodes alike: 1000 draws of 2 in 8 give each about 250."""
    turns = Counter(node for index in range(1000) for node in draw(block(), index, 1).seeders)

    assert set(range(8)) == set(turns)
    assert all(200 < turn < 300 for turn in turns.values())


# --- order ---


@given(few, st.integers(1, 5))
def test_with_a_budget_no_block_is_two_rounds_ahead(some: list[Block], count: int) -> None:
    """When the time is over, all blocks have the same number of rounds, or one more: k everywhere before k + 1."""
    done: Counter[Block] = Counter()
    for one, index in visits(some, count, budgeted=True):
        assert index == done[one]
        done[one] += 1
        assert max(done.values()) - min(done[each] for each in some) <= 1

    assert dict.fromkeys(some, count) == done


@given(few, st.integers(1, 5))
def test_without_a_budget_a_cluster_is_brought_up_once(some: list[Block], count: int) -> None:
    """All rounds of all blocks on one size of cluster and link come together."""
    order = list(visits(some, count, budgeted=False))
    clusters = [(one.nodes, one.link) for one, _ in order]
    changes = [here for before, here in zip([None, *clusters], clusters, strict=False) if before != here]

    assert {(one, index) for one in some for index in range(count)} == set(order)
    assert len(some) * count == len(order)
    assert len(set(changes)) == len(changes)


def test_rounds_of_a_block_run_in_order() -> None:
    """Without a budget a block is finished before the next begins, in small clusters first."""
    big, small, smaller = block(16), block(4), block(4, 1)

    assert [(small, 0), (small, 1), (smaller, 0), (smaller, 1), (big, 0), (big, 1)] == list(
        visits([big, small, smaller], 2, budgeted=False)
    )


def test_clusters_with_and_without_a_limit_can_be_in_one_plan() -> None:
    """Blocks with a limited link and without one are sorted, too."""
    groups = dict(by_cluster([block(4), block(4, link=10**8), block(2), block(4, 1)]))

    assert {(2, None), (4, None), (4, 10**8)} == set(groups)
    assert [block(4), block(4, 1)] == groups[4, None]


# --- the plan's hash ---


def plan(name: str = "mine", count: int = 6, seed: int = 1, backend: str = "local", some: Matrix | None = None) -> Plan:
    """A plan of the smoke matrix."""
    matrix = some or preset("smoke", (HTTP, CODEX))
    return Plan(name, tuple(matrix.blocks()), count, seed, backend)


def test_plans_that_measure_the_same_have_the_same_hash() -> None:
    """The name of the matrix and the order of blocks and of variants change no result; ids are part of a plan."""
    same = plan()
    renamed = preset("smoke", (HTTP, Variant("codex.mine", "codex")))

    assert "bcb08de43e4f" == same.hash
    assert same.hash == plan(name="other").hash
    assert same.hash == replace(same, blocks=same.blocks[::-1]).hash
    assert same.hash == plan(some=preset("smoke", (CODEX, HTTP))).hash
    assert same.hash != plan(some=renamed).hash
    assert same.hash != replace(same, deadline_s=5.0).hash


@pytest.mark.parametrize(
    "other",
    [
        plan(count=7),
        plan(seed=2),
        plan(backend="kubernetes"),
        plan(some=preset("smoke", (HTTP,))),
        plan(some=preset("smoke", (HTTP, TORRENT))),
        plan(some=preset("smoke", (HTTP, CODEX)).with_links((10**8,))),
        plan(some=preset("3x3", (HTTP, CODEX))),
    ],
)
def test_plans_that_measure_something_else_have_another_hash(other: Plan) -> None:
    """Rounds, seed, backend, systems, links, shapes and sizes matter."""
    assert plan().hash != other.hash


def test_a_plan_tells_its_cells() -> None:
    """Every cell of every block, in order."""
    assert list(preset("smoke", (HTTP, CODEX))) == list(plan().cells)


# --- cost ---


def cell(
    nodes: int, seeders: int, size: int, variant: Variant = CODEX, link: int | None = None, kind: str = "download"
) -> Cell:
    """A cell; only what a test is about needs to be given."""
    return Cell(Shape(variant, nodes, link), seeders, size, kind)


@pytest.mark.parametrize(
    "it, up, down, bound_s",
    [
        # one seeder's uplink: 100 MB at 10 MB/s; all sending: 300 MB at 40 MB/s is less
        (cell(4, 1, 100 * MB), 10e6, 10e6, 10.0),
        # two seeders halve it, but the downlink of 10 MB/s remains
        (cell(4, 2, 100 * MB), 10e6, 10e6, 10.0),
        (cell(4, 2, 100 * MB), 10e6, 100e6, 5.0),
        # many leechers with slow uplinks: 7 x 100 MB over 8 x 1 MB/s is 87.5 s, the one seeder alone 100 s
        (cell(8, 1, 100 * MB), 1e6, 100e6, 100.0),
        (cell(8, 2, 100 * MB), 1e6, 100e6, 75.0),
        # origins alone send: 6 x 100 MB over 2 x 1 MB/s
        (cell(8, 2, 100 * MB, HTTP), 1e6, 100e6, 300.0),
        (cell(8, 2, 100 * MB, HTTP), 100e6, 1e6, 100.0),
        (cell(2, 1, 100 * MB, HTTP), 10e6, 10e6, 10.0),
        # what counts is the system, not what the variant is called
        (cell(8, 2, 100 * MB, Variant("http.mine", "http")), 1e6, 100e6, 300.0),
    ],
)
def test_the_least_possible_time_is_that_of_the_fluid_model(it: Cell, up: float, down: float, bound_s: float) -> None:
    """The slowest of the seeders' uplinks, one downlink, and all uplinks together; for http the seeders' alone."""
    assert pytest.approx(bound_s, rel=1e-12) == fluid_bound_s(it, up, down, it.shape.variant.system != "http")


NEEDS = Needs(seeder_copies=2, leecher_copies=1, memory=50 * MB, mb_per_s=100)


def test_a_round_costs_what_its_leechers_take() -> None:
    """3 leechers of 100 MB: 300 MB at 100 MB/s, 5 copies on disk, 4 nodes in memory; 0.2 s to make it, 1.5 s around."""
    assert Cost(300 * MB, 500 * MB, 200 * MB, 3 + 0.2 + 1.5) == cost(cell(4, 1, 100 * MB), NEEDS)


def test_a_measured_rate_is_better_than_an_assumed_one() -> None:
    """An earlier run's rate replaces the system's own figure."""
    assert pytest.approx(6 + 0.2 + 1.5) == cost(cell(4, 1, 100 * MB), NEEDS, mb_per_s=50).seconds


def test_a_link_sets_a_floor_under_the_time() -> None:
    """With 80 Mbit/s, 10 MB/s a node, 100 MB take at least 10 s; with a wide link the machine is the limit."""
    assert pytest.approx(10 + 0.2 + 1.5) == cost(cell(4, 1, 100 * MB, link=80 * MB), NEEDS).seconds
    assert pytest.approx(3 + 0.2 + 1.5) == cost(cell(4, 1, 100 * MB, link=10**10), NEEDS).seconds


def test_publishing_moves_the_file_once() -> None:
    """An upload costs one file over the wire, whatever the cluster."""
    assert 100 * MB == cost(cell(2, 1, 100 * MB, kind="upload"), NEEDS).moved


@given(st.integers(1, 10**13))
def test_a_deadline_leaves_a_minute_and_a_second_for_each_mb(size: int) -> None:
    """60 s + b at 1 MB/s, unless the user says otherwise."""
    assert 60 + size / 1e6 == deadline_s(size, None)
    assert 7.5 == deadline_s(size, 7.5)


# --- times in words ---


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("10min", 600),
        ("8h", 28800),
        ("8H", 28800),
        (" 1 d ", 86400),
        ("0.1", 0.1),
        ("366d", 366 * 86400),
    ],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    """Seconds, minutes, hours, days."""
    assert seconds == parse_time(text)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1s", "s", "1w", "1e3", "inf", "nan", "1h30m", "367d", "9" * 400, "5\u017f", "1,5h"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """A time is over 0 and at most a year; what was written is named."""
    with pytest.raises(WrongInput) as caught:
        parse_time(text)

    assert repr(text) in str(caught.value)


@given(st.text() | st.from_regex(r"\s*\d+(\.\d*)?\s*(s|m|min|h|d)?\s*", fullmatch=True))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """No text ends in another error."""
    try:
        seconds = parse_time(text)
    except WrongInput:
        return

    assert 0 < seconds <= 366 * 86400
