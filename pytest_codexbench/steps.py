"""A matrix in steps of somebody else's workflow: its blocks, one of them measured, all of them gathered."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import Block, rate_text, size_text
from pytest_codexbench.options import Asked, read_options
from pytest_codexbench.records import JOURNAL, Story, lines_of, read_journal
from pytest_codexbench.run import PLACE, PROVENANCE, difference, read_provenance, runs_of

SUITE = ("--pyargs", "pytest_codexbench.suite")
# What pytest says of a command line that it does not take, and of one that leaves no test.
PYTEST_USAGE, PYTEST_NOTHING = 4, 5


def blocks(asked: Asked) -> list[str]:
    """The name of every block of the matrix that is asked for.

    Raises:
        WrongInput: as options do.
    """
    return [str(block) for block in read_options(asked).whole_plan.blocks]


def _select(block: Block) -> str:
    size, link = size_text(block.size), rate_text(block.link)
    where = f"nodes={block.nodes}, seeders={block.seeders}, size='{size}', link='{link}', kind='{block.kind}'"
    return f"cell({where})"


def run_block(name: str, results: Path, asked: Asked, arguments: Sequence[str]) -> list[str]:
    """Measure one block of the matrix, or what an earlier try of it lacks, in a folder of its name in ``results``.

    ``arguments`` are pytest's own; all else it reads where ``asked`` does. A run of the block knows the plan of the
    whole matrix, and draws as that would. SIGTERM ends pytest, as it ends this.

    Returns:
        What is not recorded yet, in words; nothing if all rounds are, however they went.

    Raises:
        WrongInput: if there is no such block, or pytest does not take what it was asked for.
    """
    plan = read_options(asked).whole_plan
    found = next((block for block in plan.blocks if str(block) == name), None)
    if found is None:
        raise WrongInput(
            f"block {name!r}: matrix {plan.matrix} has none of that name; `codexbench emit blocks` lists them"
        )
    results = results / name
    # what pytest is asked for beyond this may make another plan of it: then that run is what was measured, and is not
    # gone on with
    resume = [f"--cb-resume={folder.resolve()}" for folder in runs_of(plan.hash, results)[-1:]]
    where = [] if any(Path(argument).exists() for argument in arguments) else SUITE
    argv = [
        sys.executable,
        "-m",
        "pytest",
        *where,
        f"--cb-results={results}",
        *resume,
        "-m",
        _select(found),
        *arguments,
    ]
    if (status := _pytest(argv)) in (PYTEST_USAGE, PYTEST_NOTHING):
        raise WrongInput(f"block {name!r}: pytest ended with {status}, as it says above: `{shlex.join(argv)}`")
    measured = runs_in(results)
    if not measured:
        return ["nothing was measured"]
    run = measured[-1]
    return list(lacking(read_provenance(run), read_journal(run / JOURNAL), map(str, found.cells)))


def _pytest(argv: Sequence[str]) -> int:
    """Run it; a signal that wants this process to end is its own to follow, and to end in good order."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    with _passed_on(process):
        return process.wait()


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder of results, oldest first, or in those of its blocks; of a run's own folder, that one."""
    if (folder / PROVENANCE).is_file():
        return [folder]
    return [path.parent for depth in ("*", "*/*") for path in sorted(folder.glob(f"{depth}/{PROVENANCE}"))]


def lacking(run: Mapping[str, Any], story: Story, cells: Iterable[str]) -> Iterator[str]:
    """What a run with that provenance and journal has not recorded of these cells, in words.

    What was left out for a reason is not lacking.
    """
    have: dict[str, int] = {}
    for round_ in story.measured():
        have[str(round_.cell)] = have.get(str(round_.cell), 0) + 1
    skipped = {str(note.cell) for note in story.notes if note.what == "skipped"}
    why = {str(note.cell): note.text for note in story.notes if note.what == "error"}
    for cell in cells:
        done, wanted = have.get(cell, 0), int(run["rounds"])
        if done < wanted and cell not in skipped:
            reason = f": {why[cell]}" if cell in why else ""
            yield f"{cell} has {done} of {wanted} rounds{reason}"


def gather(folders: Sequence[Path], output: Path) -> list[str]:
    """Make one run of several that measured parts of one plan: the journals one after the other, logs, all documents.

    ``folders`` are runs, or folders of results with any number of them.

    Returns:
        What is lacking of the plan, in words; nothing if it is whole.

    Raises:
        WrongInput: if there is no run, if two are of different plans, versions or places, or if ``output`` is there.
    """
    found = [run for folder in folders for run in runs_in(folder)]
    if not found:
        raise WrongInput(f"no run in {', '.join(map(str, folders)) or 'no folder'}: there is no {PROVENANCE}")
    told = [read_provenance(folder) for folder in found]
    for folder, run in zip(found[1:], told[1:], strict=True):
        if unlike := _unlike(told[0], run):
            raise WrongInput(f"{folder} does not go together with {found[0]}: {unlike}")
    if output.exists() and any(output.iterdir()):
        raise WrongInput(f"--output={output}: there is something in it already; give a new folder")
    output.mkdir(parents=True, exist_ok=True)
    _write_journal(found, output / JOURNAL)
    for folder in found:
        if (folder / "logs").is_dir():
            shutil.copytree(folder / "logs", output / "logs", dirs_exist_ok=True)
    run = _together(told, output.name)
    (output / PROVENANCE).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    from pytest_codexbench.reports import write_documents

    story = read_journal(output / JOURNAL)
    write_documents(output, story, run)
    return list(lacking(run, story, (cell["id"] for cell in run["cells"])))


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = ("plan_hash", "matrix", "rounds", "seed", "backend", "versions")
    places = [run.get("environment") or {} for run in (one, other)]
    return difference(_only(one, keys), _only(other, keys)) or difference(
        *(_only(place, (*PLACE, "versions")) for place in places)
    )


def _only(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: values.get(key) for key in keys}


def _write_journal(found: Sequence[Path], path: Path) -> None:
    """All whole lines of all journals; a round that is in two of them comes once."""
    seen: set[str] = set()
    with path.open("wb") as out:
        for folder in found:
            for line in lines_of(folder / JOURNAL):
                key = _key(line)
                if key not in seen:
                    out.write(line.rstrip(b"\n") + b"\n")
                if key:
                    seen.add(key)


def _key(line: bytes) -> str:
    """Of a round that counts: which one it is. Empty for all else, be it unreadable, which the reports tell of."""
    try:
        data = json.loads(line)
        return f"{data['cell']['id']} {data['index']}" if data["kind"] == "round" and not data["warmup"] else ""
    except (ValueError, LookupError, TypeError):
        return ""


def _together(told: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    run = dict(told[0])
    # a part that was killed has no end; then neither has the whole
    ends = [part.get("ended_at") for part in told]
    run["id"] = name
    run["started_at"] = min(str(part["started_at"]) for part in told)
    run["selected"] = [cell["id"] for cell in run["cells"]]
    run["gathered_from"] = [part["id"] for part in told]
    for key in ("ended_at", "exit_status", "resumed_at"):
        run.pop(key, None)
    if all(ends):
        run["ended_at"] = max(str(end) for end in ends)
        run["exit_status"] = max(int(part.get("exit_status") or 0) for part in told)
    return run
