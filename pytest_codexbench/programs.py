"""Programs of others: where they are, and what they say of themselves."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Variant

ANSWER_S = 20.0
FOREIGN = "a program for another kind of machine than this one"


def program_of(variant: Variant, names: Sequence[str]) -> str | None:
    """The path of a variant's program: its ``bin``, else the first of ``names`` on PATH; None without one."""
    given = variant.setting("bin")
    found = (shutil.which(name) for name in ([given] if given else names))
    return next((os.path.realpath(path) for path in found if path), None)


def wrong_program(variant: Variant) -> str | None:
    """What is wrong with a variant's ``bin``; None if it is a program or is not given."""
    given = variant.setting("bin")
    if not given:
        return None
    if (found := shutil.which(given)) is None:
        there = os.access(given, os.F_OK)  # unlike Path.exists(), says no where it may not look
        return f"bin = {given!r}: {'not an executable program' if there else 'no such program'}"
    return f"bin = {given!r}: {FOREIGN}" if foreign(found) else None


def no_program(system: str, names: Sequence[str]) -> str:
    """That there is none, with the ways out."""
    quoted = " or ".join(f"`{name}`" for name in names)
    return (
        f"no {quoted} program on PATH; give --cb-{system}-bin=PATH, codexbench_{system}_bin in an ini file, or bin = "
        f"'PATH' below [systems.{system}] in a matrix file"
    )


def is_file(text: str) -> bool:
    """Whether there is a file of that name; no name that cannot be one is an error."""
    return os.path.isfile(text)  # noqa: PTH113 - Path.is_file raises for names that are too long or not to be reached


def foreign(path: str) -> bool:
    """Whether it is a program of another kind of machine: one that a shell would take for its script."""
    return _machine(path) not in (None, _machine(sys.executable))


def _machine(path: str) -> bytes | None:
    """What in an ELF file's head a kernel knows its own by: class, order of bytes, machine; None of another file."""
    if not os.access(path, os.R_OK):  # whoever may run it need not be allowed to read it
        return None
    with Path(path).open("rb") as file:
        head = file.read(20)
    return head[4:6] + head[18:20] if head.startswith(b"\x7fELF") else None


def checked_program(text: str) -> str:
    """The absolute path of an executable program.

    Raises:
        WrongInput: if it is none.
    """
    path = Path(text).absolute()
    if not is_file(text):
        raise WrongInput("no such file")
    if not os.access(path, os.X_OK):
        raise WrongInput("not an executable program")
    if foreign(str(path)):
        raise WrongInput(FOREIGN)
    return str(path)


@cache
def output_of(program: str, *arguments: str) -> str:
    """What a program prints; empty if it cannot be run or does not end in time."""
    try:
        run = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.decode(errors="replace")


def free_ports(address: str, *kinds: socket.SocketKind) -> list[int]:
    """Ports that nobody has at ``address`` just now, one a kind, for a program that cannot choose and tell."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket(type=kind)) for kind in kinds]
        for probe in probes:
            probe.bind((address, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
