"""The hooks, options and fixtures that make pytest measure; decides nothing."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_codexbench.backends import Backend, Cluster
    from pytest_codexbench.campaign import Campaign
    from pytest_codexbench.forecast import Experience
    from pytest_codexbench.matrix import Block, Cell
    from pytest_codexbench.options import Options
    from pytest_codexbench.plan import Plan
    from pytest_codexbench.progress import Events, Progress
    from pytest_codexbench.records import Round
    from pytest_codexbench.run import Run
    from pytest_codexbench.staging import Stage
    from pytest_codexbench.watching import Page

NO_CELL = pytest.param(None, id="none")
RUN_INPUT = "codexbench_run"
RUN_PROPERTY = "experiment"
# How long workers may take for their ends: a swarm on Kubernetes is gone in three minutes, or never.
WORKERS_END_S = 240


def pytest_addoption(parser: pytest.Parser) -> None:
    """One group: ``--matrix`` and the ``--cb-`` options, each with its ini key."""
    from pytest_codexbench.options import OPTIONS

    group = parser.getgroup("codexbench", "codexbench: benchmarks of decentralised storage")
    for option in OPTIONS:
        default = f" (default: {option.default})" if option.default else ""
        more: dict[str, Any] = {"action": "store_const", "const": "1"} if option.flag else {"metavar": option.meta}
        if option.name == "resume":
            more |= {"nargs": "?", "const": "latest"}
        dest = f"codexbench_{option.name.replace('-', '_')}"
        group.addoption(option.argument, dest=dest, help=f"{option.help}{default}", **more)
        parser.addini(option.ini, f"like {option.argument}", default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; with a matrix, check what was asked for, before anything starts."""
    config.addinivalue_line(
        "markers",
        "cell(system, nodes, seeders, size, link, kind, disturbance): put on every cell's test, "
        'for -m "cell(seeders=1)"',
    )
    config.addinivalue_line(
        "markers", "experiment(kind): the test takes cells of that kind: download, upload, reliability or stability"
    )
    if _asked(config, "matrix") is not None:
        bench = Bench(config)
        config.pluginmanager.register(bench, "codexbench-bench")
        config.pluginmanager.register(Finish(bench), "codexbench-finish")


def _asked(config: pytest.Config, name: str) -> str | None:
    """The value of an option as given on the command line, in the environment or in the ini file."""
    ini = f"codexbench_{name.replace('-', '_')}"
    given: str | None = config.getoption(ini)
    # an empty variable or ini key is one that was not set; an empty option is a mistake that is told
    return given if given is not None else os.environ.get(ini.upper()) or config.getini(ini) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a matrix there are no cells to run."""
    if config.pluginmanager.has_plugin("codexbench-bench"):
        return
    cells = [item for item in items if _kind(item) or _staged(item)]
    if cells:
        items[:] = [item for item in items if not (_kind(item) or _staged(item))]
        config.hook.pytest_deselected(items=cells)
        config.stash[LEFT_OUT] = len(cells)


LEFT_OUT = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how cells are run, where they were left out."""
    if LEFT_OUT in config.stash:
        terminalreporter.write_line(
            f"{config.stash[LEFT_OUT]} benchmarks were left out: they need a matrix, as in pytest --matrix=smoke"
        )


def _kind(item: pytest.Item) -> str | None:
    """The experiment that a test asks for; None for any other test."""
    mark = item.get_closest_marker("experiment")
    if mark is None or "cell" not in getattr(item, "fixturenames", ()):
        return None
    from pytest_codexbench.matrix import EXPERIMENTS

    given = [*mark.args, *mark.kwargs.values()]
    if len(given) > 1 or set(mark.kwargs) - {"kind"} or (given and given[0] not in EXPERIMENTS):
        text = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
        raise pytest.Collector.CollectError(
            f"{item.nodeid}: experiment({text}) is not known; there are {', '.join(map(repr, EXPERIMENTS))}"
        )
    return str(given[0]) if given else "download"


def _staged(item: object) -> bool:
    """Whether a test has several deployments of its own."""
    return "deployments" in getattr(item, "fixturenames", ())


@pytest.fixture
def deployments(request: pytest.FixtureRequest, campaign: Campaign) -> Iterator[Stage]:
    """Several unrelated deployments for one test, asked for by ``want``, in rounds that are recorded."""
    yield from _bench(request).stage(request.node, campaign)


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    """The cell of the matrix that this test is about."""
    if not hasattr(request, "param"):
        pytest.fail('cells come to tests with @pytest.mark.experiment("download") or ("upload")', pytrace=False)
    found: Cell = request.param
    return found


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """Runs rounds on clusters; at its end all clusters are gone."""
    bench = _bench(request)
    with bench.new_campaign() as running:
        yield running


@pytest.fixture
def rounds(request: pytest.FixtureRequest, cell: Cell, campaign: Campaign) -> list[Round]:
    """All rounds of the cell, measured together with the other systems of its block."""
    return _bench(request).measured(request.node, cell, campaign)


@pytest.fixture
def cluster(cell: Cell, campaign: Campaign) -> Cluster:
    """A running cluster of the cell's system and size, for a test of one's own; kept for the next test."""
    if why := campaign.reason(cell):
        pytest.skip(why)
    return campaign.cluster(cell.shape)


def _bench(request: pytest.FixtureRequest) -> Bench:
    bench = request.config.pluginmanager.get_plugin("codexbench-bench")
    if bench is None:
        raise pytest.UsageError("cells need a matrix, as in pytest --matrix=smoke")
    found: Bench = bench
    return found


class Bench:
    """What the plugin does in a pytest run that has a matrix, in the controller and in each worker."""

    def __init__(self, config: pytest.Config) -> None:
        from pytest_codexbench.errors import BenchError
        from pytest_codexbench.options import read_options

        self.config = config
        self.worker: Mapping[str, Any] | None = getattr(config, "workerinput", None)
        self.run: Run | None = None
        self.progress: Progress | None = None
        self._events: Events | None = None
        self._line_ended: object = None
        self._any_bench = self._any_cell = False
        self._swept: list[str] = []
        self._page: Page | None = None
        self._workers: list[Any] = []
        try:
            self.options: Options = read_options(lambda name: _asked(config, name))
            self._check_systems()
        except BenchError as error:
            raise pytest.UsageError(str(error)) from error
        # pytest-benchmark skips whatever does not use its fixture, and refuses this together with xdist
        if hasattr(config.option, "benchmark_only"):
            config.option.benchmark_only = False
        if self.options.plan:
            config.option.numprocesses, config.option.dist = None, "no"

    def _check_systems(self) -> None:
        from pytest_codexbench.errors import WrongInput
        from pytest_codexbench.systems import find

        for variant in (*self.options.matrix.variants, *self.options.messengers):
            if wrong := find(variant.system).wrong(variant):
                raise WrongInput(f"system {variant.name}: {wrong}")
        if self.worker is None and self.config.getoption("dist", "no") not in ("no", "load"):
            raise WrongInput(
                f"--dist={self.config.getoption('dist')}: the cells of a cluster size stay with one worker; "
                "use -n alone"
            )

    @cached_property
    def plan(self) -> Plan:
        """All cells of the matrix, whatever is selected."""
        return self.options.whole_plan

    @cached_property
    def blocks(self) -> Mapping[Cell, Block]:
        """The block of each cell."""
        return {cell: block for block in self.plan.blocks for cell in block.cells}

    @cached_property
    def known(self) -> Experience:
        """What earlier runs took."""
        from pytest_codexbench.forecast import experience

        return experience(self.options.results)

    # --- collecting ---------------------------------------------------------------------------------------------------

    def pytest_report_header(self) -> list[str]:
        """The effective options."""
        head = [f"codexbench: {line}" for line in self.options.lines()]
        for short, long in self.options.matrix.ambiguous_sizes():
            head.append(f"codexbench: -k {short} also takes {long}; -m \"cell(size='{short}')\" does not")
        if self.run is not None:
            head += [f"codexbench: {line}" for line in self._swept]
            head.append(f"codexbench: run {self.run.folder}")
        return head

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A test of an experiment becomes one test a cell."""
        self._parametrize_variants(metafunc)
        kind = _kind(metafunc.definition)
        if kind is None:
            return
        cells = [cell for block in self.plan.blocks if block.kind == kind for cell in block.cells]
        self._any_bench, self._any_cell = True, self._any_cell or bool(cells)
        # of a kind that the matrix has no cells of, no item is left: see pytest_pycollect_makeitem
        metafunc.parametrize("cell", [_param(cell) for cell in cells] or [NO_CELL], indirect=True)

    def _parametrize_variants(self, metafunc: pytest.Metafunc) -> None:
        """A test of deployments that takes ``variant`` or ``variants`` comes once for each of the matrix, or pair."""
        if not _staged(metafunc.definition):
            return
        self._any_bench = self._any_cell = True
        from itertools import combinations

        variants = self.options.matrix.variants
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", variants, ids=str)
        if "variants" in metafunc.fixturenames:
            pairs = list(combinations(variants, 2))
            metafunc.parametrize("variants", pairs, ids=[f"{one}+{other}" for one, other in pairs])

    def stage(self, item: pytest.Item, campaign: Campaign) -> Iterator[Stage]:
        """The deployments of one test; at its end they are gone, and what failed in a round fails the test."""
        from pytest_codexbench.staging import Frame, Stage, failures

        frame = Frame(item.name, self.plan.rounds, self.plan.seed, min(self.options.matrix.sizes))
        stage = Stage(campaign, frame, self.options.variant, pytest.skip)
        try:
            yield stage
        finally:
            stage.close()
        for meeting in stage.meetings:
            item.user_properties += [(f"{meeting.index}.{name}", value) for name, value in meeting.measures.items()]
        if found := failures(stage.meetings):
            pytest.fail("\n".join(found), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(self) -> Generator[None, Any, Any]:
        """No item of a test whose kind has no cells in this matrix."""
        made = yield
        return [item for item in made if _has_cell(item)] if isinstance(made, list) else made

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Tests in the order of the plan, so that each cluster is brought up once."""
        from pytest_codexbench.plan import by_cluster

        blocks = [block for _, group in by_cluster(self.plan.blocks) for block in group]
        place = {cell: index for index, block in enumerate(blocks) for cell in block.cells}
        if "download" not in self.options.matrix.experiments:  # a matrix of disturbances, or a soak, is of nothing else
            items[:] = [item for item in items if not _staged(item)]
        last = len(place)  # tests with deployments of their own come when all cells are through
        items.sort(key=lambda item: place[found] if (found := _cell_of(item)) else last if _staged(item) else -1)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """The clusters of one size stay with one worker, unless another way was asked for."""
        if config.getoption("dist") != "load":
            return None
        from pytest_codexbench.scheduling import cell_scheduler

        places = {str(cell): block for cell, block in self.blocks.items()}
        return cell_scheduler(config, log, places, together=self.options.budget_s is not None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell each worker where the run is."""
        if self.run is not None:
            node.workerinput[RUN_INPUT] = str(self.run.folder)
            # xdist's own 10 s may not do for what a worker has to take down
            node.nodemanager.EXIT_TIMEOUT = WORKERS_END_S
            self._workers.append(node)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Under xdist the controller learns from its workers what will run."""
        chosen = {nodeid.rpartition("[")[2].rstrip("]") for nodeid in ids}
        self._expect([cell for cell in self.blocks if str(cell) in chosen])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist it is known here."""
        self._expect(self._cells(session))

    def _expect(self, cells: list[Cell]) -> None:
        if self.progress is not None and self.run is not None and cells:
            try:
                self.run.select(cells)
            except OSError as error:
                raise pytest.UsageError(f"{self.run.folder} cannot be written: {error}") from error
            done = list(self.run.journal.read().measured())
            counts = {cell: sum(r.cell == cell for r in done) for cell in cells}
            most = self._rounds_in_time(cells)
            self.progress.set_rounds({str(cell): max(0, most - n) for cell, n in counts.items()})

    def _rounds_in_time(self, cells: list[Cell]) -> int:
        """How many rounds of each cell there will be: as many as are planned, or a budget has time for."""
        from pytest_codexbench.systems import needs_of

        if self.options.budget_s is None:
            return self.plan.rounds
        once_s = sum(self.known.cost(cell, needs_of(cell.shape)).seconds for cell in cells)
        return min(self.plan.rounds, 1 + int(self.options.budget_s / once_s))

    def _cells(self, session: pytest.Session) -> list[Cell]:
        return [cell for item in session.items if (cell := _cell_of(item)) in self.blocks and cell is not None]

    # --- running ------------------------------------------------------------------------------------------------------

    @cached_property
    def backend(self) -> Backend:
        """Where clusters run."""
        folder = self._folder
        logs, asked = (folder or self.options.results) / "logs", self.options
        if asked.backend == "kubernetes":
            from pytest_codexbench.backends.kubernetes import Kubernetes, Wishes

            wishes = Wishes(
                asked.kube_context,
                asked.helm,
                asked.agent_image,
                asked.values,
                asked.image_registry,
                asked.keep_clusters,
            )
            return Kubernetes(logs, folder.name if folder else "plan", wishes)
        from pytest_codexbench.backends.local import Local

        return Local(logs, asked.data)

    @property
    def _folder(self) -> Path | None:
        if self.worker is not None:
            return Path(self.worker[RUN_INPUT]) if RUN_INPUT in self.worker else None
        return self.run.folder if self.run is not None else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Open the run's folder, before any worker starts."""
        self._quieten_benchmark(session)
        self._tell_junit()
        idle = self.options.plan or self.config.option.collectonly or self.config.option.help
        if self.worker is not None or idle:
            return
        from pytest_codexbench.errors import BenchError
        from pytest_codexbench.progress import FOLDER, Progress, real_stdout
        from pytest_codexbench.systems import needs_of

        try:
            self._check_measurements()
            self.run = self._opened()
            events = self.run.folder / FOLDER
            events.mkdir(exist_ok=True)
            for old in events.iterdir():
                old.unlink()
        except (BenchError, OSError) as error:
            raise pytest.UsageError(str(error)) from error
        expected = {str(cell): self.known.cost(cell, needs_of(cell.shape)).seconds for cell in self.blocks}
        stream = real_stdout()
        live = stream.isatty() and os.environ.get("TERM") != "dumb" and not self._distributed
        self.progress = Progress(events, stream, self._fresh_line, expected, live, self._also())
        self.progress.start()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._interrupt)

    def _check_measurements(self) -> None:
        """The database that is to be asked answers, and the page for a Prometheus has its port."""
        if self.options.metrics_url:
            from pytest_codexbench.series import Database

            Database(self.options.metrics_url).check()
        if self.options.metrics_port:
            from pytest_codexbench.watching import Page

            self._page = Page(self.options.metrics_port)

    def _also(self) -> Callable[[str, Mapping[str, Any]], None]:
        """Who else hears of each event: the page for a Prometheus, if there is one."""
        if self._page is None or self.run is None:
            return lambda worker, event: None
        from pytest_codexbench.watching import Board

        told = {"run": self.run.id, "matrix": self.plan.matrix, "plan": self.plan.hash, "backend": self.plan.backend}
        self._page.board = Board(told, self.plan.rounds * len(self.plan.cells))
        return self._page.board.see

    def _interrupt(self, *_: object) -> None:
        """SIGTERM, and a terminal that closes, end a run as Ctrl-C does: clusters down, documents written."""
        with suppress(OSError):
            sys.stderr.write("\ncodexbench: terminated; taking the clusters down\n")
        for worker in self._workers:
            # a Ctrl-C at a terminal reaches all processes, this signal only one
            popen = getattr(getattr(worker.gateway, "_io", None), "popen", None)
            if popen is not None and popen.poll() is None:
                popen.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    @property
    def _distributed(self) -> bool:
        return bool(getattr(self.config.option, "numprocesses", None)) or getattr(self.config.option, "tx", []) != []

    def _opened(self) -> Run:
        from pytest_codexbench.run import new_run, plan_to_json, resumed_run
        from pytest_codexbench.systems import find

        versions: dict[str, str] = {}
        for variant in self.options.matrix.variants:
            system = find(variant.system)
            if self.options.backend == "local" and system.missing(variant) is None:
                versions |= system.versions(variant)
        asked = {
            "matrix": self.options.matrix_text,
            "deadline_s": self.options.deadline_s,
            "budget_s": self.options.budget_s,
            "called": self._called,
        }
        command = shlex.join(["pytest", *map(str, self.config.invocation_params.args)])
        told = plan_to_json(self.plan, command, asked, versions)
        environment = self.backend.environment(1)
        self._swept = list(self.backend.sweep())
        del self.backend  # the run's folder is known only now
        if self.options.resume:
            return resumed_run(self.options.results, self.options.resume, told, environment)
        return new_run(self.options.results, told, environment)

    @property
    def _called(self) -> str:
        """How pytest finds the same tests again."""
        option = self.config.option
        where = [f"{name}={value}" for name, value in self.options.where if value]
        return shlex.join(["pytest", *(["--pyargs"] if option.pyargs else []), *option.file_or_dir, *where])

    def _fresh_line(self) -> bool:
        """Whether pytest's own line is open and was not ended by us already."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return False
        reporter.flush()  # or our line would overtake what pytest has written
        line = reporter.currentfspath, reporter._tw.width_of_current_line  # noqa: SLF001 - the only one to know
        begun, self._line_ended = line[1] > 0 and line != self._line_ended, line
        return begun

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dot for a cell that passed: the lines of its rounds have told already."""
        if (
            report.when == "call"
            and report.passed
            and self.config.option.verbose <= 0
            and RUN_PROPERTY in report.keywords
        ):
            return "passed", "", "PASSED"
        return None

    def new_campaign(self) -> Campaign:
        """The campaign of this process."""
        from pytest_codexbench.campaign import Campaign, Terms
        from pytest_codexbench.progress import FOLDER, Events
        from pytest_codexbench.records import Journal
        from pytest_codexbench.series import Database

        folder = self._folder
        if folder is None:
            raise pytest.UsageError("cells run only where a run was opened")
        name = self.worker["workerid"] if self.worker else "main"
        self._events = Events(folder / FOLDER, name)
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        options = self.options
        largest = max(options.matrix.sizes)
        terms = Terms(self.plan.rounds, self.plan.seed, largest, options.deadline_s, options.budget_s, workers)
        journal = Journal(folder)
        database = Database(options.metrics_url) if options.metrics_url else None
        return Campaign(self.backend, journal, terms, self.known, self._events.say, journal.read(), database)

    def measured(self, item: pytest.Item, cell: Cell, campaign: Campaign) -> list[Round]:
        """The rounds of one test's cell; runs those of its whole block, or within a budget of all blocks."""
        from pytest_codexbench.errors import CannotRun, NotReady

        selected = set(self._cells(item.session))
        # what is held against the undisturbed rounds is run in turn with them
        beside = [block for block in self.plan.blocks if block.scenario == self.blocks[cell].scenario]
        asked = self.plan.blocks if self.options.budget_s else beside
        blocks = [block for block in asked if selected & set(block.cells)]
        campaign.run([block.only(selected) for block in blocks])
        end: CannotRun | NotReady
        try:
            rounds = campaign.rounds_of(cell)
        except (CannotRun, NotReady) as error:
            end = error
        else:
            self._annotate(item, rounds)
            return rounds
        # outside of the handler, or pytest would tell the whole chain of errors
        if isinstance(end, CannotRun):
            pytest.skip(str(end))
        pytest.fail(str(end), pytrace=False)

    def _annotate(self, item: pytest.Item, rounds: list[Round]) -> None:
        """The numbers and the logs of what failed, on the test's own report."""
        from pytest_codexbench.metrics import summarise
        from pytest_codexbench.reports.junit import properties, text

        summary = summarise(rounds)
        item.user_properties.extend((name, value) for name, value in properties(summary))
        item.add_report_section("call", "stdout", text(summary))
        for round_ in rounds:
            for transfer in round_.transfers:
                if transfer.log_tail:
                    item.add_report_section("call", f"log of {transfer.node}, round {round_.index}", transfer.log_tail)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """With ``--cb-plan``: say what would run, instead of running it."""
        if not self.options.plan or self.config.option.collectonly:
            return None
        from pytest_codexbench.campaign import Campaign, Terms
        from pytest_codexbench.errors import BenchError
        from pytest_codexbench.forecast import forecast
        from pytest_codexbench.records import Journal
        from pytest_codexbench.reports.plan import plan_lines

        terms = Terms(self.plan.rounds, self.plan.seed)
        cells = self._cells(session)
        if not cells:
            return True
        try:
            with Campaign(self.backend, Journal(self.options.results), terms, self.known, lambda event: None) as asked:
                told = forecast(cells, self.plan.rounds, asked.needs, asked.reason, self.known, self.backend.cluster_s)
        except BenchError as error:
            raise pytest.UsageError(str(error)) from error
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            for text in self.options.matrix.impossible():
                reporter.write_line(f"left out: {text}")
            for line in plan_lines(told, cells, self.plan, self.known, self.backend.room()):
                reporter.write_line(line)
            if staged := [item.name for item in session.items if _staged(item)]:
                reporter.write_line(f"  and {len(staged)} tests with several deployments, of which no cost is known:")
                for name in staged:
                    reporter.write_line(f"  {name}")
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, object, object]:
        """No bars while pytest writes."""
        if self.progress is None:
            return (yield)
        with self.progress.quiet():
            self.progress.catch_up()
            return (yield)

    # --- results ------------------------------------------------------------------------------------------------------

    def _quieten_benchmark(self, session: pytest.Session) -> None:
        """pytest-benchmark takes part in the controller alone, where all rounds come together."""
        own = getattr(session.config, "_benchmarksession", None)
        if own is not None:
            own.xdist_warning = False
            if self.worker is not None:
                own.compare = own.save = own.autosave = own.json = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Hand all rounds to pytest-benchmark before it saves and shows its own, if that was asked for."""
        own = getattr(session.config, "_benchmarksession", None)
        wanted = own is not None and (own.json or own.save or own.autosave or own.compare or own.histogram)
        if self.run is not None and own is not None and wanted:
            from pytest_codexbench.reports.benchmark import entries

            own.benchmarks.extend(entries(list(self.run.journal.read().measured())))
        return (yield)

    def _tell_junit(self) -> None:
        """GitLab and Jenkins ignore properties: the numbers also go to system-out, unless the user chose."""
        from _pytest.junitxml import xml_key

        xml = self.config.stash.get(xml_key, None)
        if xml is not None and xml.logging == "no":
            xml.logging = "system-out"

    def finish(self, exit_status: int) -> None:
        """Write all documents, from the journal alone."""
        if self._events is not None:
            self._events.close()
        if self.progress is not None:
            self.progress.end()
            self.progress = None
        if self._page is not None:
            self._page.close()
            self._page = None
        if self.run is None:
            return
        if not self.run.folder.exists():
            self.config.issue_config_time_warning(
                pytest.PytestWarning(f"codexbench: {self.run.folder} was removed during the run"), stacklevel=2
            )
            return
        try:
            self._remove_events(self.run.folder)
            self.run.end(exit_status)
        except OSError as error:
            self.config.issue_config_time_warning(
                pytest.PytestWarning(f"codexbench: how the run ended is not in {self.run.folder}: {error}"),
                stacklevel=2,
            )
        if self.run.folder.exists():
            self._write_documents(self.run.folder)

    def _remove_events(self, folder: Path) -> None:
        from pytest_codexbench.progress import FOLDER

        for path in (folder / FOLDER).glob("*.jsonl"):
            path.unlink()
        (folder / FOLDER).rmdir()

    def _write_documents(self, folder: Path) -> None:
        from pytest_codexbench.errors import BenchError
        from pytest_codexbench.records import read_journal
        from pytest_codexbench.reports import write_all
        from pytest_codexbench.reports.markdown import step_summary
        from pytest_codexbench.run import read_provenance

        try:
            write_all(folder)
            if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
                with Path(summary).open("a", encoding="utf-8") as file:
                    file.write(step_summary(read_journal(folder / "records.jsonl"), read_provenance(folder)) + "\n")
        except (BenchError, OSError) as error:
            self.config.issue_config_time_warning(pytest.PytestWarning(f"codexbench: {error}"), stacklevel=2)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """The table, where the results are, and what to try next."""
        if not self._any_cell and not self._distributed and self.worker is None:
            kinds = " and ".join(sorted({block.kind for block in self.plan.blocks}))
            found = (
                f"the benchmarks found here measure no {kinds}" if self._any_bench else "no benchmarks were found here"
            )
            terminalreporter.write_line(
                f"codexbench: {found}; the package's own: pytest --pyargs pytest_codexbench.suite"
            )
        from pytest_codexbench.run import PROVENANCE, read_provenance

        if self.run is None or not (self.run.folder / PROVENANCE).exists():
            return
        import io

        from rich.console import Console

        from pytest_codexbench.records import read_journal
        from pytest_codexbench.reports.terminal import closing_lines, render

        # the terminal's own writer alone knows its width and whether it takes colours
        writer = terminalreporter._tw  # noqa: SLF001
        page = io.StringIO()
        console = Console(
            file=page, width=writer.fullwidth, force_terminal=writer.hasmarkup, no_color=not writer.hasmarkup
        )
        story, told = read_journal(self.run.folder / "records.jsonl"), read_provenance(self.run.folder)
        render(story, told, console)
        terminalreporter.section("codexbench")
        terminalreporter.write(page.getvalue())
        for problem in story.problems:
            terminalreporter.write_line(f"journal: {problem}")
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            terminalreporter.write_line(
                f"Interrupted. {sum(1 for _ in story.measured())} rounds are kept; to go on, give the same command "
                f"with --cb-resume={self.run.id}"
            )
        for line in closing_lines(self.run.folder, told, writer.fullwidth):
            terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        """The output of progress is a descriptor of its own."""
        if self.progress is not None:
            self.progress.end()


class Finish:
    """Writes the documents when everything else of the session is over."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """After the fixtures' ends, before the terminal's summary."""
        self.bench.finish(int(exitstatus))


def _param(cell: Cell) -> Any:
    from pytest_codexbench.matrix import rate_text, size_text

    mark = pytest.mark.cell(
        system=cell.system,
        nodes=cell.shape.nodes,
        seeders=cell.seeders,
        size=size_text(cell.size),
        link=rate_text(cell.shape.link),
        kind=cell.kind,
        disturbance=cell.disturbance,
    )
    return pytest.param(cell, id=str(cell), marks=mark)


def _has_cell(item: pytest.Item) -> bool:
    """Whether a test of an experiment has something to measure; true of any other test."""
    spec = getattr(item, "callspec", None)
    return spec is None or _kind(item) is None or spec.params.get("cell") is not None


def _cell_of(item: pytest.Item) -> Cell | None:
    """The cell of a test; None for any other test."""
    spec = getattr(item, "callspec", None)
    return spec.params.get("cell") if spec is not None and _kind(item) else None
