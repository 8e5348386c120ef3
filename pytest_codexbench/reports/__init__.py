"""The documents of a run, each made from its journal alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import BenchError
from pytest_codexbench.records import JOURNAL, Story, read_journal
from pytest_codexbench.run import read_provenance

DOCUMENTS: Mapping[str, str] = {
    "results.json": "results",
    "benchmark.json": "benchmark",
    "junit.xml": "junit",
    "report.html": "html",
    "report.md": "writeup",
}
"""File by the module that makes it: each has a ``document(told) -> str``."""


def write_all(folder: Path) -> list[Path]:
    """Write every document of the run in ``folder`` anew, from its files.

    Raises:
        BenchError: at the end, naming what could not be read, and each document that was not written.
    """
    story, run, troubles = read_journal(folder / JOURNAL), dict[str, Any](), list[str]()
    try:
        run = read_provenance(folder)
    except BenchError as error:
        troubles.append(str(error))
    return write_documents(folder, story, run, troubles)


def write_documents(folder: Path, story: Story, run: Mapping[str, Any], troubles: Sequence[str] = ()) -> list[Path]:
    """Write every document of this story; one that cannot be made does not keep the others back.

    Raises:
        BenchError: at the end, naming ``troubles`` of before and each document that was not written, with the reason.
    """
    from pytest_codexbench.reports.told import tell

    found, written = list(troubles), list[Path]()
    try:
        told = tell(story, run)
    except Exception as error:
        raise BenchError("; ".join([*found, f"{folder}: {type(error).__name__}: {error}"])) from error
    for name, module in DOCUMENTS.items():
        try:
            text: str = import_module(f"{__name__}.{module}").document(told)
            written.append(_replace(folder / name, text))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one document, the others are wanted
            found.append(f"{folder / name} was not written: {type(error).__name__}: {error}")
    if found:
        raise BenchError("; ".join(found))
    return written


def _replace(path: Path, text: str) -> Path:
    """Write the file whole or not at all: who reads at the same time sees the old one or the new one."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp() lets nobody else read, but these are to be shown to others
        Path(name).chmod(0o644)
        return Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
