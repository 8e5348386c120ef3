"""Nodes of a system started by their driver, without an agent, on loopback addresses."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pytest_codexbench.errors import AgentError
from pytest_codexbench.payload import Payload
from pytest_codexbench.systems import Arrival, Contact, Driver, Fetched, Handle, Place, System, Want

READY_S = 60.0
TOKEN = "a token of the tests"


@contextmanager
def running(
    system: System,
    folder: Path,
    settings: Sequence[Mapping[str, str]],
    largest: int = 10**7,
    swarms: Sequence[int] = (),
) -> Iterator[list[Driver]]:
    """A node for each of ``settings``, ready and joined; those with the same number in ``swarms`` are one swarm."""
    numbers = list(swarms) or [0] * len(settings)
    contacts: dict[int, list[Contact]] = {}
    nodes: list[tuple[Driver, Contact, int]] = []
    with ExitStack() as stack:
        for index, (setting, number) in enumerate(zip(settings, numbers, strict=True)):
            home = folder / f"n{index:02d}"
            place = Place(home.name, f"127.0.0.{index + 1}", home, f"{TOKEN} {number}", setting, largest=largest)
            place.data.mkdir(parents=True, mode=0o700)
            driver = system.driver(place)
            known = contacts.setdefault(number, [])
            stack.enter_context(_process(driver, known[:1] if system.needs_bootstrap else [], home))
            contact = _ready(driver, home)
            known.append(contact)
            nodes.append((driver, contact, number))
        for driver, own, number in nodes:
            driver.join([contact for contact in contacts[number] if contact != own])
        yield [driver for driver, _, _ in nodes]


@contextmanager
def _process(driver: Driver, bootstrap: Sequence[Contact], home: Path) -> Iterator[None]:
    command = driver.command(bootstrap)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command.argv, env={**os.environ, **command.env}, cwd=home, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(driver: Driver, home: Path) -> Contact:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        with suppress(AgentError):
            if (contact := driver.ready()) is not None:
                return contact
        time.sleep(0.05)
    raise AssertionError(f"{home.name} was not ready: {(home / 'log').read_text(errors='replace')[-2000:]}")


def publish(driver: Driver, folder: Path, size: int, seed: int) -> tuple[Handle, str]:
    """Make a payload and publish it: its handle and its digest."""
    file = folder / f"p{seed}"
    digest = Payload(size, seed).write(file)
    return driver.publish(file, 60).handle, digest


def fetch(
    driver: Driver, handle: Handle, size: int, sources: Sequence[Contact] = (), deadline_s: float = 60
) -> tuple[list[Arrival], Fetched]:
    """Fetch to the end: every arrival, and the end."""
    start = time.perf_counter_ns()
    arrivals = driver.fetch(Want(handle, size, sources, 0, start, start + int(deadline_s * 1e9)))
    seen: list[Arrival] = []
    while True:
        try:
            seen.append(next(arrivals))
        except StopIteration as end:
            fetched: Fetched = end.value
            return seen, fetched
