"""The double as an executable program on disk."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PACKAGES = Path(__file__).absolute().parent.parent


def install(folder: Path, flavour: str, name: str | None = None, faults: str = "") -> Path:
    """Write a program that behaves as ``flavour``, with ``faults`` switched on unless the environment says others."""
    path = folder / (name or ("storage" if flavour == "storage" else "codex"))
    folder.mkdir(parents=True, exist_ok=True)
    # -S: quick, and without what a site would start in every process; -P: no module of the current folder
    program = [sys.executable, "-S", "-P", "-m", "codex_double", f"--flavour={flavour}"]
    variables = [f"PYTHONPATH={shlex.quote(str(PACKAGES))}"]
    if faults:
        variables.append(f'CODEX_DOUBLE_FAULTS="${{CODEX_DOUBLE_FAULTS:-{faults}}}"')
    lines = ["#!/bin/sh", *(f"export {variable}" for variable in variables), f'exec {shlex.join(program)} "$@"']
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path
