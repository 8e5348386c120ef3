"""What the user asked for: command line, then environment, then ini file, then default."""

import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import BUILT_IN, Variant
from pytest_codexbench.options import OPTIONS, Options, read_options, with_programs
from pytest_codexbench.plugin import _asked


def options(**given: str) -> Options:
    """The options if nothing but these is given; the smoke matrix, if none."""
    return read_options({"matrix": "smoke", **given}.get)


# --- where they come from ---


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option of whoever runs these tests."""
    for name in list(os.environ):
        if name.startswith("CODEXBENCH_"):
            monkeypatch.delenv(name)


def test_the_command_line_wins_then_the_environment_then_the_ini_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks later asks louder; what nobody asks for has its default."""
    pytester.makeini("[pytest]\ncodexbench_rounds = 3\ncodexbench_seed = 3\ncodexbench_link = 3mbit")
    monkeypatch.setenv("CODEXBENCH_ROUNDS", "4")
    monkeypatch.setenv("CODEXBENCH_SEED", "4")
    config = pytester.parseconfig("--matrix=smoke", "--cb-rounds=5")
    found = read_options(lambda name: _asked(config, name))

    assert 5 == found.matrix.rounds
    assert 4 == found.seed
    assert (3 * 10**6,) == found.matrix.links
    assert Path("results") == found.results


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_can_be_given_in_three_ways(
    option: object, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, in the environment, in an ini file, each by its own name."""
    name = str(getattr(option, "name", ""))
    flag = bool(getattr(option, "flag", False))
    argument = f"--{'' if name == 'matrix' else 'cb-'}{name}"
    key = f"codexbench_{name.replace('-', '_')}"
    value = "1" if flag else "x"
    config = pytester.parseconfig(argument if flag else f"{argument}=x")
    assert value == _asked(config, name)

    monkeypatch.setenv(key.upper(), value)
    assert value == _asked(pytester.parseconfig(), name)

    monkeypatch.delenv(key.upper())
    assert _asked(pytester.parseconfig(), name) is None

    pytester.makeini(f"[pytest]\n{key} = {value}")
    assert value == _asked(pytester.parseconfig(), name)


@pytest.mark.parametrize("registry", ["Upper", "a b", "host/", "http://host", "-"])
def test_a_registry_is_a_host(registry: str) -> None:
    """With a path or none; anything else is told before anything is installed."""
    asked = {"matrix": "smoke", "image-registry": registry}

    with pytest.raises(WrongInput, match=re.escape(f"--cb-image-registry={registry}: a host is needed")):
        read_options(asked.get)


def test_swarms_of_this_machine_are_not_kept() -> None:
    """They end with the run, whatever is asked for; those of Kubernetes can stay."""
    kept = {"matrix": "smoke", "keep-clusters": "1"}
    with pytest.raises(WrongInput, match="goes with --cb-backend=kubernetes"):
        read_options(kept.get)

    assert read_options((kept | {"backend": "kubernetes"}).get).keep_clusters


def test_the_way_to_a_cluster_is_part_of_the_command_that_repeats_a_run() -> None:
    """This machine is the usual place and needs no word."""
    asked = {"matrix": "smoke", "backend": "kubernetes", "agent-image": "me/agent:1"}
    given = [(name, value) for name, value in read_options(asked.get).where if value]

    assert [("--cb-backend", "kubernetes"), ("--cb-agent-image", "me/agent:1")] == given
    assert [] == read_options({"matrix": "smoke"}.get).where


def test_an_empty_value_is_none(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing, as some CI does, asks for nothing."""
    monkeypatch.setenv("CODEXBENCH_ROUNDS", "")
    monkeypatch.setenv("CODEXBENCH_BACKEND", "")
    found = read_options(lambda name: _asked(pytester.parseconfig("--matrix=smoke"), name))

    assert 2 == found.matrix.rounds
    assert "local" == found.backend


# --- what they mean ---


def test_without_more_a_matrix_is_measured_as_it_says() -> None:
    """The defaults: this machine, seed 1, results/, BitTorrent beside http, no limits."""
    found = options()

    assert ("bittorrent", "http") == tuple(variant.name for variant in found.matrix.variants)
    assert ("smoke", 2, (None,)) == (found.matrix_text, found.matrix.rounds, found.matrix.links)
    assert ("local", 1, Path("results"), None) == (found.backend, found.seed, found.results, found.data)
    assert (None, None, None) == (found.budget_s, found.deadline_s, found.resume)
    assert not found.plan


def test_options_say_what_is_measured_and_how(tmp_path: Path) -> None:
    """Every one has its effect, in its unit."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        found = options(
            systems=" http , bittorrent.stock,codex ",
            rounds="10",
            budget="8h",
            seed="0",
            results=str(tmp_path),
            data=folder,
            resume="latest",
            plan="true",
            deadline="90",
            link="100mbit",
        )

    assert ("http", "bittorrent.stock", "codex") == tuple(variant.name for variant in found.matrix.variants)
    assert (10, (10**8,)) == (found.matrix.rounds, found.matrix.links)
    assert (28800.0, 90.0) == (found.budget_s, found.deadline_s)
    assert (0, tmp_path, Path(folder), "latest") == (found.seed, found.results, found.data, found.resume)
    assert found.plan


@pytest.mark.parametrize("text", ["1", "true", "True", "YES"])
def test_a_flag_is_on(text: str) -> None:
    """In an ini file or the environment a flag has a value."""
    assert options(plan=text).plan


@pytest.mark.parametrize("text", ["0", "false", "No"])
def test_a_flag_is_off(text: str) -> None:
    """It can be switched off there, too."""
    assert not options(plan=text).plan


def test_a_matrix_file_is_read_with_its_variants(tmp_path: Path) -> None:
    """A file's variants can be chosen from by name; a link on the command line replaces the file's."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'shapes = [[2, 1]]\nsizes = ["1MB"]\nlinks = ["10mbit", "1gbit"]\n[systems."codex.new"]\nbin = "/new"\n'
    )
    new = Variant("codex.new", "codex", (("bin", "/new"),))

    assert (new,) == options(matrix=str(path)).matrix.variants
    assert (BUILT_IN["http"], new) == options(matrix=str(path), systems="http,codex.new").matrix.variants
    assert (10**7, 10**9) == options(matrix=str(path)).matrix.links
    assert (10**8,) == options(matrix=str(path), link="100mbit").matrix.links


def test_people_are_told_what_was_asked_for(tmp_path: Path) -> None:
    """Shapes, sizes, systems, rounds, seed, links, what was dropped: in the header of every run."""
    path = tmp_path / "mine.toml"
    path.write_text('nodes = [2, 4]\nseeders = [1, 2]\nsizes = ["1MB", "64MiB"]')
    lines = "\n".join(options(matrix=str(path), systems="http", link="100mbit", seed="7", budget="90s").lines())

    for word in ("mine.toml", "3 shapes", "1MB, 64MiB", "http", "1 pairs dropped", "rounds 6", "seed 7", "100mbit"):
        assert word in lines
    assert "budget 90 s" in lines
    assert "no limit" in "\n".join(options().lines())


# --- what is wrong ---


@pytest.mark.parametrize(
    "given, told",
    [
        ({"matrix": "huge"}, ["--matrix=huge", "smoke, 3x3, full"]),
        ({"matrix": ""}, ["--matrix=", "is empty"]),
        ({"systems": ""}, ["--cb-systems=", "is empty"]),
        ({"matrix": "absent.toml"}, ["absent.toml", "No such file"]),
        ({"matrix": "/"}, ["/", "directory"]),
        ({"systems": ","}, ["--cb-systems=','", "bittorrent,http"]),
        ({"systems": "http,codex,http"}, ["--cb-systems=http,codex,http", "http is named twice"]),
        ({"systems": "codex.new"}, ["--cb-systems", "codex.new", "bittorrent.stock"]),
        ({"systems": "Codex"}, ["--cb-systems", "'Codex'", "lower case"]),
        ({"systems": "http codex"}, ["--cb-systems", "'http codex'"]),
        ({"rounds": "0"}, ["--cb-rounds=0", "from 1 on"]),
        ({"rounds": "-1"}, ["--cb-rounds=-1", "from 1 on"]),
        ({"rounds": "2.5"}, ["--cb-rounds=2.5", "whole number"]),
        ({"rounds": "many"}, ["--cb-rounds=many", "whole number"]),
        ({"rounds": "\u0663"}, ["--cb-rounds=\u0663", "whole number"]),
        ({"rounds": "\u00b2"}, ["--cb-rounds=\u00b2", "whole number"]),
        ({"rounds": "9" * 5000}, ["--cb-rounds=999", "whole number"]),
        ({"seed": "-1"}, ["--cb-seed=-1", "from 0 on"]),
        ({"seed": "x"}, ["--cb-seed=x", "whole number"]),
        ({"backend": "cloud"}, ["--cb-backend=cloud", "local"]),
        ({"budget": "soon"}, ["--cb-budget=soon", "8h"]),
        ({"budget": "0"}, ["--cb-budget=0", "8h"]),
        ({"budget": "5\u017f"}, ["--cb-budget=5\u017f", "8h"]),
        ({"deadline": "-5"}, ["--cb-deadline=-5", "90s"]),
        ({"deadline": "inf"}, ["--cb-deadline=inf", "90s"]),
        ({"link": "100MB"}, ["--cb-link=100MB", "100mbit"]),
        ({"link": "1kbit"}, ["--cb-link=1kbit", "100kbit"]),
        ({"data": "/no/such/folder"}, ["--cb-data=/no/such/folder", "no such folder"]),
        ({"data": "x" * 300}, ["--cb-data=xxx"]),
        ({"data": "a\0b"}, ["--cb-data=a"]),
        ({"plan": "maybe"}, ["--cb-plan=maybe", "true or false"]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_refused_with_its_value(given: dict[str, str], told: list[str]) -> None:
    """Before anything starts: which option, what it was, what would be right."""
    with pytest.raises(WrongInput) as caught:
        options(**given)

    assert [] == [word for word in told if word not in str(caught.value)], str(caught.value)


def test_a_folder_for_data_must_be_a_folder() -> None:
    """A file is none."""
    with tempfile.NamedTemporaryFile(prefix="cb-") as file, pytest.raises(WrongInput, match="no such folder"):
        options(data=file.name)


def test_a_folder_for_data_leaves_room_for_the_nodes_sockets(tmp_path: Path) -> None:
    """The path of a Unix socket is short: a folder that is too deep is refused before anything starts."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(WrongInput, match=r"--cb-data=.*too long"):
        options(data=str(folder))


NAMES = [option.name for option in OPTIONS]
VALUES = {
    "matrix": ["smoke", "3x3", "full", "x.toml", "/", "./"],
    "systems": ["http", "codex,http", "http,,", "bittorrent.stock", "ipfs,"],
    "backend": ["local", "kubernetes"],
    "budget": ["90s", "8h", "1e9"],
    "deadline": ["1", "0.5", "0"],
    "link": ["100mbit", "1gbit"],
    "data": ["/", ".", "/dev/null"],
    "plan": ["1", "no", "y"],
}


@st.composite
def given_options(draw: st.DrawFn) -> Mapping[str, str]:
    """Some options with any text, some with a likely one."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return {name: draw(st.sampled_from(VALUES.get(name, ["1", "2", "0", "-1"])) | st.text()) for name in names}


@settings(max_examples=150, deadline=None)
@given(given_options())
def test_any_options_are_whole_or_refused(given: Mapping[str, str]) -> None:
    """Whatever text an option has, it is understood or refused; nothing else comes of it."""
    try:
        found = options(**given)
    except WrongInput as error:
        told = str(error)
        assert told
        return

    assert list(found.matrix)
    assert found.matrix.rounds >= 1
    assert found.seed >= 0
    for seconds in (found.budget_s, found.deadline_s):
        assert seconds is None or 0 < seconds < math.inf
    assert found.lines()


def test_programs_that_are_asked_for_are_checked_and_used(tmp_path: Path) -> None:
    """A program goes to the variants of its system that name none; one that is none is refused, with the option."""
    program = tmp_path / "codex"
    program.touch(mode=0o755)
    asked = {"codex-bin": str(program)}
    own = Variant("codex.mine", "codex", (("bin", "/opt/mine"),))

    given = list(with_programs([BUILT_IN["codex"], own, BUILT_IN["http"]], asked.get))

    assert [str(program), "/opt/mine", ""] == [variant.setting("bin") for variant in given]
    for text, why in ((str(tmp_path / "absent"), "no such file"), (str(tmp_path), "no such file")):
        with pytest.raises(WrongInput, match=f"--cb-ipfs-bin={re.escape(text)}: {why}"):
            list(with_programs([], {"ipfs-bin": text}.get))
