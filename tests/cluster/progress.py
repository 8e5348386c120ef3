"""What a person, or the log of a CI run, is told of work that takes a while."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TOLD_EVERY_S = 10.0
LOCK_LOOK_S = 0.5
LOOK_S = 0.1
TAIL_LINES = 30
TAIL_CHARACTERS = 2000

_began = time.monotonic()


class Failed(Exception):
    """Something that was asked for could not be done."""


def say(text: str) -> None:
    """Write a line, with the seconds since the command began, at once: it may go to a file that somebody follows."""
    sys.stdout.write(f"{time.monotonic() - _began:7.1f} s  {text}\n")
    sys.stdout.flush()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long it took."""
    began = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - began:.1f} s")


def follow(
    what: str,
    argv: Sequence[str],
    describe: Callable[[Sequence[str]], str],
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a program, every ten seconds say how far it is, and return the lines it wrote.

    ``describe`` makes the words from the lines so far; they should hold a number that grows, so that a program at work
    can be told from one that is stuck.

    Raises:
        Failed: with the end of its output, if it does not exit with 0.
    """
    lines: list[str] = []
    with _dying_with_us(argv, folder, env) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(map(str.rstrip, process.stdout),), daemon=True)
        reader.start()
        began = time.monotonic()
        while True:
            try:
                process.wait(TOLD_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                said = describe(lines.copy())
                say(f"{what}: {time.monotonic() - began:.0f} s, {said}")
        reader.join(TOLD_EVERY_S)
    if process.returncode:
        tail = "\n".join(lines[-TAIL_LINES:])
        raise Failed(
            f"{what}: `{' '.join(argv)[:200]}` exited with {process.returncode}; the end of its output:\n{tail}"
        )
    return lines


@contextmanager
def _dying_with_us(
    argv: Sequence[str], folder: Path | None, env: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[str]]:
    """A program whose processes and mounts are gone when it ends, or when this process does, be it by kill -9.

    Else half a bootstrap would leave the machine's /dev mounted in a folder that the next build removes.
    """
    apart = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*apart, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=folder,
        env=env,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Be the only one on this machine who does this; a lock ends with its process, so none is ever left behind."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        began = said = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if (now := time.monotonic()) >= said:
                    say(f"{what}: another one is at it (lock {lock}); waiting since {now - began:.0f} s")
                    said = now + TOLD_EVERY_S
                time.sleep(LOCK_LOOK_S)
        yield


def wait(what: str, seconds: float, check: Callable[[], bool], log: Path) -> None:
    """Wait until ``check`` says that it is so; an ``OSError``, as when somebody does not answer, says that it is not.

    Raises:
        Failed: with the end of ``log``, if it is not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            if check():
                return
        if time.monotonic() > deadline:
            end = log.read_text(errors="replace")[-TAIL_CHARACTERS:] if log.exists() else "(there is none)"
            raise Failed(f"{what}: not within {seconds:g} s; the end of {log}:\n{end}")
        time.sleep(LOOK_S)
