"""Disturbances as a matrix has them: cells, ids, draws, order, cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_codexbench.disturbances import DISTURBANCES, UNDISTURBED, named
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import BUILT_IN, Block, Cell, Matrix, Shape, preset
from pytest_codexbench.matrixfile import read_matrix
from pytest_codexbench.plan import cost, draw, visits
from pytest_codexbench.records import cell_from_json, cell_to_json
from pytest_codexbench.systems import needs_of

MB = 10**6
HTTP, BITTORRENT = BUILT_IN["http"], BUILT_IN["bittorrent"]


def cell(disturbance: str, seeders: int = 1) -> Cell:
    """A cell of reliability."""
    return Cell(Shape(HTTP, 4, 10**8), seeders, 25 * MB, "reliability", disturbance)


def matrix(*disturbances: str, pairs: tuple[tuple[int, int], ...] = ((4, 1),), rounds: int = 6) -> Matrix:
    """A matrix of these disturbances."""
    variants = (HTTP, BITTORRENT)
    return Matrix(
        "m", pairs, (MB,), variants, rounds=rounds, experiments=("reliability",), disturbances=tuple(disturbances)
    )


def read(tmp_path: Path, text: str) -> Matrix:
    """The matrix in a file with this text."""
    path = tmp_path / "mine.toml"
    path.write_text(f'shapes = [[4, 1], [4, 2]]\nsizes = ["1MB"]\n{text}\n')
    return read_matrix(path, (HTTP,))[0]


def test_an_id_names_the_disturbance_last() -> None:
    """So that ``-k seeder-restarts`` selects it."""
    assert "http-n04-s01-25MB-at100m-seeder-restarts" == str(cell("seeder-restarts"))


def test_keys_of_different_disturbances_differ() -> None:
    """A resumed run, and the experience of earlier ones, never take one for another."""
    cells = [Cell(Shape(HTTP, 4, 10**8), 1, 25 * MB), *map(cell, DISTURBANCES)]

    assert len(cells) == len({each.key for each in cells})


def test_the_key_of_an_undisturbed_download_is_what_it_was() -> None:
    """Journals from before there were disturbances are resumed and compared as before."""
    assert "8f8384b50b34" == Cell(Shape(HTTP, 4, None), 1, 25 * MB).key


def test_a_cell_comes_back_from_its_json() -> None:
    """With its disturbance; and one without has no such key, as in journals of before."""
    plain = Cell(Shape(HTTP, 4), 1, MB)

    assert cell("link-cut") == cell_from_json(cell_to_json(cell("link-cut")))
    assert "disturbance" not in cell_to_json(plain)
    assert plain == cell_from_json(cell_to_json(plain))


@pytest.mark.parametrize("kind, disturbance", [("download", "link-cut"), ("reliability", "")])
def test_reliability_alone_has_a_disturbance(kind: str, disturbance: str) -> None:
    """Anything else is refused at birth."""
    with pytest.raises(WrongInput, match="reliability alone has one"):
        Cell(Shape(HTTP, 4), 1, MB, kind, disturbance)


@pytest.mark.parametrize(
    "name, nodes, seeders, why",
    [
        ("seeder-restarts", 4, 2, "one seeder"),
        ("seeder-dies", 4, 1, "2 seeders or more"),
        ("late-leecher", 3, 2, "2 leechers or more"),
        ("seeder-restarts", 4, 1, None),
        ("seeder-dies", 4, 2, None),
    ],
)
def test_what_a_swarm_cannot_have_is_not_generated(name: str, nodes: int, seeders: int, why: str | None) -> None:
    """One of several seeders cannot die where there is one; the plan says so."""
    asked = matrix(name, "link-cut", pairs=((nodes, seeders),))

    generated = {block.disturbance for block in asked.blocks("reliability")}
    assert {UNDISTURBED, "link-cut", *([] if why else [name])} == generated
    assert ([] if why is None else [name]) == [text.split()[0] for text in asked.impossible()]
    assert why is None or why in asked.impossible()[0]


def test_a_matrix_without_any_possible_disturbance_is_an_error() -> None:
    """Before anything starts, with the reason."""
    with pytest.raises(WrongInput, match="no cell left: seeder-dies is not of 4 nodes with 1 seeders"):
        matrix("seeder-dies")


@pytest.mark.parametrize("name", ["smoke", "3x3", "full"])
def test_usual_presets_have_no_reliability(name: str) -> None:
    """They measure what they measured before."""
    kinds = {block.kind for block in preset(name, (HTTP,)).every_block()}

    assert {"download", "upload"} == kinds


def test_stress_has_every_disturbance_and_nothing_else() -> None:
    """Beside the undisturbed cells, on links that leave time for something to happen."""
    blocks = list(preset("stress", (HTTP,)).every_block())

    assert {"reliability"} == {block.kind for block in blocks}
    assert set(DISTURBANCES) == {block.disturbance for block in blocks}
    assert all(block.link for block in blocks)


def test_disturbances_of_a_matrix_file_come_beside_its_downloads(tmp_path: Path) -> None:
    """``experiments`` says which kinds are measured; else downloads and uploads, and what ``disturbances`` adds."""
    every = read(tmp_path, 'disturbances = ["late-leecher"]')
    only = read(tmp_path, 'disturbances = ["late-leecher"]\nexperiments = ["reliability"]')

    assert {"download", "upload", "reliability"} == {block.kind for block in every.every_block()}
    assert {"reliability"} == {block.kind for block in only.every_block()}


@pytest.mark.parametrize(
    "line, text",
    [
        ('disturbances = ["earthquake"]', "disturbances: 'earthquake' is not known; there are undisturbed"),
        ('disturbances = "link-cut"', "disturbances = 'link-cut'; a list is needed"),
        ("disturbances = []", "a list is needed"),
        ('experiments = ["soak"]', "experiments: 'soak' is not known; there are download"),
        ('experiments = ["reliability"]', "reliability needs disturbances"),
    ],
)
def test_wrong_disturbances_are_told(tmp_path: Path, line: str, text: str) -> None:
    """The file, the key, the value, and what would be right."""
    with pytest.raises(WrongInput, match=r"mine\.toml") as caught:
        read(tmp_path, line)

    assert text in str(caught.value)


def test_a_disturbed_round_has_the_draw_of_the_undisturbed_one() -> None:
    """The same seeders and leechers: only so are their times a pair. But no node is asked for the same bytes again."""
    calm, upset = (Block(4, 1, MB, None, (HTTP, BITTORRENT), "reliability", each) for each in (UNDISTURBED, "link-cut"))
    pairs = [(draw(calm, index, 7), draw(upset, index, 7)) for index in range(5)]

    assert [replace(one, seed=0) for one, _ in pairs] == [replace(other, seed=0) for _, other in pairs]
    assert 10 == len({each.seed for pair in pairs for each in pair})


def test_disturbed_rounds_run_in_turn_with_undisturbed_ones() -> None:
    """Every round has each of them once, next to each other, in an order that is drawn anew."""
    asked = matrix("link-cut", "packet-loss", "late-leecher", rounds=8)
    order = [(block.disturbance, index) for block, index in visits(asked.blocks("reliability"), 8, False, seed=3)]
    rounds = [order[4 * index : 4 * index + 4] for index in range(8)]

    assert [{(each, index) for each in (UNDISTURBED, *asked.disturbances)} for index in range(8)] == list(
        map(set, rounds)
    )
    assert len({tuple(name for name, _ in turn) for turn in rounds}) > 1
    assert order == [(b.disturbance, i) for b, i in visits(asked.blocks("reliability"), 8, False, seed=3)]


def test_what_a_disturbance_lasts_is_in_the_plan() -> None:
    """A seeder that is away for 8 s makes a round longer by as much, and by the cluster that replaces the killed."""
    needs = needs_of(cell(UNDISTURBED).shape)
    calm, upset = (cost(cell(name), needs).seconds for name in (UNDISTURBED, "seeder-restarts"))

    assert upset - calm > (named("seeder-restarts").down_s or 0)
