"""What needs no run: reports of earlier ones, how they compare, and what there is to be run."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_codexbench import __version__
from pytest_codexbench.errors import BenchError, WrongInput
from pytest_codexbench.matrix import BUILT_IN, PRESETS, parse_size, preset, size_text

if TYPE_CHECKING:
    from pytest_codexbench.records import Story

REPORT_FORMATS = ("all", "csv", "parquet", "github-action-benchmark")
GATE_SHUT, WRONG_USE, TRY_AGAIN = 1, 2, 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 if what ``--fail-on`` names has come about, or 2 for wrong input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # split by hand: argparse takes a list that may be empty as missing when it meets the first option
    cut = given.index("--") if given[:1] == ["block"] and "--" in given else len(given)
    options = command_line().parse_args(given[:cut], argparse.Namespace(arguments=given[cut + 1 :]))
    try:
        status: int | None = options.act(options)
    except BenchError as error:
        print(f"codexbench: {error}", file=sys.stderr)
        return WRONG_USE
    return status or 0


def command_line() -> argparse.ArgumentParser:
    """All commands with their options; the documentation is made from it too."""
    parser = argparse.ArgumentParser(prog="codexbench", description=__doc__)
    parser.add_argument("--version", action="version", version=f"codexbench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = _command(commands, "report", _report, "make all documents of a run again, from its records alone")
    _report_options(report)
    _compare_options(_command(commands, "compare", _compare, "hold one run, or system, against another"))
    from pytest_codexbench.options import BINS

    systems = _command(commands, "systems", _systems, "which storage systems there are, and whether they can run here")
    for system in BINS:
        systems.add_argument(f"--{system}-bin", metavar="PATH", help=f"like pytest's --cb-{system}-bin")
    _command(commands, "matrices", _matrices, "which matrices have a name")
    clean = _command(commands, "clean", _clean, "remove what killed runs left on this machine, or in a cluster")
    clean.add_argument("--data", type=Path, metavar="DIR", help="the folder that was given as --cb-data")
    clean.add_argument("--kubernetes", action="store_true", help="in the cluster of the kubeconfig instead")
    clean.add_argument("--kube-context", metavar="NAME", help="in the cluster of that context instead")
    clean.add_argument(
        "--all", action="store_true", help="of a cluster, also what runs have that are at it, or kept on purpose"
    )
    _emit_options(_group(commands, "emit", "write what other tools are to do, from a matrix"))
    _step_options(commands)
    _issue_commands(commands)
    return parser


def _group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """A command that has commands of its own."""
    parser = commands.add_parser(name, help=what, description=what)
    return parser.add_subparsers(required=True, metavar="WHAT")


def _issue_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from pytest_codexbench.issues.commands import add_commands

    what = "a run that an issue on GitHub asks for: from its form to its report"
    add_commands(commands.add_parser("issue", help=what, description=what))


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int | None],
    what: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(act=act)
    return parser


def _report_options(parser: argparse.ArgumentParser) -> None:
    from pytest_codexbench.reports.rows import TABLES

    parser.add_argument("folder", type=Path, metavar="DIR", help="the run's folder, as results/<run id>")
    parser.add_argument("--format", choices=REPORT_FORMATS, default="all", help="just one, of all documents (default)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where it goes (default: standard output)")
    parser.add_argument(
        "--metric", metavar="NAME[,NAME]", help="what a trend shows (default: the times that cells are judged by)"
    )
    parser.add_argument(
        "--table", choices=TABLES, help="a row a cell and metric (default), or a round and metric; of csv and parquet"
    )


def _report(options: argparse.Namespace) -> None:
    from pytest_codexbench.records import JOURNAL, read_journal
    from pytest_codexbench.run import read_provenance

    folder: Path = options.folder
    if not (folder / JOURNAL).is_file():
        raise WrongInput(f"{folder}: no {JOURNAL} in it; give the folder of a run, as results/<run id>")
    _check_report(options)
    story, run, troubles = read_journal(folder / JOURNAL), dict[str, Any](), list[str]()
    try:
        run = read_provenance(folder)
    except WrongInput as error:
        troubles.append(f"made from the journal alone: {error}")
    troubles += [f"journal: {problem}" for problem in story.problems]
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    if options.format == "all":
        _all_documents(folder, story, run)
    else:
        try:
            _one_document(options, story, run)
        except OSError as error:
            raise WrongInput(f"--output={options.output}: {error.strerror or error}") from error


def _check_report(options: argparse.Namespace) -> None:
    """Which of the options go together."""
    tables, trend = options.format in ("csv", "parquet"), options.format == "github-action-benchmark"
    if options.table and not tables:
        raise WrongInput(f"--table={options.table} is of --format=csv and --format=parquet")
    if options.metric and not trend:
        raise WrongInput(f"--metric={options.metric} is of --format=github-action-benchmark")
    if options.output and options.format == "all":
        raise WrongInput(f"--output={options.output} takes one document: say which by --format")
    if options.format == "parquet" and not options.output:
        raise WrongInput("--format=parquet is binary: it needs --output=FILE")


def _all_documents(folder: Path, story: Story, run: Mapping[str, Any]) -> None:
    from rich.console import Console

    from pytest_codexbench.reports import write_documents
    from pytest_codexbench.reports.terminal import render

    render(story, run, Console())
    if run and "ended_at" not in run:
        print("No end of this run is noted: it is still going, or was killed. This is what there is.")
    for path in write_documents(folder, story, run):
        print(path)


def _one_document(options: argparse.Namespace, story: Story, run: Mapping[str, Any]) -> None:
    from pytest_codexbench.reports import parquet, rows, trend

    if options.format == "github-action-benchmark":
        metrics = [metric.strip() for metric in (options.metric or "").split(",") if metric.strip()]
        text = trend.document(story, run, metrics)
        print(f"for the action's tool: {trend.tool_of(metrics)}", file=sys.stderr)
    else:
        table = options.table or "cells"
        columns, found = rows.TABLES[table], rows.rows(table, story, run)
        if options.format == "parquet":
            parquet.write_parquet(found, columns, options.output)
            return
        text = rows.csv_text(found, list(columns))
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def _compare_options(parser: argparse.ArgumentParser) -> None:
    from pytest_codexbench.reports.compare import FORMATS
    from pytest_codexbench.reports.compare.gate import GATES

    parser.usage = "codexbench compare [options] A B  |  codexbench compare [options] DIR SYSTEM-A SYSTEM-B"
    parser.add_argument(
        "sides",
        nargs="+",
        metavar="A B",
        help="results/<run id>, or results/<run id>:<system>; or one run and two of its systems; A is the reference",
    )
    parser.add_argument(
        "--margin", type=_margin, default=1.2, metavar="RATIO", help="how much worse B may be (default: 1.2)"
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="one of docs/metrics.md, as t50_s (default: t100_s, and publish_s of uploads)"
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="(default: table)")
    parser.add_argument(
        "--fail-on",
        choices=GATES,
        default="never",
        help="exit 1 if a cell is over the margin for sure, of all cells together (confirmed) or on its own "
        "(regression), or if any is not within it for sure (inconclusive)",
    )
    parser.add_argument(
        "--same-place", action="store_true", help="refuse what was measured on other machines, or in another way"
    )


def _margin(text: str) -> float:
    """A ratio over 0; argparse says which option is wrong."""
    try:
        margin = float(text)
    except ValueError:
        margin = math.nan
    if not 0 < margin < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no ratio; 1.2 lets B be 20 % worse than A")
    return margin


def _compare(options: argparse.Namespace) -> int:
    from pytest_codexbench.reports.compare import FORMATS, match
    from pytest_codexbench.reports.compare.gate import shut
    from pytest_codexbench.reports.compare.places import refuse_other_places
    from pytest_codexbench.reports.compare.sides import sides
    from pytest_codexbench.reports.compare.words import finding, notes

    told = match(*sides(options.sides), options.metric, options.margin)
    if options.same_place:
        refuse_other_places(told.differences)
    status = GATE_SHUT if shut(told, options.fail_on) else 0
    module = import_module(f"pytest_codexbench.reports.compare.{FORMATS[options.format]}")
    if options.format == "table":
        from rich.console import Console

        module.render(told, Console())
    else:
        sys.stdout.write(module.document(told))
    if options.format in ("csv", "github-action-benchmark"):  # which have no place for words
        for note in (*map(str, told.differences), *notes(told)):
            print(note, file=sys.stderr)
    if status:
        print(f"codexbench: --fail-on={options.fail_on}: {finding(told)}", file=sys.stderr)
    return status


def _systems(options: argparse.Namespace) -> None:
    from pytest_codexbench.matrix import variant_named
    from pytest_codexbench.options import with_programs
    from pytest_codexbench.systems import find, names, passes_messages

    for name in names():
        try:
            system = find(name)
        except WrongInput as error:
            print(f"{name:12} {error}")
            continue
        variants = [v for v in BUILT_IN.values() if v.system == name] or [variant_named(name, BUILT_IN)]
        variants = list(with_programs(variants, _asked(options)))
        missing = system.missing(variants[0])
        state = f"cannot run here: {missing}" if missing else ", ".join(system.versions(variants[0]).values())
        print(f"{name:12} {state}")
        what = "passes messages" if passes_messages(system) else f"views: {', '.join(system.views)}"
        print(f"{'':12} {what}; to publish: {system.publishing}")
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


PLAN_OPTIONS = ("systems", "rounds", "seed", "link", "deadline", "backend")


def _plan_options(parser: argparse.ArgumentParser) -> None:
    """The options that make a plan, each with its own variable in the environment, as pytest takes them."""
    parser.add_argument("--matrix", metavar="NAME|FILE", help="as pytest's (default: $CODEXBENCH_MATRIX)")
    for name in PLAN_OPTIONS:
        parser.add_argument(
            f"--{name}", metavar="VALUE", help=f"as pytest's --cb-{name} (default: $CODEXBENCH_{name.upper()})"
        )


def _asked(options: argparse.Namespace) -> Callable[[str], str | None]:
    """What is asked for by these options, else by the environment."""

    def asked(name: str) -> str | None:
        key = name.replace("-", "_")
        given = getattr(options, key, None) or os.environ.get(f"CODEXBENCH_{key.upper()}")
        return str(given) if given else None

    return asked


def _plan_asked(options: argparse.Namespace) -> Callable[[str], str | None]:
    """The same for a plan.

    Raises:
        WrongInput: without a matrix.
    """
    asked = _asked(options)
    if asked("matrix") is None:
        raise WrongInput("--matrix is needed: a name, as smoke, or a file; `codexbench matrices` lists the names")
    return asked


def _emit_options(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    blocks = _command(commands, "blocks", _emit_blocks, "the names of a matrix's blocks, as a JSON list")
    _plan_options(blocks)
    standing = _command(
        commands, "applicationset", _emit_set, "clusters for Argo CD: a file for each, and the ApplicationSet"
    )
    _plan_options(standing)
    standing.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    standing.add_argument("--repository", required=True, metavar="URL", help="of Git, with the files and the charts")
    standing.add_argument("--revision", default="main", metavar="NAME", help="branch, tag or commit (default: main)")
    standing.add_argument("--path", required=True, metavar="DIR", help="where DIR of --output is in the repository")
    standing.add_argument("--charts", default="charts", metavar="DIR", help="where the charts are (default: charts)")
    standing.add_argument("--agent-image", metavar="IMAGE", help="image of the agents, by tag or digest")
    standing.add_argument("--image-registry", metavar="HOST[/PATH]", help="of all images whose name begins with none")
    standing.add_argument(
        "--no-self-heal", action="store_true", help="leave what was changed by hand, or by faults, as it is"
    )


def _emit_blocks(options: argparse.Namespace) -> None:
    import json

    from pytest_codexbench.steps import blocks

    print(json.dumps(blocks(_plan_asked(options))))


def _emit_set(options: argparse.Namespace) -> None:
    from pytest_codexbench.standing import Source, write

    source = Source(options.repository, options.revision, options.path, options.charts)
    for path in write(_plan_asked(options), source, options.output, not options.no_self_heal):
        print(path)


def _step_options(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    block = _command(commands, "block", _block, "measure one block of a matrix, or what an earlier try of it lacks")
    block.add_argument("name", metavar="BLOCK", help="as `codexbench emit blocks` names it")
    _plan_options(block)
    block.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    block.epilog = (
        "Exit status: 0 all rounds are recorded, however they went; 75 some are not: try again; 2 wrong input."
    )
    parts = _command(commands, "gather", _gather, "make one run, with all documents, of runs of parts of one plan")
    parts.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs, or folders of results")
    parts.add_argument("--output", type=Path, required=True, metavar="DIR", help="the new run's folder")


def _block(options: argparse.Namespace) -> int:
    from pytest_codexbench.steps import run_block

    asked = _plan_asked(options)
    # pytest finds in its environment what was given here
    for name in ("matrix", *PLAN_OPTIONS):
        if value := asked(name):
            os.environ[f"CODEXBENCH_{name.upper()}"] = value
    lacks = run_block(options.name, options.results, asked, options.arguments)
    for text in lacks:
        print(f"codexbench: block {options.name}: {text}", file=sys.stderr)
    return TRY_AGAIN if lacks else 0


def _gather(options: argparse.Namespace) -> int:
    from pytest_codexbench.steps import gather

    lacks = gather(options.folders, options.output)
    for text in lacks:
        print(f"codexbench: lacking: {text}", file=sys.stderr)
    print(options.output)
    return GATE_SHUT if lacks else 0


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
