"""One run's folder: its place, its provenance, its lock."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Cell
from pytest_codexbench.plan import Plan
from pytest_codexbench.records import Environment, Journal, cell_to_json

PROVENANCE = "run.json"
LOCK = ".lock"
LATEST = "latest"
# Two runs compare, and one goes on with another, only if these agree.
PLACE = ("backend", "isolation", "machine", "kernel", "wire")


class Run:
    """A folder below the results, locked for as long as this process writes to it."""

    def __init__(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        self.folder = folder
        self.provenance = dict(provenance)
        self.journal = Journal(folder)
        self._lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self._lock)
            raise

    def _take(self) -> None:
        """From now on nobody else writes here, and this process can."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WrongInput(f"{self.folder}: another pytest is writing to this run; wait for its end") from None
        with suppress(FileNotFoundError), self.journal.path.open("r+b"):
            pass
        self._write()

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def empty(self) -> bool:
        """Whether nothing was measured or logged."""
        return {path.name for path in self.folder.iterdir()} <= {PROVENANCE, LOCK}

    def _write(self) -> None:
        """The provenance, whole or not at all."""
        new = self.folder / f"{PROVENANCE}.new"
        try:
            new.write_text(json.dumps(self.provenance, indent=2) + "\n", encoding="utf-8")
            new.replace(self.folder / PROVENANCE)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def select(self, cells: Iterable[Cell]) -> None:
        """Note which cells were asked for, by now and by earlier parts of the run."""
        chosen = [*self.provenance.get("selected", []), *map(str, cells)]
        self.provenance["selected"] = list(dict.fromkeys(chosen))
        self._write()

    def end(self, exit_status: int) -> None:
        """Note how it ended, and let go of the folder; one that holds nothing is removed.

        Raises:
            OSError: if that cannot be noted.
        """
        try:
            if self.empty:
                for path in self.folder.iterdir():
                    path.unlink()
                self.folder.rmdir()
            else:
                self.provenance["ended_at"], self.provenance["exit_status"] = _now(), exit_status
                self._write()
        finally:
            os.close(self._lock)


def new_run(results: Path, plan: Mapping[str, Any], environment: Environment) -> Run:
    """A fresh folder, named by the moment, the matrix and the plan.

    ``plan`` is plain data with at least ``matrix`` (a name) and ``plan_hash``.

    Raises:
        WrongInput: if the folder cannot be made.
    """
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{_word(plan['matrix'])}-{plan['plan_hash'][:6]}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        ignore = results / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        for turn in range(100):
            folder = results / (name if not turn else f"{name}-{turn}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return Run(
                folder,
                {"schema": 1, "id": folder.name, **plan, "environment": environment.to_json(), "started_at": _now()},
            )
    except OSError as error:
        raise WrongInput(f"--cb-results={results}: {error.strerror or error}: {error.filename}") from error
    raise WrongInput(f"--cb-results={results}: a hundred runs of this second are there already")


def resumed_run(results: Path, which: str, plan: Mapping[str, Any], environment: Environment) -> Run:
    """The folder of an earlier run of the same plan, to go on with.

    Raises:
        WrongInput: if there is none, or if it was of another plan, version or machine: names the difference; or if
            nothing can be written there.
    """
    folder = _latest(results, plan["plan_hash"]) if which == LATEST else _named(results, which)
    before = read_provenance(folder)
    if before.get("plan_hash") != plan["plan_hash"]:
        keys = ("matrix", "rounds", "seed", "systems", "backend")
        raise WrongInput(
            f"--cb-resume={which}: {folder.name} is of another plan: "
            + (
                difference({k: before.get(k) for k in keys}, {k: plan.get(k) for k in keys})
                or "other cells or settings"
            )
        )
    there = before.get("environment")
    if not isinstance(there, dict):
        raise WrongInput(f"{folder / PROVENANCE}: it does not say where the run was measured")
    here = environment.to_json()
    if unlike := difference({k: there.get(k) for k in PLACE}, {k: here[k] for k in PLACE}) or difference(
        {**there.get("versions", {}), **before.get("versions", {})},
        {**here["versions"], **plan.get("versions", {})},
    ):
        raise WrongInput(f"--cb-resume={which}: {folder.name} was measured elsewhere: {unlike}; start a new run")
    before["resumed_at"] = [*before.get("resumed_at", []), _now()]
    try:
        return Run(folder, before)
    except OSError as error:
        raise WrongInput(f"--cb-resume={which}: {error.strerror or error}: {error.filename or folder}") from error


def runs_of(plan_hash: str, results: Path) -> list[Path]:
    """The runs of that plan in a folder of results, oldest first; those that cannot tell their plan are none."""
    return [folder for folder in _runs(results) if _plan_of(folder) == plan_hash]


def _runs(results: Path) -> list[Path]:
    return [path.parent for path in sorted(results.glob(f"*/{PROVENANCE}"))]


def _latest(results: Path, plan_hash: str) -> Path:
    same = runs_of(plan_hash, results)
    if not same:
        found = _runs(results)
        others = f"; there are {', '.join(folder.name for folder in found[-3:])}" if found else ""
        raise WrongInput(f"--cb-resume: no run of this plan ({plan_hash[:6]}) in {results}{others}")
    return same[-1]


def _plan_of(folder: Path) -> object:
    """The plan of a run; None for a folder that cannot tell."""
    try:
        return read_provenance(folder).get("plan_hash")
    except WrongInput:
        return None


def _named(results: Path, which: str) -> Path:
    for folder in (results / which, Path(which)):
        if (folder / PROVENANCE).is_file():
            return folder
    hint = (
        "; a word after --cb-resume is a run: for the latest write --cb-resume=latest" if Path(which).exists() else ""
    )
    raise WrongInput(f"--cb-resume={which}: no such run in {results}{hint}")


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a run's folder says of itself.

    Raises:
        WrongInput: if that cannot be read.
    """
    path = folder / PROVENANCE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongInput(f"{path}: {error}") from error
    if not isinstance(told, dict):
        raise WrongInput(f"{path}: not a JSON object")
    return told


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What differs between two mappings, in words; empty if nothing does."""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return ", ".join(f"{key} was {there.get(key)!r} and is {here.get(key)!r}" for key in keys)


def _word(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text)[:30]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def plan_to_json(plan: Plan, command: str, options: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """The plan as it stands in ``run.json``."""
    return {
        "matrix": plan.matrix,
        "plan_hash": plan.hash,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "backend": plan.backend,
        "systems": list(dict.fromkeys(cell.system for cell in plan.cells)),
        "versions": dict(versions),
        "command": command,
        "options": dict(options),
        "cells": [cell_to_json(cell) for cell in plan.cells],
    }
