"""What the user asked for: command line, then environment, then ini file, then default."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import (
    BUILT_IN,
    PRESETS,
    Matrix,
    Variant,
    parse_rate,
    preset,
    rate_text,
    size_text,
    variant_named,
)
from pytest_codexbench.matrixfile import read_matrix
from pytest_codexbench.plan import Plan, blocks_of, parse_time
from pytest_codexbench.programs import checked_program, is_file

N = TypeVar("N", int, float, str, Path)

Asked = Callable[[str], str | None]
"""The value of an option by its name, as the user gave it anywhere; None where nobody did."""


# More than any budget has time for.
SOAK_ROUNDS = 100_000
# A socket's path has 107 characters at most, and a cluster's folder and node come behind this.
MOST_DATA_PATH = 70
MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``--cb-<name>``, ``codexbench_<name>`` in an ini file, ``CODEXBENCH_<NAME>`` in the environment."""

    name: str
    meta: str
    help: str
    default: str = ""
    flag: bool = False

    @property
    def argument(self) -> str:
        """As written on the command line; the matrix alone is bare."""
        return "--matrix" if self.name == "matrix" else f"--cb-{self.name}"

    @property
    def ini(self) -> str:
        """As written in an ini file."""
        return f"codexbench_{self.name.replace('-', '_')}"

    @property
    def variable(self) -> str:
        """As written in the environment."""
        return self.ini.upper()


OPTIONS = (
    Option("matrix", "NAME|FILE", f"what to measure: {', '.join(PRESETS)}, or a file (.toml); without it nothing"),
    Option("backend", "NAME", "where clusters run: local, kubernetes", "local"),
    Option("systems", "NAMES", "systems and variants, by comma; default: the matrix file's, else bittorrent,http"),
    Option("rounds", "N", "rounds a cell; default: the matrix's own"),
    Option("budget", "TIME", "stop in time, as in 90s, 10m, 8h: every cell has k rounds before any has k+1"),
    Option("seed", "N", "number from which bytes, seeders and orders are drawn", "1"),
    Option("results", "DIR", "folder for the results of runs", "results"),
    Option("data", "DIR", "folder for the nodes' data while they run; default: the system's folder for such files"),
    Option("resume", "RUN", "go on with a run: its id or folder; 'latest' is the latest of the same plan"),
    Option("plan", "", "say what would run (cells, rounds, bytes, disk, memory, hours) and run nothing", flag=True),
    Option(
        "codex-bin", "PATH", "program of the Codex nodes; default: `codex` or `storage` on PATH, or a variant's bin"
    ),
    Option("ipfs-bin", "PATH", "Kubo's program; default: `ipfs` on PATH, or a variant's bin"),
    Option("gowaku-bin", "PATH", "go-waku's program; default: `waku` on PATH, or a variant's bin"),
    Option("nwaku-bin", "PATH", "nwaku's program; default: `wakunode2` or `wakunode` on PATH, or a variant's bin"),
    Option("kube-context", "NAME", "context of the kubeconfig; default: its current one"),
    Option("helm", "PATH", "Helm's program; default: `helm` on PATH"),
    Option("agent-image", "IMAGE", "image of the agents, by tag or digest; default: the charts'"),
    Option(
        "image-registry", "HOST[/PATH]", "registry of all images whose name begins with none; default: the hosts' own"
    ),
    Option("keep-clusters", "", "leave swarms on Kubernetes as they are when the run ends, to look at", flag=True),
    Option("values", "FILE", "more values for every chart (.yaml): storage, node selectors, pull secrets"),
    Option("metrics-port", "PORT", "tell a Prometheus on this machine of the run and its nodes, at 127.0.0.1:PORT"),
    Option("metrics-url", "URL", "Prometheus or VictoriaMetrics whose series of each round are kept with its record"),
    Option("deadline", "TIME", "how long a transfer may take, as in 90s; default: 60 s and 1 s for each MB"),
    Option("link", "RATE", "limit of each node's link in both directions, as in 100mbit; default: none"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """The effective options. ``budget_s`` and ``deadline_s`` are seconds, ``link`` is bits a second."""

    matrix: Matrix
    matrix_text: str
    backend: str
    budget_s: float | None
    seed: int
    results: Path
    data: Path | None
    resume: str | None
    plan: bool
    deadline_s: float | None
    kube_context: str | None = None
    helm: str | None = None
    agent_image: str | None = None
    values: Path | None = None
    image_registry: str | None = None
    keep_clusters: bool = False
    metrics_port: int | None = None
    metrics_url: str | None = None
    programs: Mapping[str, str] = field(default_factory=dict)
    messengers: tuple[Variant, ...] = ()

    @property
    def whole_plan(self) -> Plan:
        """All cells of the matrix, whatever is selected of them."""
        matrix = self.matrix
        return Plan(matrix.name, blocks_of(matrix), matrix.rounds, self.seed, self.backend, self.deadline_s)

    def variant(self, name: str) -> Variant:
        """A variant by its name: one of the matrix, or built in, or plainly of the system of that name.

        Raises:
            WrongInput: if there is no such system.
        """
        own = {variant.name: variant for variant in (*self.matrix.variants, *self.messengers)}
        (found,) = with_programs([variant_named(name, {**BUILT_IN, **own})], self.programs.get)
        return found

    @property
    def where(self) -> list[tuple[str, str | Path | None]]:
        """The options that say where clusters run, and how to get there; those of the usual place are none."""
        if self.backend == "local":
            return []
        return [
            ("--cb-backend", self.backend),
            ("--cb-kube-context", self.kube_context),
            ("--cb-helm", self.helm),
            ("--cb-agent-image", self.agent_image),
            ("--cb-image-registry", self.image_registry),
            ("--cb-values", self.values),
        ]

    def lines(self) -> list[str]:
        """For people: what was asked for."""
        matrix = self.matrix
        links = ", ".join(rate_text(link) or "no limit" for link in matrix.links)
        return [
            f"matrix {self.matrix_text}: {len(matrix.pairs)} shapes (nodes, seeders) x "
            f"{', '.join(size_text(size) for size in matrix.sizes)} x {', '.join(v.name for v in matrix.variants)}"
            + (f" ({matrix.dropped} pairs dropped: no leecher left)" if matrix.dropped else ""),
            f"rounds {matrix.rounds}, seed {self.seed}, links {links}, backend {self.backend}, results {self.results}"
            + (f", budget {self.budget_s:g} s" if self.budget_s else "")
            + (f", deadline {self.deadline_s:g} s" if self.deadline_s else "")
            + (f", data {self.data}" if self.data else "")
            + (f", resume {self.resume}" if self.resume else ""),
        ]


def read_options(asked: Asked) -> Options:
    """The effective options, every one checked before anything starts.

    Raises:
        WrongInput: naming the option, its value and what would be right.
    """
    # not at the top: these options are declared at the start of every pytest, with a matrix or not
    from pytest_codexbench.series import Database

    def value(name: str) -> str | None:
        given = asked(name)
        if given == "":
            raise WrongInput(f"{_OPTION[name].argument}= is empty; give a value, or leave it out")
        return given if given is not None else _OPTION[name].default or None

    text = value("matrix") or ""
    chosen, known = _matrix(text)
    if names := value("systems"):
        chosen = chosen.with_variants(_variants(names, known))
    chosen = chosen.with_variants(tuple(with_programs(chosen.variants, value)))
    try:
        chosen, messengers = _apart(chosen)
    except WrongInput as error:
        raise WrongInput(f"{f'--cb-systems={names}' if names else f'--matrix={text}'}: {error}") from error
    if link := value("link"):
        chosen = chosen.with_links((_checked("link", link, parse_rate),))
    if rounds := value("rounds"):
        chosen = chosen.with_rounds(_whole("rounds", rounds, 1))
    chosen = _unending(chosen) if value("budget") and not rounds else chosen
    backend = value("backend") or ""
    if backend not in BACKENDS:
        raise WrongInput(f"--cb-backend={backend}: no such backend; there are: {', '.join(BACKENDS)}")
    registry = value("image-registry")
    if registry and not REGISTRY.fullmatch(registry):
        raise WrongInput(f"--cb-image-registry={registry}: a host is needed, as in registry.example:5000/mirror")
    keep = _truth("keep-clusters", value("keep-clusters"))
    if keep and backend != "kubernetes":
        raise WrongInput(
            "--cb-keep-clusters: on this machine swarms end with the run; it goes with --cb-backend=kubernetes"
        )
    budget, deadline = value("budget"), value("deadline")
    return Options(
        matrix=chosen,
        matrix_text=text,
        backend=backend,
        budget_s=_checked("budget", budget, parse_time) if budget else None,
        seed=_whole("seed", value("seed") or "1", 0),
        results=_checked("results", value("results") or "results", _folder),
        data=_data_folder(data) if (data := value("data")) else None,
        resume=str(_checked("resume", resume, _folder)) if (resume := value("resume")) else None,
        plan=_truth("plan", value("plan")),
        deadline_s=_checked("deadline", deadline, parse_time) if deadline else None,
        kube_context=value("kube-context"),
        helm=value("helm"),
        agent_image=value("agent-image"),
        values=_checked("values", values, _file) if (values := value("values")) else None,
        image_registry=registry,
        keep_clusters=keep,
        metrics_port=_port(port) if (port := value("metrics-port")) else None,
        metrics_url=Database(url).url if (url := value("metrics-url")) else None,
        messengers=messengers,
        programs={f"{name}-bin": path for name in BINS if (path := value(f"{name}-bin"))},
    )


def _port(text: str) -> int:
    port = _whole("metrics-port", text, 1)
    if port > MOST_PORT:
        raise WrongInput(f"--cb-metrics-port={text}: a port is at most {MOST_PORT}")
    return port


def _unending(matrix: Matrix) -> Matrix:
    """A soak ends with its time; other matrices have the rounds that they have."""
    return matrix.with_rounds(SOAK_ROUNDS) if matrix.experiments == ("stability",) else matrix


def _file(text: str) -> Path:
    if not is_file(text):
        raise WrongInput("no such file")
    return Path(text)


def _folder(text: str) -> Path:
    if "\0" in text:
        raise WrongInput("no name of a folder")
    return Path(text)


def _data_folder(text: str) -> Path:
    """The folder for the nodes' data."""
    path = Path(text).absolute()
    if len(str(path)) > MOST_DATA_PATH:
        raise WrongInput(f"--cb-data={text}: longer than {MOST_DATA_PATH} characters, too long for the nodes' sockets")
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where this user may not look
        raise WrongInput(f"--cb-data={text}: no such folder")
    if not os.access(path, os.W_OK | os.X_OK):
        raise WrongInput(f"--cb-data={text}: this user may not write there")
    return path


_OPTION: Mapping[str, Option] = {option.name: option for option in OPTIONS}
DEFAULT_SYSTEMS = "bittorrent,http"
BINS = ("codex", "ipfs", "gowaku", "nwaku")
# As the charts' schemas have it.
REGISTRY = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]([-._a-z0-9]*[a-z0-9])?)*")
BACKENDS = ("local", "kubernetes")


def _matrix(text: str) -> tuple[Matrix, Mapping[str, Variant]]:
    default = _variants(DEFAULT_SYSTEMS, BUILT_IN)
    if text.endswith(".toml") or "/" in text:
        return read_matrix(Path(text), default)
    return preset(text, default), BUILT_IN


def _variants(names: str, known: Mapping[str, Variant]) -> tuple[Variant, ...]:
    words = [word.strip() for word in names.split(",") if word.strip()]
    if not words:
        raise WrongInput(f"--cb-systems={names!r}: at least one system is needed, as in bittorrent,http")
    if doubled := {word for word in words if words.count(word) > 1}:
        raise WrongInput(f"--cb-systems={names}: {', '.join(sorted(doubled))} is named twice")
    try:
        return tuple(variant_named(word, known) for word in words)
    except WrongInput as error:
        raise WrongInput(f"--cb-systems={names}: {error}") from error


def _apart(chosen: Matrix) -> tuple[Matrix, tuple[Variant, ...]]:
    """The matrix of those variants that store files; those that pass messages, which a file may define for tests.

    Raises:
        WrongInput: if none is left, or a system is not known.
    """
    from pytest_codexbench.systems import find, passes_messages

    messengers = tuple(variant for variant in chosen.variants if passes_messages(find(variant.system)))
    if not messengers:
        return chosen, ()
    others = tuple(variant for variant in chosen.variants if variant not in messengers)
    if not others:
        raise WrongInput(
            f"system {messengers[0].name}: it passes messages, and stores no file; tests with `deployments` use it"
        )
    return chosen.with_variants(others), messengers


def with_programs(variants: Iterable[Variant], asked: Asked) -> Iterator[Variant]:
    """The variants; those of Codex and IPFS that name no program of their own have the one that was asked for.

    Raises:
        WrongInput: if what was asked for is no program.
    """
    programs = {name: _checked(f"{name}-bin", text, checked_program) for name in BINS if (text := asked(f"{name}-bin"))}
    for variant in variants:
        program = programs.get(variant.system)
        if program is None or variant.setting("bin"):
            yield variant
        else:
            yield replace(variant, settings=tuple(sorted({**dict(variant.settings), "bin": program}.items())))


def _checked(name: str, text: str, parse: Callable[[str], N]) -> N:
    try:
        return parse(text)
    except WrongInput as error:
        raise WrongInput(f"{_OPTION[name].argument}={text}: {error}") from error


def _whole(name: str, text: str, least: int) -> int:
    if not re.fullmatch("[0-9]{1,15}", text) or int(text) < least:
        raise WrongInput(f"{_OPTION[name].argument}={text}: a whole number from {least} on is needed")
    return int(text)


def _truth(name: str, text: str | None) -> bool:
    words = {None: False, "": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
    key = text.lower() if text else None
    if key not in words:
        raise WrongInput(f"{_OPTION[name].argument}={text}: true or false is needed")
    return words[key]
