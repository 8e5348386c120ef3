"""What was measured, as it is written down: a line a round."""

import gc
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_codexbench.matrix import BUILT_IN, Cell, Shape, Variant
from pytest_codexbench.plan import WARM_UP
from pytest_codexbench.records import (
    CORRUPT,
    FAILED,
    JOURNAL,
    LATE,
    OK,
    Counters,
    Environment,
    Journal,
    Note,
    Round,
    Transfer,
    cell_from_json,
    cell_to_json,
    read_journal,
)
from pytest_codexbench.timeline import Timeline

PLACE = Environment("local", "namespaces", {"python": "3.11"}, {"cores": 2}, "6.1", True, 1, "queues")
CELL = Cell(Shape(BUILT_IN["http"], 2), 1, 10**6)


def a_round(index: int = 0, cell: Cell = CELL, outcome: str = OK) -> Round:
    """A round with one leecher."""
    timeline = Timeline(cell.size, ((1, 1000), (cell.size, 2000)), (), (), 2000)
    transfer = Transfer("n01", "download", outcome, {"available": timeline}, {}, None if outcome == OK else "why")
    return Round(cell, index, 7, ("n00",), (transfer,), {"n00": Counters()}, PLACE, "2026-01-01T00:00:00+00:00")


# --- what a round says of itself ---


@pytest.mark.parametrize("outcome, success", [(OK, True), (CORRUPT, False), (LATE, False), (FAILED, False)])
def test_a_round_succeeds_if_every_transfer_ended_well(outcome: str, success: bool) -> None:
    """Any other outcome of any transfer fails it, with its reason."""
    assert success == a_round(outcome=outcome).success
    assert (None if success else "why") == a_round(outcome=outcome).failure


def test_a_round_with_a_missing_transfer_or_an_error_failed() -> None:
    """Every leecher has to arrive; what broke the round comes before what broke a transfer."""
    assert not replace(a_round(), transfers=()).success
    assert not replace(a_round(), error="lost").success
    assert "lost" == replace(a_round(outcome=FAILED), error="lost").failure


def test_publishing_succeeds_with_its_one_transfer() -> None:
    """An upload has one publisher and no leecher to wait for."""
    upload = Cell(CELL.shape, 1, 10**6, "upload")
    done = replace(a_round(cell=upload), transfers=(Transfer("n00", "upload", OK),))

    assert done.success
    assert not a_round(cell=upload).success
    assert not replace(done, transfers=(Transfer("n00", "upload", FAILED, error="no"),)).success


def test_a_warm_up_is_known_by_its_index() -> None:
    """Round -1 is in no statistics."""
    assert a_round(WARM_UP).warmup
    assert not a_round(0).warmup


def test_counters_grow_over_a_round() -> None:
    """What was added counts, the peak of memory stays, what one side did not tell is not told."""
    before = Counters(10, 20, None, 5, 1.5, 99, {"a": 1.0})
    after = Counters(15, 20, 7, None, 2.0, 50, {"a": 4.0, "b": 2.0})

    assert Counters(5, 0, None, None, 0.5, 50, {"a": 3.0}) == after.since(before)


# --- JSON ---

texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**15)
maybe_counts = st.none() | counts
seconds = st.dictionaries(texts, finite, max_size=3)
pairs = st.lists(st.tuples(counts, counts), max_size=4).map(tuple)
setting_values = st.booleans() | st.integers() | finite | texts
variants = st.builds(
    Variant,
    st.from_regex(r"[a-z][a-z0-9_]{0,5}(\.[a-z][a-z0-9_]{0,5})?", fullmatch=True),
    texts,
    st.dictionaries(texts, setting_values, max_size=3).map(lambda items: tuple(sorted(items.items()))),
)
cells = st.integers(2, 1000).flatmap(
    lambda nodes: st.builds(
        Cell,
        st.builds(Shape, variants, st.just(nodes), st.none() | st.integers(10**5, 10**11)),
        st.integers(1, nodes - 1),
        st.integers(1, 10**13),
        st.sampled_from(["download", "upload"]),
    )
)
timelines = st.builds(Timeline, counts, pairs, st.lists(counts, max_size=4).map(tuple), pairs, counts)
transfers = st.builds(
    Transfer,
    texts,
    st.sampled_from(["download", "upload"]),
    st.sampled_from([OK, CORRUPT, LATE, FAILED]),
    st.dictionaries(st.sampled_from(["available", "contiguous"]), timelines),
    seconds,
    st.none() | texts,
    st.none() | texts,
)
counters = st.builds(
    Counters, maybe_counts, maybe_counts, maybe_counts, maybe_counts, st.none() | finite, maybe_counts, seconds
)
environments = st.builds(
    Environment,
    texts,
    texts,
    st.dictionaries(texts, texts, max_size=3),
    st.dictionaries(texts, texts | counts | st.none(), max_size=3),
    texts,
    st.booleans(),
    counts,
    texts,
    st.dictionaries(texts, st.none() | finite, max_size=2),
)
rounds = st.builds(
    Round,
    cells,
    st.integers(-1, 1000),
    counts,
    st.lists(texts, max_size=3).map(tuple),
    st.lists(transfers, max_size=2).map(tuple),
    st.dictionaries(texts, counters, max_size=2),
    environments,
    texts,
    texts,
    texts,
    finite,
    seconds,
    st.booleans(),
    texts,
    st.lists(texts, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    st.booleans(),
    st.booleans(),
    st.none() | texts,
)


@settings(max_examples=50, deadline=None)
@given(rounds)
def test_a_round_can_be_written_down_and_read_again(round_: Round) -> None:
    """The journal is the source of truth: one line of strict JSON, and nothing is lost in it."""
    line = json.dumps(round_.to_json(), allow_nan=False)

    assert "\n" not in line
    assert round_ == Round.from_json(json.loads(line))


@given(cells)
def test_a_cell_can_be_written_down_and_read_again(cell: Cell) -> None:
    """With its id and its key, for people and scripts."""
    data = json.loads(json.dumps(cell_to_json(cell)))

    assert cell == cell_from_json(data)
    assert (str(cell), cell.key) == (data["id"], data["key"])
    assert cell.key == cell_from_json(data).key


@pytest.mark.parametrize("endless", [math.inf, -math.inf, math.nan])
def test_infinity_is_never_written(tmp_path: Path, endless: float) -> None:
    """JSON has no infinity: a mark that was not reached is absent, and a mistake does not spoil the file."""
    journal = Journal(tmp_path)
    journal.add(a_round())
    with pytest.raises(ValueError, match="JSON"):
        journal.add(replace(a_round(1), seconds={"round_s": endless}))

    assert (a_round(),) == journal.read().rounds
    assert () == journal.read().problems


# --- the journal ---


def test_what_is_added_is_read(tmp_path: Path) -> None:
    """Rounds and notes in order, warm-ups first; a round is one line."""
    journal = Journal(tmp_path)
    note = Note("skipped", CELL, "no program on PATH; give its path\nor leave it out")
    lines: list[Round | Note] = [a_round(WARM_UP), a_round(0), note, a_round(1, outcome=FAILED)]
    for line in lines:
        journal.add(line)
    story = journal.read()

    assert 4 == len((tmp_path / JOURNAL).read_bytes().splitlines())
    assert (a_round(WARM_UP), a_round(0), a_round(1, outcome=FAILED)) == story.rounds
    assert (note,) == story.notes
    assert () == story.problems
    assert [0, 1] == [round_.index for round_ in story.measured()]


def test_a_run_without_a_journal_is_empty(tmp_path: Path) -> None:
    """Nothing was measured yet."""
    story = Journal(tmp_path).read()

    assert ((), (), ()) == (story.rounds, story.notes, story.problems)


def test_the_first_of_two_records_of_a_round_counts(tmp_path: Path) -> None:
    """A round that is there twice is told of; warm-ups, one a cluster, may be there many times."""
    journal = Journal(tmp_path)
    second = replace(a_round(0), seed=8)
    for line in (a_round(WARM_UP), a_round(0), second, a_round(WARM_UP), a_round(1)):
        journal.add(line)
    story = journal.read()

    assert [WARM_UP, WARM_UP, 0, 1] == [round_.index for round_ in story.rounds]
    assert 7 == story.rounds[2].seed
    assert 1 == len(story.problems)
    assert "line 3: http-n02-s01-1MB round 0 is there already" in story.problems[0]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """A run that was killed while it wrote loses that line and no other, wherever it was cut."""
    journal = Journal(tmp_path)
    journal.add(a_round(0))
    whole = journal.path.read_bytes()
    for cut in (1, 2, len(whole) // 2, len(whole) - 2):
        journal.path.write_bytes(whole + whole[:cut])
        story = journal.read()

        assert (a_round(0),) == story.rounds
        assert 1 == len(story.problems)
        assert "line 2" in story.problems[0]


@pytest.mark.parametrize("cut", [1, 10, -2])
def test_a_writer_that_was_killed_does_not_spoil_the_next_line(tmp_path: Path, cut: int) -> None:
    """Whoever goes on begins a line of its own."""
    journal = Journal(tmp_path)
    journal.add(a_round(0))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + whole[:cut])
    journal.add(a_round(1))
    journal.add(a_round(2))
    story = journal.read()

    assert [0, 1, 2] == [round_.index for round_ in story.rounds]
    assert 1 == len(story.problems)


def test_a_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    """Killed between the last brace and the end of the line: nothing is lost."""
    journal = Journal(tmp_path)
    journal.add(a_round(0))
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    journal.add(a_round(1))
    story = journal.read()

    assert [0, 1] == [round_.index for round_ in story.rounds]
    assert () == story.problems


GOOD = a_round(5).to_json()
GARBAGE: dict[str, bytes] = {
    "no JSON": b"garbage",
    "bytes": b"\xff\xfe\x00\x80",
    "zeros": bytes(100),
    "a number": b"3",
    "a list": b"[1]",
    "null": b"null",
    "empty": b"{}",
    "no cell": json.dumps({**GOOD, "cell": None}).encode(),
    "an impossible cell": json.dumps({**GOOD, "cell": {**GOOD["cell"], "seeders": 2}}).encode(),
    "a name that cannot be": json.dumps({**GOOD, "cell": {**GOOD["cell"], "variant": "No"}}).encode(),
    "no transfers": json.dumps({**GOOD, "transfers": 3}).encode(),
    "an unknown field": json.dumps({**GOOD, "transfers": [{**GOOD["transfers"][0], "colour": 1}]}).encode(),
    "a list for an index": json.dumps({**GOOD, "index": [1]}).encode(),
    "another schema": json.dumps({**GOOD, "schema": 2}).encode(),
    "no schema": json.dumps({key: value for key, value in GOOD.items() if key != "schema"}).encode(),
    "another kind": json.dumps({**GOOD, "kind": "poem"}).encode(),
    "too many digits": b"9" * 5000,
    "a number that no counter holds": json.dumps(GOOD).replace("[[1, 1000]", f"[[1, {2**70}]").encode(),
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("line", GARBAGE.values(), ids=GARBAGE)
def test_a_line_that_cannot_be_read_is_told_of_and_left_out(tmp_path: Path, line: bytes) -> None:
    """Damage is named by its line, and costs no other line."""
    journal = Journal(tmp_path)
    journal.add(a_round(0))
    with journal.path.open("ab") as file:
        file.write(line + b"\n\n")
    journal.add(a_round(1))
    story = journal.read()

    assert (a_round(0), a_round(1)) == story.rounds
    assert 1 == len(story.problems)
    assert story.problems[0].startswith(f"{JOURNAL}, line 2: ")


def test_an_unknown_schema_is_named_with_the_one_that_is_known(tmp_path: Path) -> None:
    """A file of a later version is not misread."""
    path = tmp_path / JOURNAL
    path.write_text(json.dumps({**GOOD, "schema": 2}) + "\n")

    assert "schema 2 is not known here (this version reads 1)" in read_journal(path).problems[0]


@pytest.mark.parametrize("enabled", [True, False])
def test_reading_leaves_the_collector_as_it_was(tmp_path: Path, enabled: bool) -> None:
    """It rests while a journal is read, and only then; who switched it off finds it off."""
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        read_journal(tmp_path / JOURNAL)

        assert enabled == gc.isenabled()
    finally:
        (gc.enable if was else gc.disable)()


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_journal(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever the disk holds, reading it raises nothing, and what is added later is read."""
    journal = Journal(tmp_path_factory.mktemp("any"))
    journal.path.write_bytes(data)
    journal.add(a_round(1))

    assert (a_round(1),) == journal.read().rounds


ADD = """
import json, sys
from pathlib import Path
from pytest_codexbench.records import Journal, Round

round_ = json.loads(sys.stdin.readline())
journal = Journal(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for index in range(int(sys.argv[2]), int(sys.argv[3])):
    journal.add(Round.from_json({**round_, "index": index}))
"""


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Under xdist several workers add to one journal: 200 lines each, whole, each writer's in order."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, tmp_path, str(first), str(first + 200)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 200)
    ]
    for writer in writers:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(json.dumps(a_round().to_json()) + "\n")
        writer.stdin.flush()
        assert "ready\n" == writer.stdout.readline()
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    story = Journal(tmp_path).read()
    indices = [round_.index for round_ in story.rounds]

    assert [0, 0] == [writer.returncode for writer in writers]
    assert () == story.problems
    assert list(range(400)) == sorted(indices)
    assert list(range(200)) == [index for index in indices if index < 200]
    assert list(range(200, 400)) == [index for index in indices if index >= 200]


FULL = """
import json, resource, sys
from pathlib import Path
from pytest_codexbench.records import Journal, Round

round_ = json.loads(sys.stdin.readline())
journal = Journal(Path(sys.argv[1]))
limit = journal.path.stat().st_size * 5 // 2
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for index in range(1, 5):
    try:
        journal.add(Round.from_json({**round_, "index": index}))
    except OSError as error:
        print(index, error.errno, journal.path.stat().st_size)
"""


def test_a_full_disk_costs_no_line_that_is_there(tmp_path: Path) -> None:
    """Room for two lines and a half: the third is told of and leaves no half; later the journal goes on."""
    journal = Journal(tmp_path)
    journal.add(a_round(0))
    line = len(journal.path.read_bytes())
    full = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path],
        input=json.dumps(a_round().to_json()) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    found = journal.read()
    journal.add(a_round(9))

    assert [f"{index} 27 {2 * line}" for index in (2, 3, 4)] == full.stdout.splitlines()
    assert [0, 1] == [round_.index for round_ in found.rounds]
    assert () == found.problems
    assert [0, 1, 9] == [round_.index for round_ in journal.read().rounds]
