"""Programs of others: where they are, and what they say of themselves."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_codexbench import programs
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Variant
from pytest_codexbench.programs import checked_program, free_ports, no_program, output_of, program_of, wrong_program

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def script(path: Path, text: str = "exit 0", mode: int = 0o755) -> Path:
    """A program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def variant(given: object = None) -> Variant:
    """A variant with this ``bin``, or without one."""
    return Variant("codex", "codex", () if given is None else (("bin", str(given)),))


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


# --- where they are ---


def test_a_given_program_goes_before_those_on_path(on_path: Path, tmp_path: Path) -> None:
    """Two builds are compared by their ``bin``, whatever is installed."""
    script(on_path / "codex")
    given = script(tmp_path / "build" / "codex")

    assert str(given) == program_of(variant(given), ("codex",))


def test_the_first_name_that_is_on_path_is_the_program(on_path: Path) -> None:
    """A system has several names: the order is the preference."""
    later = script(on_path / "storage")
    assert str(later) == program_of(variant(), ("codex", "storage"))

    earlier = script(on_path / "codex")
    assert str(earlier) == program_of(variant(), ("codex", "storage"))


def test_a_given_name_is_looked_up_on_path(on_path: Path) -> None:
    """``bin = "codex-2025"`` is a name like those that a shell knows."""
    script(on_path / "codex")
    given = script(on_path / "codex-2025")

    assert str(given) == program_of(variant("codex-2025"), ("codex",))
    assert wrong_program(variant("codex-2025")) is None


def test_a_program_is_its_absolute_path(on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes run in folders of their own, and a link may point elsewhere before they start."""
    real = script(tmp_path / "build" / "codex-1.0")
    (on_path / "codex").symlink_to(real)
    monkeypatch.chdir(tmp_path)

    assert str(real) == program_of(variant("build/codex-1.0"), ("codex",))
    assert str(real) == program_of(variant(), ("codex",))


def test_without_a_program_there_is_none(on_path: Path, tmp_path: Path) -> None:
    """Nothing on PATH, or nothing that can be run; what is given is not replaced by another program."""
    assert program_of(variant(), ("codex", "storage")) is None

    script(on_path / "codex", mode=0o644)
    (on_path / "storage").mkdir()
    assert program_of(variant(), ("codex", "storage")) is None

    script(on_path / "codex")
    for given in (tmp_path / "absent", tmp_path, script(tmp_path / "text", mode=0o644), "absent"):
        assert program_of(variant(given), ("codex",)) is None


def test_a_wrong_program_is_told(on_path: Path, tmp_path: Path) -> None:
    """What was given, and whether it is not there or cannot be run."""
    text = script(tmp_path / "text", mode=0o644)
    longest = "x" * 5000

    assert wrong_program(variant()) is None
    assert wrong_program(variant(script(tmp_path / "codex"))) is None
    assert f"bin = '{tmp_path}/absent': no such program" == wrong_program(variant(tmp_path / "absent"))
    assert "bin = 'absent': no such program" == wrong_program(variant("absent"))
    assert f"bin = '{text}': not an executable program" == wrong_program(variant(text))
    assert f"bin = '{tmp_path}': not an executable program" == wrong_program(variant(tmp_path))
    assert f"bin = '{longest}': no such program" == wrong_program(variant(longest))


def test_who_has_no_program_learns_the_ways_to_give_one() -> None:
    """The option, the ini key and the matrix file's, with the names that were looked for."""
    text = no_program("codex", ("codex", "storage"))

    assert text.startswith("no `codex` or `storage` program on PATH; ")
    for way in ("--cb-codex-bin=PATH", "codexbench_codex_bin", "bin = 'PATH' below [systems.codex]"):
        assert way in text


def test_an_options_program_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used in other folders; a link stays one, for what is behind it may change."""
    program = script(tmp_path / "build" / "codex")
    link = tmp_path / "link"
    link.symlink_to(program)
    monkeypatch.chdir(tmp_path)

    assert str(program) == checked_program("build/codex")
    assert str(program) == checked_program(str(program))
    assert str(link) == checked_program("link")


def test_an_options_program_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, a link to nowhere, a name that no file can have; or a file that is no program."""
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    text = script(tmp_path / "text", mode=0o644)
    monkeypatch.chdir(tmp_path)

    for given in ("absent", "absent/codex", "text/codex", "nowhere", ".", str(tmp_path), "x" * 5000):
        with pytest.raises(WrongInput) as caught:
            checked_program(given)
        assert "no such file" == str(caught.value)
    with pytest.raises(WrongInput) as caught:
        checked_program(str(text))
    assert "not an executable program" == str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs are ELF files on Linux")
def test_a_program_of_another_machine_is_refused(tmp_path: Path) -> None:
    """The shell that would take its place says nothing of use; this machine's own are taken, and scripts."""
    own = Path(sys.executable).read_bytes()[:64]
    program = tmp_path / "program"
    for place, value in ((4, 3 - own[4]), (18, own[18] ^ 1)):
        program.write_bytes(own[:place] + bytes([value]) + own[place + 1 :])
        program.chmod(0o755)
        with pytest.raises(WrongInput, match="for another kind of machine"):
            checked_program(str(program))
        assert "for another kind of machine" in str(wrong_program(variant(program)))
    program.write_bytes(own)
    assert str(program) == checked_program(str(program))


# --- what they say ---


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """Nothing is remembered from test to test."""
    output_of.cache_clear()
    yield
    output_of.cache_clear()


def test_what_a_program_prints_is_told(tmp_path: Path) -> None:
    """On both channels, in order, whatever its status: some print their help as an error."""
    program = script(tmp_path / "codex", 'echo "codex $1"; echo "revision $2" >&2; echo end; exit 3')

    assert "codex --version\nrevision a b\nend\n" == output_of(str(program), "--version", "a b")


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    """They are shown as such."""
    assert "v1\ufffd\n" == output_of(str(script(tmp_path / "codex", r"printf 'v1\377\n'")))


@pytest.fixture
def terminal() -> Iterator[None]:
    """Somebody who could be asked, and says nothing."""
    ours = os.dup(0)
    reads, writes = os.pipe()
    os.dup2(reads, 0)
    yield
    os.dup2(ours, 0)
    for descriptor in (ours, reads, writes):
        os.close(descriptor)


@pytest.mark.usefixtures("terminal")
def test_a_program_has_nobody_to_ask(tmp_path: Path) -> None:
    """One that reads what it is told has its end at once; it does not wait at the terminal of who benchmarks."""
    assert "asked: \n" == output_of(str(script(tmp_path / "codex", 'echo "asked: $(cat)"')))


def test_a_program_is_asked_once(tmp_path: Path) -> None:
    """Each question once, for a cluster asks for each node."""
    count = tmp_path / "count"
    program = str(script(tmp_path / "codex", f"echo x >> {count}; echo $1"))

    assert ["--help\n", "--help\n", "--version\n"] == [
        output_of(program, flag) for flag in ("--help", "--help", "--version")
    ]
    assert "x\nx\n" == count.read_text()


def test_a_program_that_cannot_be_run_says_nothing(tmp_path: Path) -> None:
    """Missing, not executable, a folder, no name at all, or of another machine."""
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF\x00")
    other.chmod(0o755)

    for program in (tmp_path / "absent", script(tmp_path / "text", mode=0o644), tmp_path, other):
        assert output_of(str(program), "--version") == ""
    assert output_of("", "--version") == ""


@pytest.mark.parametrize(
    "text",
    ["echo v1; exec sleep 20", "trap '' TERM INT; echo v1; exec sleep 20", "sleep 20 & wait"],
    ids=["hangs", "deaf", "child"],
)
def test_a_program_that_hangs_is_not_waited_for(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time to answer; what it said of it is not half an answer."""
    monkeypatch.setattr(programs, "ANSWER_S", 0.3)
    program = script(tmp_path / "codex", text)
    began = time.perf_counter()

    assert output_of(str(program)) == ""
    assert time.perf_counter() - began < 15


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not run on beside what is measured."""
    monkeypatch.setattr(programs, "ANSWER_S", 0.3)
    program = str(script(tmp_path / "codex", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1; done"))
    output_of(program)

    assert not [one for one in psutil.process_iter(["cmdline"]) if program in (one.info["cmdline"] or ())]


# --- ports ---


def test_free_ports_are_free_and_differ() -> None:
    """As many as are asked for, in order; each can be bound."""
    kinds = (TCP,) * 10 + (UDP,) * 10
    ports = free_ports("127.0.0.1", *kinds)

    assert len(kinds) == len(ports)
    assert 10 == len(set(ports[:10]))
    assert 10 == len(set(ports[10:]))
    for port, kind in zip(ports, kinds, strict=True):
        with socket.socket(type=kind) as wire:
            wire.bind(("127.0.0.1", port))
            assert port > 1023


def test_each_port_is_tried_as_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free for UDP may be in use for TCP, and the other way round."""
    tried: list[tuple[int, Any]] = []

    class Probe(socket.socket):
        def bind(self, address: Any) -> None:
            tried.append((self.type, address))
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Probe)
    free_ports("127.0.0.1", TCP, UDP, TCP)

    assert [(TCP, ("127.0.0.1", 0)), (UDP, ("127.0.0.1", 0)), (TCP, ("127.0.0.1", 0))] == tried


def test_a_port_for_all_addresses_is_free_on_each() -> None:
    """Discovery binds to all of them, whatever it is told."""
    (port,) = free_ports("0.0.0.0", UDP)  # noqa: S104 - for this test

    with socket.socket(type=UDP) as wire:
        wire.bind(("0.0.0.0", port))  # noqa: S104 - for this test
        assert port == wire.getsockname()[1]


def test_ports_of_an_address_that_is_not_here_are_told() -> None:
    """An address of another machine (RFC 5737)."""
    with pytest.raises(OSError, match="assign"):
        free_ports("192.0.2.1", TCP)
