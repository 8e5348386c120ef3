"""The plugin as its users meet it: options, ids, selection, outcomes, results."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec

import pytest
from benches import Bench

TWO_SYSTEMS = """
shapes = [[2, 1], [3, 1]]
sizes = ["1MB", "2MB"]
rounds = 1
[systems.bittorrent]
[systems.http]
"""


def test_an_unrelated_run_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    """A pytest run that has nothing to do with us does not pay for our libraries."""
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            heavy = {"requests", "rich", "pydantic", "kubernetes", "libtorrent", "cryptography", "psutil", "filelock"}
            assert "pytest_codexbench.plugin" in sys.modules
            assert set() == heavy & set(sys.modules)
        """
    )

    run = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:schemathesis")

    run.assert_outcomes(passed=1)


def test_anybody_may_have_a_cell_fixture(pytester: pytest.Pytester) -> None:
    """A project with a fixture of the same name as ours, and no interest in us, runs as before."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def cell():
            return "battery"

        def test_voltage(cell):
            assert "battery" == cell
        """
    )

    run = pytester.runpytest_subprocess("--strict-markers")

    run.assert_outcomes(passed=1)


def test_without_a_matrix_cells_are_left_out(bench: Bench) -> None:
    """A plain pytest deselects the benchmarks and says how to run them."""
    run = bench.pytester.runpytest_subprocess()

    assert pytest.ExitCode.NO_TESTS_COLLECTED == run.ret
    run.stdout.fnmatch_lines(["*1 benchmarks were left out*pytest --matrix=smoke*"])


@pytest.mark.parametrize(
    "option, text",
    [
        ("--matrix=smok", "--matrix=smok: no such preset"),
        ("--matrix=absent.toml", "absent.toml"),
        ("--cb-systems=gopher", "no system 'gopher'; installed ones: bittorrent"),
        ("--cb-systems=bittorrent.fast", "bittorrent.fast"),
        ("--cb-rounds=0", "--cb-rounds=0"),
        ("--cb-link=fast", "--cb-link=fast"),
        ("--cb-budget=soon", "--cb-budget=soon"),
        ("--cb-deadline=-1", "--cb-deadline=-1"),
        ("--cb-backend=moon", "--cb-backend=moon: no such backend"),
        ("--cb-data=/absent", "--cb-data=/absent: no such folder"),
        ("--cb-systems=", "--cb-systems= is empty"),
        ("--matrix=", "--matrix= is empty"),
        ("--cb-resume=yesterday", "--cb-resume=yesterday: no such run"),
        ("--cb-results=/proc/nothing", "--cb-results=/proc/nothing"),
    ],
)
def test_wrong_input_ends_before_anything_starts(bench: Bench, option: str, text: str) -> None:
    """Every wrong option is a usage error that names it, its value and what would be right; nothing is left."""
    run = bench.run(option)

    assert pytest.ExitCode.USAGE_ERROR == run.ret
    assert text in run.stderr.str() + run.stdout.str()
    assert "Traceback" not in run.stderr.str() + run.stdout.str()
    assert [] == bench.folders


@pytest.mark.parametrize(
    "variant, text",
    [
        ('[systems."http.x"]\nprofile = "y"', "system http.x: profile = 'y': no such setting; there are none"),
        ('[systems."bittorrent.x"]\npiece_sze = 3', "piece_sze = 3: no such setting; there are profile, piece_size"),
        ('[systems."bittorrent.x"]\npiece_size = 1000', "piece_size = 1000: a power of two"),
        ('[systems."bittorrent.x"]\nprofile = "fast"', "profile = 'fast': no such profile"),
        ("[systems.bittorrent.x]\nprofile = 'stock'", 'write its name in quotes: [systems."bittorrent.x"]'),
    ],
)
def test_a_variants_settings_are_checked(bench: Bench, variant: str, text: str) -> None:
    """A mistyped setting is never measured under a variant's name: it is refused before anything starts."""
    bench.matrix(f'shapes = [[2, 1]]\nsizes = ["1MB"]\n{variant}\n')

    run = bench.run("--collect-only")

    assert pytest.ExitCode.USAGE_ERROR == run.ret
    assert text in run.stderr.str()


@pytest.mark.parametrize("mark", ['"downlod"', 'kind="uplod"', 'sort="upload"', '"download", "upload"'])
def test_an_unknown_experiment_is_refused(bench: Bench, mark: str) -> None:
    """What a test asks for is known, or its collection fails and says what there is."""
    bench.pytester.makepyfile(
        test_spread=f"import pytest\n@pytest.mark.experiment({mark})\ndef test_it(cell, rounds):\n    pass\n"
    )

    run = bench.run("--collect-only")

    run.stdout.fnmatch_lines(["*is not known; there are 'download', 'upload'*"])
    assert pytest.ExitCode.INTERRUPTED == run.ret


def test_a_test_without_the_mark_is_told_of_it(bench: Bench) -> None:
    """Whoever asks for a cell and forgets the mark reads which one."""
    bench.pytester.makepyfile(test_spread="def test_it(cell):\n    pass\n")

    run = bench.run()

    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines(["*@pytest.mark.experiment*"])


def test_a_folder_without_benchmarks_says_where_some_are(pytester: pytest.Pytester) -> None:
    """A matrix with nothing to run it on is the newcomer's first mistake."""
    pytester.makepyfile("def test_other():\n    pass\n")

    run = pytester.runpytest_subprocess("--matrix=smoke")

    run.stdout.fnmatch_lines(["*no benchmarks were found here*--pyargs pytest_codexbench.suite*"])


def test_benchmarks_of_another_kind_than_the_matrix_are_told(bench: Bench) -> None:
    """No items, and the reason: what is here downloads, and the matrix asks for something else."""
    bench.matrix('shapes = [[2, 1]]\nsizes = ["1MB"]\nexperiments = ["upload"]\n[systems.http]\n')

    run = bench.run()

    run.assert_outcomes()
    run.stdout.fnmatch_lines(["codexbench: the benchmarks found here measure no upload; the package's own: *"])


def test_another_way_of_distributing_is_refused(bench: Bench) -> None:
    """Under worksteal a block would be measured by every worker."""
    run = bench.run("-n", "2", "--dist", "worksteal")

    assert pytest.ExitCode.USAGE_ERROR == run.ret
    assert "--dist=worksteal" in run.stderr.str()


def test_ids_tell_the_cell(bench: Bench) -> None:
    """A test's id names system, nodes, seeders and size, with zeros in front."""
    bench.matrix(TWO_SYSTEMS)

    run = bench.run("--collect-only", "-q")

    assert [
        f"test_spread.py::test_spread[{system}-{shape}-s01-{size}]"
        for shape in ("n02", "n03")
        for size in ("1MB", "2MB")
        for system in ("bittorrent", "http")
    ] == [line for line in run.outlines if "::" in line]
    assert [] == bench.folders


@pytest.mark.parametrize(
    "arguments, count",
    [
        (("-k", "http-n"), 4),
        (("-k", "n02 and 1MB"), 2),
        (("-k", "n03 and not bittorrent"), 2),
        (("-m", "cell(system='http', nodes=2)"), 2),
        (("-m", "cell(size='2MB', seeders=1)"), 4),
        (("-m", "cell(seeders=2)"), 0),
    ],
)
def test_cells_are_selected(bench: Bench, arguments: tuple[str, ...], count: int) -> None:
    """``-k`` selects by parts of the id, ``-m cell(...)`` exactly; strict markers do not mind."""
    bench.matrix(TWO_SYSTEMS)

    run = bench.run("--collect-only", "-q", "--strict-markers", *arguments)

    assert count == sum("::" in line for line in run.outlines)


def test_a_plan_runs_nothing(bench: Bench) -> None:
    """``--cb-plan`` tells cells, rounds, bytes, disk, memory and time, and starts nothing."""
    bench.matrix(TWO_SYSTEMS)

    run = bench.run("--cb-plan", "--cb-rounds=5")

    assert 0 == run.ret
    run.stdout.fnmatch_lines(
        [
            "*nothing is run*",
            "*cells*8*",
            "*rounds*40 (5 a cell)*",
            "*bytes*90 MB over the links*",
            "*disk*8 MB at the most*",
            "*memory*",
            "*time*about*",
            "*http-n03-s01-2MB*",
        ]
    )
    assert [] == bench.folders


def test_rounds_are_recorded_and_every_document_is_written(bench: Bench) -> None:
    """A run leaves its records and all documents; cells of one size share one cluster a system."""
    bench.matrix(TWO_SYSTEMS)

    run = bench.run("-k", "n02", "--junitxml=own.xml", "--benchmark-json=own.json")

    run.assert_outcomes(passed=4, deselected=4)
    story = bench.story()
    assert 4 == sum(1 for _ in story.measured())
    # each cluster warms up once, so warm-ups count the clusters that were started
    assert 2 == sum(round_.warmup for round_ in story.rounds)
    names = {
        "run.json",
        "records.jsonl",
        "results.json",
        "benchmark.json",
        "junit.xml",
        "report.html",
        "report.md",
        "logs",
    }
    assert names == {path.name for path in bench.folder.iterdir() if not path.name.startswith(".")}
    assert "*\n" == (bench.folder.parent / ".gitignore").read_text()
    assert {"n00.log", "n01.log", "tracker.log"} <= {p.name for p in (bench.folder / "logs").glob("bittorrent-n02/*")}


def test_junit_and_pytest_benchmark_carry_the_numbers(bench: Bench) -> None:
    """Pytest's own JUnit file has properties and readable text; --benchmark-json has an entry a metric."""
    bench.run("--junitxml=own.xml", "--benchmark-json=own.json")

    case = ET.parse(bench.pytester.path / "own.xml").getroot().find(".//testcase")  # noqa: S314 - our own file
    assert case is not None
    properties = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert any("t100_s" in str(name) for name in properties)
    assert "t100_s" in str(case.findtext("system-out"))
    benchmarks = json.loads((bench.pytester.path / "own.json").read_text())["benchmarks"]
    assert "t100_s" in {entry["group"] for entry in benchmarks}
    assert 2 == len(benchmarks[0]["stats"]["data"])


def test_the_step_summary_has_the_table(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With $GITHUB_STEP_SUMMARY set, the table is appended to that file."""
    summary = bench.pytester.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    bench.run()

    text = summary.read_text()
    assert text.startswith("before\n")
    assert "| http" in text or "http-n02-s01-1MB" in text


def test_under_xdist_the_clusters_of_one_size_stay_with_one_worker(bench: Bench) -> None:
    """With ``-n 2`` each cluster is still started once, and nothing is lost in the documents."""
    bench.matrix(TWO_SYSTEMS)

    run = bench.run("-n", "2", "-v", "--junitxml=own.xml", "--benchmark-json=own.json")

    run.assert_outcomes(passed=8)
    story = bench.story()
    assert 8 == sum(1 for _ in story.measured())
    assert 4 == sum(round_.warmup for round_ in story.rounds)
    assert {2} == {round_.environment.workers for round_ in story.measured()}
    assert 8 == len(ET.parse(bench.pytester.path / "own.xml").findall(".//testcase"))  # noqa: S314 - our own file
    assert ["passed"] * 8 == [cell["status"] for cell in bench.results()["cells"] if cell["kind"] == "download"]
    workers = {
        (line.partition("[")[2].partition("]")[0], line.partition("-n0")[2][:1])
        for line in run.outlines
        if "PASSED" in line
    }
    assert 2 == len(workers)


def test_the_same_seed_draws_the_same(bench: Bench) -> None:
    """The same seed makes the same files, seeders and handles; another seed makes others."""
    for seed in ("7", "7", "8"):
        bench.run(f"--cb-seed={seed}", f"--cb-results=seed{seed}")

    drawn = [
        [(line["seed"], line["seeders"], line["digest"]) for line in map(json.loads, journal.read_text().splitlines())]
        for journal in sorted(bench.pytester.path.glob("seed*/*/records.jsonl"))
    ]
    first, again, other = drawn
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_a_budget_is_kept(bench: Bench) -> None:
    """A run with a budget goes round-robin and stops in time: cells without any round are skipped and say so."""
    bench.matrix(TWO_SYSTEMS.replace("rounds = 1", "rounds = 500"))

    run = bench.run("--cb-budget=12s", "-k", "n02 and http")

    assert pytest.ExitCode.OK == run.ret
    counts = [sum(r.cell.size == size for r in bench.story().measured()) for size in (10**6, 2 * 10**6)]
    assert 0 <= counts[0] - counts[1] <= 1
    assert 0 < counts[1] < 500


def test_nodes_can_be_used_by_hand(bench: Bench) -> None:
    """The fixture ``cluster`` gives running nodes for a test of one's own."""
    bench.pytester.makepyfile(
        test_spread="""
        import pytest

        @pytest.mark.experiment("download")
        def test_by_hand(cell, cluster):
            first, second = cluster.nodes
            digest, _ = first.make("mine", 1000, 5)
            handle = first.publish("mine", 10).handle
            got = second.download(handle, 1000, [first.contact], 0, 10, lambda name, line: None)
            assert digest == second.check(got, 1000)
            assert first.token not in repr(first)

        @pytest.mark.experiment("download")
        def test_measured_afterwards(cell, rounds):
            assert rounds[0].environment.probe["wire_mb_s"]
        """
    )

    run = bench.run()

    run.assert_outcomes(passed=2)
    # what a test did by hand is not measured on: a fresh cluster was warmed up
    assert [True, False, False] == [round_.warmup for round_ in bench.story().rounds]
    assert 3 == len({round_.digest for round_ in bench.story().rounds})


def test_without_namespaces_it_runs_on_loopback_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nodes cannot have networks of their own, transfers work, wire bytes are null, a link limit is refused."""
    monkeypatch.setenv("CODEXBENCH_ISOLATION", "loopback")
    bench.matrix(TWO_SYSTEMS)

    bench.run("-k", "n03 and 2MB").assert_outcomes(passed=2, deselected=6)
    limited = bench.run("--cb-link=100mbit", "-k", "n03 and 2MB", "-rs", "--cb-results=limited")

    for round_ in bench.story().measured():
        assert round_.environment.isolation.startswith("loopback")
        assert {None} == {counters.wire_rx_bytes for counters in round_.nodes.values()}
    limited.assert_outcomes(skipped=2, deselected=6)
    limited.stdout.fnmatch_lines(["*links cannot be limited here*"])


def test_the_wire_is_counted_right(bench: Bench) -> None:
    """The bytes on the links are the payload, its headers and little more; what is sent is received, within 1 %."""
    bench.matrix('shapes = [[2, 1]]\nsizes = ["100MB"]\nrounds = 1\n[systems.bittorrent]\n[systems.http]\n')

    bench.run()

    rounds = list(bench.story().measured())
    if any(counters.wire_rx_bytes is None for round_ in rounds for counters in round_.nodes.values()):
        pytest.skip(f"no counted links here: {rounds[0].environment.wire}")
    assert 2 == len(rounds)
    for round_ in rounds:
        (leecher,) = set(round_.nodes) - set(round_.seeders)
        assert 1.04 <= (round_.nodes[leecher].wire_rx_bytes or 0) / 10**8 <= 1.2
        received = sum(counters.wire_rx_bytes or 0 for counters in round_.nodes.values())
        sent = sum(counters.wire_tx_bytes or 0 for counters in round_.nodes.values())
        assert 0.01 > abs(sent / received - 1)


@pytest.mark.skipif(find_spec("pytest_codexbench.suite") is None, reason="an editable install has no suite in it")
def test_the_installed_suite_runs_in_an_empty_folder(pytester: pytest.Pytester) -> None:
    """Whoever has the wheel alone runs the benchmarks by ``--pyargs``."""
    (pytester.path / "mine.toml").write_text('shapes = [[2, 1]]\nsizes = ["1MB"]\nrounds = 1\n[systems.http]\n')

    chosen = ("-k", "download or upload")
    run = pytester.runpytest_subprocess("--pyargs", "pytest_codexbench.suite", "--matrix=mine.toml", *chosen)

    run.assert_outcomes(passed=2, deselected=5)


def test_the_command_tells_systems_and_makes_reports_again(bench: Bench) -> None:
    """``codexbench report`` makes every document from the records, ``systems`` and ``matrices`` list what there is."""
    bench.run()
    (bench.folder / "results.json").unlink()

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "pytest_codexbench.cli", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    report = command("report", str(bench.folder))
    assert 0 == report.returncode, report.stderr
    assert (bench.folder / "results.json").exists()
    assert "libtorrent" in command("systems").stdout
    assert "39 cells a system" in command("matrices").stdout
    absent = command("report", "absent")
    assert 2 == absent.returncode
    assert "absent: no records.jsonl in it" in absent.stderr
