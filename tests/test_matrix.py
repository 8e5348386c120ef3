"""What is measured: presets, ids, keys, sizes and rates in words, and matrices written down in files."""

import datetime as dt
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import (
    BUILT_IN,
    MOST_RATE,
    MOST_SIZE,
    PRESETS,
    Cell,
    Matrix,
    Settings,
    Shape,
    Variant,
    parse_rate,
    parse_size,
    preset,
    rate_text,
    size_text,
    variant_named,
)
from pytest_codexbench.matrixfile import read_matrix
from pytest_codexbench.records import cell_to_json

CODEX, HTTP = BUILT_IN["codex"], BUILT_IN["http"]
GB = 10**9


def cell(
    nodes: int = 8,
    seeders: int = 2,
    size: int = GB,
    variant: Variant = CODEX,
    link: int | None = None,
    kind: str = "download",
) -> Cell:
    """A cell; only what a test is about needs to be given."""
    return Cell(Shape(variant, nodes, link), seeders, size, kind)


# --- presets ---


def test_the_full_matrix_has_every_shape_that_leaves_a_leecher() -> None:
    """2, 8, 16 and 32 nodes with 1, 2, 4, 8 and 16 seeders among them are 13 shapes, and 39 cells a system."""
    full = preset("full", (CODEX, HTTP))

    shapes = {2: [1], 8: [1, 2, 4], 16: [1, 2, 4, 8], 32: [1, 2, 4, 8, 16]}
    assert [(n, s) for n, seeders in shapes.items() for s in seeders] == list(full.pairs)
    assert 13 == len(full.pairs)
    assert (10**8, 10**9, 5 * 10**9) == full.sizes
    assert 6 == full.rounds
    assert 39 == sum(each.system == "codex" for each in full)
    assert 78 == len(set(full))


def test_the_small_matrices_are_what_they_are_listed_as() -> None:
    """`smoke` is 2 x 2 cells with 2 rounds, `3x3` 3 x 3 with 6."""
    smoke, nine = preset("smoke", (HTTP,)), preset("3x3", (HTTP,))

    assert ["http-n02-s01-10MB", "http-n02-s01-50MB", "http-n04-s02-10MB", "http-n04-s02-50MB"] == list(map(str, smoke))
    assert 2 == smoke.rounds
    assert ((2, 1), (4, 1), (8, 2)) == nine.pairs
    assert (25 * 10**6, 10**8, 250 * 10**6) == nine.sizes
    assert 6 == nine.rounds
    assert 9 == len(list(nine))


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    """Who mistypes a preset is told what there is."""
    with pytest.raises(WrongInput) as caught:
        preset("fool", (HTTP,))

    assert all(word in str(caught.value) for word in ("--matrix=fool", ".toml", *PRESETS))


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_has_sizes_that_a_substring_confuses(name: str) -> None:
    """In the presets, `-k` takes one size at a time."""
    assert [] == preset(name, (HTTP,)).ambiguous_sizes()


def test_sizes_that_a_substring_confuses_are_found() -> None:
    """`-k 5GB` also takes 25GB, and the plan has to warn of it; `-k 25GB` takes no 5GB."""
    sizes = (5 * GB, 25 * GB, 10**8, 50 * 10**6, 5 * GB)
    matrix = Matrix("mine", ((2, 1),), sizes, (HTTP,))

    assert [("5GB", "25GB")] == matrix.ambiguous_sizes()


# --- ids ---


@pytest.mark.parametrize(
    "it, said",
    [
        (cell(8, 2, GB, BUILT_IN["bittorrent"]), "bittorrent-n08-s02-1GB"),
        (cell(32, 16, 5 * GB), "codex-n32-s16-5GB"),
        (cell(2, 1, 64 << 20), "codex-n02-s01-64MiB"),
        (cell(100, 10, 10**8), "codex-n100-s10-100MB"),
        (cell(8, 2, GB, Variant("codex.new", "codex")), "codex.new-n08-s02-1GB"),
        (cell(8, 2, GB, link=10**8), "codex-n08-s02-1GB-at100m"),
        (cell(2, 1, 10**8, kind="upload"), "codex-100MB"),
        (cell(2, 1, 10**8, link=10**9, kind="upload"), "codex-100MB-at1g"),
    ],
)
def test_an_id_says_the_cell_with_padded_numbers(it: Cell, said: str) -> None:
    """Test ids are variant, nodes, seeders, size, link; a publish has the variant and the size."""
    assert said == str(it)


def test_every_shape_and_size_of_the_full_matrix_can_be_selected_by_substrings() -> None:
    """`-k "codex and n08 and s01 and 1GB"` takes one cell: no number is the beginning or the end of another's."""
    full = list(preset("full", (CODEX, BUILT_IN["bittorrent"])).with_links((10**8,)))

    for one in full:
        words = (one.system, f"n{one.shape.nodes:02d}", f"s{one.seeders:02d}", size_text(one.size))
        assert [one] == [other for other in full if all(word.lower() in str(other).lower() for word in words)]


def test_ids_of_a_matrix_are_all_different() -> None:
    """Two cells never have the same id: pytest would rename them."""
    matrix = preset("full", (CODEX, HTTP)).with_links((None, 10**7, 10**8))
    ids = list(map(str, matrix))

    assert 2 * 39 * 3 == len(ids) == len(set(ids))


def test_blocks_and_shapes_are_named_like_their_cells() -> None:
    """A block is the id without the variant, a shape the id without seeders and size."""
    download, upload = (
        next(preset("full", (CODEX,)).with_links((10**8,)).blocks(kind)) for kind in ("download", "upload")
    )

    assert "n02-s01-100MB-at100m" == str(download)
    assert "upload-100MB-at100m" == str(upload)
    assert "codex-n02-at100m" == str(download.cells[0].shape)


# --- cells ---


def test_a_key_is_the_same_on_every_machine() -> None:
    """Results of two machines are matched by key: this one was made elsewhere."""
    assert "ed7d6539d183" == cell().key
    assert "c3a461b35870" == cell(variant=BUILT_IN["bittorrent"], link=10**8).key


@pytest.mark.parametrize(
    "other",
    [
        cell(nodes=16),
        cell(seeders=1),
        cell(size=GB + 1),
        cell(link=10**8),
        cell(variant=HTTP),
        cell(variant=Variant("codex", "codex", (("bin", "/opt/new"),))),
    ],
    ids=str,
)
def test_a_key_depends_on_all_that_can_change_the_result(other: Cell) -> None:
    """Another shape, size, link, system or setting is another cell."""
    assert cell().key != other.key


def test_a_key_tells_settings_and_experiments_apart() -> None:
    """The same setting with another value, or another experiment, has another key."""

    def with_settings(*items: tuple[str, str | int | float | bool]) -> str:
        return cell(2, 1, variant=Variant("codex", "codex", items)).key

    keys = [with_settings(("a", 1)), with_settings(("a", 2)), with_settings(("a", "1")), with_settings(("b", 1))]
    assert 4 == len(set(keys))
    assert cell(2, 1).key != cell(2, 1, kind="upload").key


def test_a_key_does_not_depend_on_what_a_variant_is_called() -> None:
    """Two names for the same system with the same settings measure the same."""
    settings_: Settings = (("profile", "tuned"),)
    one, other = Variant("bittorrent", "bittorrent", settings_), Variant("bittorrent.mine", "bittorrent", settings_)

    assert cell(variant=one).key == cell(variant=other).key
    assert cell(variant=one) != cell(variant=other)


@pytest.mark.parametrize(
    "nodes, seeders, size, told",
    [
        (8, 8, GB, "8 seeders"),
        (8, 9, GB, "9 seeders"),
        (8, 0, GB, "0 seeders"),
        (8, -1, GB, "-1 seeders"),
        (1, 1, GB, "1 nodes"),
        (1001, 1, GB, "1001 nodes"),
        (8, 1, 0, "0 bytes"),
        (8, 1, MOST_SIZE + 1, f"{MOST_SIZE + 1} bytes"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(nodes: int, seeders: int, size: int, told: str) -> None:
    """No seeder, no leecher, a lonely node, an empty or an endless file: the figure is named."""
    with pytest.raises(WrongInput, match=told):
        cell(nodes, seeders, size)


@pytest.mark.parametrize(
    "name", ["", "Codex", "codex.", ".new", "codex.a.b", "codex new", "8x", "codex-new", "codex\n"]
)
def test_a_variant_has_a_name_that_fits_into_an_id(name: str) -> None:
    """A variant's name is a word, or two with a dot between: it stands in ids, paths and `-k`."""
    with pytest.raises(WrongInput, match="lower case"):
        Variant(name, "codex")


def test_a_variant_that_nobody_defined_is_refused_with_those_that_are() -> None:
    """A bare word may be a system of somebody's plugin; a variant must be defined."""
    assert Variant("torus", "torus") == variant_named("torus", BUILT_IN)
    with pytest.raises(WrongInput, match=r"'codex\.new'.*bittorrent\.stock"):
        variant_named("codex.new", BUILT_IN)


def test_the_built_in_bittorrent_is_the_tuned_one() -> None:
    """`bittorrent` and `bittorrent.tuned` are one measurement with two names; `stock` and `streaming` are others."""
    tuned, stock, streaming = (BUILT_IN[f"bittorrent.{name}"] for name in ("tuned", "stock", "streaming"))

    assert cell(variant=tuned).key == cell(variant=BUILT_IN["bittorrent"]).key
    assert 3 == len({cell(variant=each).key for each in (tuned, stock, streaming)})
    assert "stock" == stock.setting("profile")
    assert "none" == stock.setting("absent", "none")


# --- blocks ---


def test_a_block_holds_what_is_compared() -> None:
    """The cells of a block are alike but for the variant, and small clusters come first."""
    matrix = Matrix("mine", ((8, 2), (2, 1)), (GB, 10**8), (HTTP, CODEX), (10**8,))
    blocks = list(matrix.blocks())

    assert ["n02-s01-100MB", "n02-s01-1GB", "n08-s02-100MB", "n08-s02-1GB"] == [
        str(b).removesuffix("-at100m") for b in blocks
    ]
    assert ["http-n02-s01-100MB-at100m", "codex-n02-s01-100MB-at100m"] == list(map(str, blocks[0].cells))
    assert [each for block in blocks for each in block.cells] == list(matrix)


def test_publishing_is_measured_once_a_size_and_link() -> None:
    """An upload needs no more than two nodes, whatever the shapes of the matrix."""
    matrix = preset("full", (HTTP,)).with_links((None, 10**8))
    blocks = list(matrix.blocks("upload"))

    assert 3 * 2 == len(blocks)
    assert {(2, 1)} == {(block.nodes, block.seeders) for block in blocks}
    assert ["http-100MB", "http-1GB", "http-5GB"] == [str(block.cells[0]) for block in blocks[:3]]


def test_a_block_can_do_without_some_of_its_variants() -> None:
    """What was deselected leaves the block, the rest stays in order."""
    block = next(Matrix("mine", ((2, 1),), (GB,), (HTTP, CODEX, BUILT_IN["ipfs"])).blocks())
    kept = block.only({block.cell(BUILT_IN["ipfs"]), block.cell(HTTP), cell(32, 1)})

    assert (HTTP, BUILT_IN["ipfs"]) == kept.variants
    assert replace(block, variants=()) == replace(kept, variants=())


@pytest.mark.parametrize("axis", ["pairs", "sizes", "variants", "links"])
def test_a_matrix_without_a_cell_is_refused(axis: str) -> None:
    """An empty axis leaves nothing to measure."""
    axes: dict[str, tuple[object, ...]] = {"pairs": ((2, 1),), "sizes": (1,), "variants": (HTTP,), "links": (None,)}
    axes[axis] = ()

    with pytest.raises(WrongInput, match="'mine' has no cell left"):
        Matrix("mine", **axes)  # type: ignore[arg-type]  # one of them is empty, which is the point


def test_a_matrix_is_measured_at_least_once() -> None:
    """No round says nothing."""
    with pytest.raises(WrongInput, match="rounds = 0"):
        preset("smoke", (HTTP,)).with_rounds(0)


# --- sizes and rates in words ---


@pytest.mark.parametrize(
    "text, size",
    [
        ("1B", 1),
        ("100MB", 10**8),
        ("100mb", 10**8),
        (" 100 MB ", 10**8),
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("64MiB", 2**26),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1.5GB", 1_500_000_000),
        ("0.001kB", 1),
        ("10TB", 10**13),
    ],
)
def test_a_size_is_decimal_unless_it_says_otherwise(text: str, size: int) -> None:
    """MB are 10^6 bytes, MiB 2^20; case and blanks do not matter."""
    assert size == parse_size(text)


@pytest.mark.parametrize(
    "text",
    ["", "MB", "100", "100 M", "-1MB", "0B", "0MB", "1.5B", "0.5B", "11TB", "10.1TB", "1e3MB", "1,5GB", "1PB", "nanMB"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """A size is a whole, positive number of bytes with its unit; what was written is named."""
    with pytest.raises(WrongInput) as caught:
        parse_size(text)

    assert repr(text) in str(caught.value)


def test_a_letter_that_looks_like_another_does_not_change_a_size() -> None:
    """A dotless i is no i: such a unit is refused, and not taken for MB."""
    with pytest.raises(WrongInput):
        parse_size("1M\u0131B")


@given(st.integers(1, MOST_SIZE) | st.integers(1, 10**4).flatmap(lambda n: st.sampled_from([n * 10**6, n << 20])))
def test_every_size_can_be_written_and_read_again(size: int) -> None:
    """What stands in an id is exact: no two sizes have the same text."""
    assert size == parse_size(size_text(size))


@pytest.mark.parametrize(
    "size, text",
    [(10**8, "100MB"), (10**9, "1GB"), (2**30, "1GiB"), (1500 * 10**6, "1500MB"), (1_500_001, "1500001B"), (10, "10B")],
)
def test_a_size_is_written_in_its_largest_whole_unit(size: int, text: str) -> None:
    """Ids are short."""
    assert text == size_text(size)


@settings(max_examples=60)
@given(st.text() | st.from_regex(r"\s*\d+(\.\d*)?\s*[kKmMgGtTbBi]{0,3}\s*", fullmatch=True))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    """No text is read as another size than one between 1 B and 10 TB, and none ends in another error."""
    try:
        size = parse_size(text)
    except WrongInput:
        return

    assert 1 <= size <= MOST_SIZE


@pytest.mark.parametrize(
    "text, rate",
    [
        ("100mbit", 10**8),
        ("100Mbit/s", 10**8),
        (" 1 gbit ", 10**9),
        ("1.5gbit", 1_500_000_000),
        ("100kbitps", 10**5),
        ("100gbit", 10**11),
        ("99kbit", None),
        ("101gbit", None),
        ("100kbps", None),
        ("-1mbit", None),
        ("100MB", None),
        ("100mb", None),
        ("100", None),
        ("", None),
    ],
)
def test_a_rate_is_bits_a_second_with_a_unit(text: str, rate: int | None) -> None:
    """Rates go from 100 kbit to 100 Gbit a second; all else is refused, and named."""
    if rate is not None:
        assert rate == parse_rate(text)
        return
    with pytest.raises(WrongInput) as caught:
        parse_rate(text)

    assert repr(text) in str(caught.value)


@given(st.integers(10**5, MOST_RATE) | st.integers(1, 10**5).map(lambda n: n * 10**6))
def test_every_rate_can_be_written_and_read_again(rate: int) -> None:
    """What stands in an id is exact: no two links have the same text."""
    assert rate == parse_rate(rate_text(rate))


def test_rates_are_written_short_and_no_limit_not_at_all() -> None:
    """Without a limit an id says nothing of a link."""
    assert ["", "100mbit", "1gbit", "1500kbit"] == [rate_text(rate) for rate in (None, 10**8, 10**9, 1_500_000)]


@settings(max_examples=60)
@given(st.text() | st.from_regex(r"\s*\d+(\.\d*)?\s*[kKmMgG]?bit(/s|ps)?\s*", fullmatch=True))
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    """No text is read as a rate out of bounds, and none ends in another error."""
    try:
        rate = parse_rate(text)
    except WrongInput:
        return

    assert 10**5 <= rate <= MOST_RATE


# --- files ---


def test_a_file_defines_its_own_axes_and_variants(tmp_path: Path) -> None:
    """Shapes, sizes, links, rounds and variants come from the file, in its order; a size named twice counts once."""
    path = tmp_path / "mine.toml"
    path.write_text("""
        name = "two builds"
        shapes = [[8, 2], [2, 1]]
        sizes = ["1GB", "64MiB", "1000MB"]
        links = ["100mbit", "1gbit"]
        rounds = 3
        [systems."codex.new"]
        system = "codex"
        bin = "/opt/codex-new/codex"
        [systems."bittorrent.streaming"]
        peers = 7
    """)
    matrix, known = read_matrix(path, (HTTP,))

    new = Variant("codex.new", "codex", (("bin", "/opt/codex-new/codex"),))
    streaming = Variant("bittorrent.streaming", "bittorrent", (("peers", 7), ("profile", "streaming")))
    assert Matrix("two builds", ((8, 2), (2, 1)), (GB, 2**26), (new, streaming), (10**8, GB), 3) == matrix
    assert 0 == matrix.dropped
    assert {**BUILT_IN, "codex.new": new, "bittorrent.streaming": streaming} == known


def test_a_file_may_leave_most_things_out(tmp_path: Path) -> None:
    """Name, links, rounds and systems have defaults: the file's own name, no limit, 6, the usual systems."""
    path = tmp_path / "plain.toml"
    path.write_text('shapes = [[2, 1]]\nsizes = ["1MB"]')
    matrix, known = read_matrix(path, (HTTP, CODEX))

    assert Matrix("plain", ((2, 1),), (10**6,), (HTTP, CODEX), (None,), 6) == matrix
    assert known == BUILT_IN


def test_pairs_without_a_leecher_are_dropped_and_counted(tmp_path: Path) -> None:
    """Nodes and seeders are crossed; a pair with as many seeders as nodes is no swarm."""
    path = tmp_path / "mine.toml"
    path.write_text('nodes = [2, 4]\nseeders = [1, 2, 4]\nsizes = ["1MB"]')
    matrix, _ = read_matrix(path, (HTTP,))

    assert ((2, 1), (4, 1), (4, 2)) == matrix.pairs
    assert 3 == matrix.dropped


def test_the_order_of_settings_in_a_file_means_nothing(tmp_path: Path) -> None:
    """Two files that say the same have the same cells."""
    tables = ['a = 1\nb = true\nsystem = "codex"', 'system = "codex"\nb = true\na = 1']
    keys = []
    for number, table in enumerate(tables):
        path = tmp_path / f"{number}.toml"
        path.write_text(f'shapes = [[2, 1]]\nsizes = ["1MB"]\n[systems."codex.x"]\n{table}')
        keys.append([each.key for each in read_matrix(path, ())[0]])

    assert keys[0] == keys[1]


RIGHT = {"shapes": "[[2, 1]]", "sizes": '["1MB"]'}


def text_of(given: Mapping[str, str | None]) -> str:
    """A matrix file that is right but for what is given; None leaves a key out."""
    lines = (f"{key} = {value}" for key, value in {**RIGHT, **given}.items() if value is not None)
    return "\n".join(lines)


@pytest.mark.parametrize(
    "given, told",
    [
        ({"sizes": None}, ["sizes", "None", "100MB"]),
        ({"sizes": "[]"}, ["sizes", "[]", "100MB"]),
        ({"sizes": '"1MB"'}, ["sizes", "'1MB'", "100MB"]),
        ({"sizes": "[100]"}, ["sizes", "[100]", "100MB"]),
        ({"sizes": '["1MB", "big"]'}, ["sizes", "'big'", "100MB"]),
        ({"sizes": '["0MB"]'}, ["sizes", "'0MB'", "1 B"]),
        ({"links": "[]"}, ["links", "[]", "100mbit"]),
        ({"links": '"100mbit"'}, ["links", "'100mbit'", '["10mbit"']),
        ({"links": '["100MB"]'}, ["links", "'100MB'", "100mbit"]),
        ({"links": '["1kbit"]'}, ["links", "'1kbit'", "100kbit"]),
        ({"rounds": "0"}, ["rounds", "0", "whole number"]),
        ({"rounds": "1.5"}, ["rounds", "1.5", "whole number"]),
        ({"rounds": "true"}, ["rounds", "True", "whole number"]),
        ({"rounds": '"6"'}, ["rounds", "'6'", "whole number"]),
        ({"name": "3"}, ["name", "3", "a word"]),
        ({"name": '" "'}, ["name", "' '", "a word"]),
        ({"shapes": "[]"}, ["no cell left"]),
        ({"shapes": "[[2, 2]]"}, ["no cell left"]),
        ({"shapes": "[2, 1]"}, ["shapes", "[2, 1]", "[[2, 1], [8, 2]]"]),
        ({"shapes": "[[2, 1, 1]]"}, ["shapes", "[[2, 1, 1]]", "[[2, 1], [8, 2]]"]),
        ({"shapes": '[["2", 1]]'}, ["shapes", "'2'", "whole number"]),
        ({"shapes": "[[2, 0]]"}, ["shapes", "0", "whole number"]),
        ({"shapes": "[[2, -1]]"}, ["shapes", "-1", "whole number"]),
        ({"shapes": "[[1001, 1]]"}, ["1001", "1000"]),
        ({"shapes": None}, ["nodes", "None", "[2, 8]"]),
        ({"shapes": None, "nodes": "[2]"}, ["seeders", "None", "[2, 8]"]),
        ({"shapes": None, "nodes": "[2]", "seeders": "[]"}, ["seeders", "[]", "[2, 8]"]),
        ({"shapes": None, "nodes": "2", "seeders": "[1]"}, ["nodes", "2", "[2, 8]"]),
        ({"shapes": None, "nodes": "[2.0]", "seeders": "[1]"}, ["nodes", "2.0", "whole number"]),
        ({"shapes": None, "nodes": "[2]", "seeders": "[false]"}, ["seeders", "False", "whole number"]),
        ({"nodes": "[2]"}, ["shapes", "nodes", "not both"]),
        ({"seeder": "[2]"}, ["'seeder'", "seeders"]),
        ({"systems": "3"}, ["systems", "3", "table"]),
        ({"systems": '["codex"]'}, ["systems", "['codex']", "table"]),
        ({"systems.codex": "3"}, ["systems.codex", "3", "settings"]),
        ({"systems.Codex": "{}"}, ["'Codex'", "lower case"]),
        ({'systems."codex\\n"': "{}"}, ["'codex\\n'", "lower case"]),
        ({"systems.codex.system": "3"}, ["systems.codex.system", "3", "name of a system"]),
        ({"systems.codex.bin": "[1]"}, ["systems.codex.bin", "[1]", "a number"]),
        ({"systems.codex.bin": "2026-01-01"}, ["systems.codex.bin", "date", "a number"]),
        ({"systems.codex.limit": "nan"}, ["systems.codex.limit", "nan", "a number"]),
        ({"systems.codex.limit": "-inf"}, ["systems.codex.limit", "-inf", "a number"]),
        ({"sizes": "["}, []),
        ({"rounds": "6\nrounds = 7"}, []),
        ({"rounds": "9" * 5000}, ["digits"]),
        ({"sizes": "[" * 10_000}, []),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_wrong_file_is_refused_with_file_key_and_value(
    tmp_path: Path, given: dict[str, str | None], told: list[str]
) -> None:
    """Whatever is wrong with a matrix file is said before anything starts: where, what, and what would be right."""
    path = tmp_path / "mine.toml"
    path.write_text(text_of(given))
    with pytest.raises(WrongInput) as caught:
        read_matrix(path, (HTTP,))

    message = str(caught.value)
    assert message.startswith(f"matrix file {path}: ")
    assert [] == [word for word in told if word not in message], message


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """No file, a folder, bytes that are no text: each is named."""
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    (tmp_path / "folder.toml").mkdir()

    for name in ("absent.toml", "latin.toml", "folder.toml", "x" * 300 + ".toml", "no\0thing.toml"):
        with pytest.raises(WrongInput) as caught:
            read_matrix(tmp_path / name, (HTTP,))
        assert str(caught.value).startswith(f"matrix file {tmp_path / name}: ")


def toml(value: object) -> str:
    """A value as it is written in TOML."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return "nan" if math.isnan(value) else repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"
        case dt.date():
            return value.isoformat()
    return str(value)


words = st.text(max_size=6) | st.sampled_from(
    ["codex", "bittorrent.stock", "my.own", "system", "profile", "1MB", "100mbit", "1B"]
)
scalars = (
    words
    | st.integers(-2, 12)
    | st.sampled_from([1000, 1001, 10**6, 10**6 + 1, 2**63])
    | st.floats()
    | st.sampled_from([math.nan, -math.inf, 1.5])
    | st.booleans()
    | st.dates()
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
nodes = st.lists(st.integers(2, 1000), min_size=1, max_size=3)
VALID: dict[str, st.SearchStrategy[object]] = {
    "name": st.sampled_from(["mine", "3x3"]),
    "shapes": st.lists(st.tuples(st.integers(2, 1000), st.just(1)).map(list), min_size=1, max_size=3),
    "nodes": nodes,
    "seeders": st.just([1, 4]),
    "sizes": st.lists(st.sampled_from(["1MB", "1GiB", "1B"]), min_size=1, max_size=3),
    "links": st.lists(st.sampled_from(["100mbit", "1gbit"]), min_size=1, max_size=2),
    "rounds": st.integers(1, 5),
    "systems": st.dictionaries(
        st.sampled_from(["codex", "bittorrent.stock", "my.own"]),
        st.dictionaries(words, scalars, max_size=1),
        max_size=2,
    ),
}
ALMOST: dict[str, st.SearchStrategy[object]] = {
    "shapes": st.lists(st.lists(st.integers(1, 9) | scalars, min_size=2, max_size=2), max_size=3),
    "nodes": st.lists(st.integers(1, 9) | scalars, max_size=3),
    "sizes": st.lists(words, max_size=3),
    "links": st.lists(words, max_size=3),
    "systems": st.dictionaries(words, st.dictionaries(words, scalars, max_size=2), max_size=2),
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    """Matrix files: right ones, and ones where a key or two are almost right, or anything, or unknown."""
    axes = draw(st.sampled_from([["shapes", "sizes"], ["nodes", "seeders", "sizes"]]))
    more = draw(st.lists(st.sampled_from(["name", "links", "rounds", "systems"]), unique=True))
    document = {key: draw(VALID[key]) for key in (*axes, *more)}
    for key in draw(st.lists(st.sampled_from([*VALID, "seeder"]), max_size=2)):
        document[key] = draw(ALMOST.get(key, anything) | VALID.get(key, words) | anything)
    return document


@settings(max_examples=200, deadline=None)
@given(documents())
def test_any_file_is_a_whole_matrix_or_refused(document: dict[str, object]) -> None:
    """A file is either refused by name, or all its cells exist and can be written down."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.toml")
        path.write_text("\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items()), encoding="utf-8")
        try:
            matrix, known = read_matrix(path, (HTTP,))
        except WrongInput as error:
            refused = str(error)
            matrix = None
    if matrix is None:
        assert refused.startswith(f"matrix file {path}: ")
        return

    cells = list(matrix)
    assert cells
    assert all(one.shape.variant == known[one.system] for one in cells)
    for one in cells:
        json.dumps(cell_to_json(one), allow_nan=False)


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from([*RIGHT, "=", "[", "]", '"', "\n", "1", ",", "1MB", "."])).map("".join))
def test_any_text_in_a_file_is_a_matrix_or_refused(text: str) -> None:
    """Whatever is in the file, nothing but `WrongInput` comes of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.toml")
        path.write_text(text, encoding="utf-8")
        try:
            matrix, _ = read_matrix(path, (HTTP,))
        except WrongInput:
            return

    assert list(matrix)


def test_known_variants_of_a_matrix_are_paired_whatever_their_number() -> None:
    """Each order of the variants has the same cells."""
    orders = permutations((CODEX, HTTP, BUILT_IN["ipfs"]))

    assert 1 == len({frozenset(preset("smoke", order)) for order in orders})
