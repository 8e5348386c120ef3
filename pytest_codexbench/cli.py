"""What needs no run: reports of earlier ones, and what there is to be run."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_codexbench import __version__
from pytest_codexbench.errors import BenchError, WrongInput
from pytest_codexbench.matrix import BUILT_IN, PRESETS, parse_size, preset, size_text

WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="codexbench", description=__doc__)
    parser.add_argument("--version", action="version", version=f"codexbench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = _command(commands, "report", _report, "make all documents of a run again, from its records alone")
    report.add_argument("folder", type=Path, metavar="DIR", help="the run's folder, as results/<run id>")
    systems = _command(commands, "systems", _systems, "which storage systems there are, and whether they can run here")
    for system in ("codex", "ipfs"):
        systems.add_argument(f"--{system}-bin", metavar="PATH", help=f"like pytest's --cb-{system}-bin")
    _command(commands, "matrices", _matrices, "which matrices have a name")
    clean = _command(commands, "clean", _clean, "remove what killed runs left on this machine, or in a cluster")
    clean.add_argument("--data", type=Path, metavar="DIR", help="the folder that was given as --cb-data")
    clean.add_argument("--kubernetes", action="store_true", help="in the cluster of the kubeconfig instead")
    clean.add_argument("--kube-context", metavar="NAME", help="in the cluster of that context instead")
    clean.add_argument(
        "--all", action="store_true", help="of a cluster, also what runs have that are at it, or kept on purpose"
    )

    options = parser.parse_args(arguments)
    try:
        options.act(options)
    except BenchError as error:
        print(f"codexbench: {error}", file=sys.stderr)
        return WRONG_USE
    return 0


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], None],
    what: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(act=act)
    return parser


def _report(options: argparse.Namespace) -> None:
    from rich.console import Console

    from pytest_codexbench.records import JOURNAL, read_journal
    from pytest_codexbench.reports import write_all
    from pytest_codexbench.reports.terminal import render
    from pytest_codexbench.run import read_provenance

    folder: Path = options.folder
    if not (folder / JOURNAL).is_file():
        raise WrongInput(f"{folder}: no {JOURNAL} in it; give the folder of a run, as results/<run id>")
    story = read_journal(folder / JOURNAL)
    render(story, read_provenance(folder), Console())
    for problem in story.problems:
        print(f"journal: {problem}")
    for path in write_all(folder):
        print(path)


def _systems(options: argparse.Namespace) -> None:
    from pytest_codexbench.matrix import variant_named
    from pytest_codexbench.options import with_programs
    from pytest_codexbench.systems import find, names

    def asked(name: str) -> str | None:
        return getattr(options, name.replace("-", "_")) or os.environ.get(
            f"CODEXBENCH_{name.upper().replace('-', '_')}"
        )

    for name in names():
        try:
            system = find(name)
        except WrongInput as error:
            print(f"{name:12} {error}")
            continue
        variants = [v for v in BUILT_IN.values() if v.system == name] or [variant_named(name, BUILT_IN)]
        variants = list(with_programs(variants, asked))
        missing = system.missing(variants[0])
        state = f"cannot run here: {missing}" if missing else ", ".join(system.versions(variants[0]).values())
        print(f"{name:12} {state}")
        print(f"{'':12} views: {', '.join(system.views)}; to publish: {system.publishing}")
        if len(variants) > 1:
            print(f"{'':12} variants: {', '.join(v.name for v in variants)}")


def _matrices(_: argparse.Namespace) -> None:
    for name, (pairs, sizes, rounds) in PRESETS.items():
        matrix = preset(name, (BUILT_IN["http"],))
        shapes = " ".join(f"({nodes},{seeders})" for nodes, seeders in pairs)
        texts = ", ".join(size_text(parse_size(size)) for size in sizes)
        uploads = len(list(matrix.blocks("upload")))
        print(f"{name:6} {len(list(matrix))} cells a system, and {uploads} of uploads; {rounds} rounds")
        print(f"{'':6} {texts}; (nodes, seeders): {shapes}")


def _clean(options: argparse.Namespace) -> None:
    if options.kubernetes or options.kube_context:
        _clean_cluster(options.kube_context, options.all)
        return
    if options.all:
        raise WrongInput("--all is of a cluster: give --kubernetes or --kube-context=NAME with it")
    from pytest_codexbench.backends.warden import sweep

    root = options.data or Path(tempfile.gettempdir())
    removed = sweep(root)
    for path in removed:
        print(f"removed {path}")
    print(f"{len(removed)} folders of killed runs in {root}")


def _clean_cluster(context: str | None, everything: bool) -> None:
    from pytest_codexbench.backends.kubernetes.api import Api
    from pytest_codexbench.backends.kubernetes.namespaces import sweep

    found = sweep(Api(context), everything)
    for name in found.removed:
        print(f"removed namespace {name}")
    for name, why in found.stay.items():
        print(f"left namespace {name}: {why}")
    print(
        f"{len(found.removed)} namespaces of killed runs; {len(found.stay)} others stay"
        + (" (--all)" if found.stay else "")
    )


if __name__ == "__main__":
    sys.exit(main())
