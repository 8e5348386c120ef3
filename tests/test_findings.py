"""The sentences of a report: what they say, and that they say no more than the statistics allow."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import stories
from stories import MB, STORIES, cell, round_of, rounds_of, run_of, story

from pytest_codexbench.matrix import BUILT_IN, Cell, Shape
from pytest_codexbench.records import Round, Story
from pytest_codexbench.reports.findings import BAD, GOOD, OPEN, SILENT, answers, findings, limited_by, limits, title
from pytest_codexbench.reports.told import Told, tell

TEN = (2.1, 1.5, 1.9, 2.4, 1.8, 2.6, 2.2, 1.7, 2.0, 2.3)
each_story = pytest.mark.parametrize("name", STORIES)


def beside(ratios: Sequence[float], base: Sequence[float] = stories.SIX, blocks: int = 1) -> Told:
    """HTTP against bittorrent: in each round of each block this many times its seconds."""
    groups, cells = [], []
    for index in range(blocks):
        first, second = (cell(name, size=(index + 1) * 10 * MB) for name in ("bittorrent", "http"))
        groups += [rounds_of(first, base), rounds_of(second, [a * b for a, b in zip(base, ratios, strict=True)])]
        cells += [first, second]
    return tell(story(*groups), run_of(*cells, rounds=len(base)))


def only_answer(told: Told) -> tuple[str, str, str]:
    """The tone, the word and the sentences of the only answer."""
    (answer,) = answers(told)
    return answer.tone, answer.word, " ".join(answer.sentences)


# --- one scenario -----------------------------------------------------------------------------------------------------


def test_a_pass() -> None:
    """An interval at or below 1.2 passes: the ratio, its interval, its coverage, its rounds."""
    tone, word, sentences = only_answer(beside((1.0, 1.2, 1.1, 1.05, 1.15, 1.1)))

    assert (GOOD, "Yes, within 1.2x") == (tone, word)
    assert (
        "With 4 nodes, 2 seeders, 10 MB, http took 1.10x [1.00..1.20] the time of bittorrent (96.9 % interval of "
        "6 rounds): within 1.2x, within 2x."
    ) == sentences


def test_faster() -> None:
    """Only an interval that lies below 1 as a whole is called faster."""
    assert (GOOD, "Yes, faster") == only_answer(beside((0.9, 0.99, 0.5, 0.6, 0.7, 0.8)))[:2]
    assert (GOOD, "Yes, within 1.2x") == only_answer(beside((0.9, 1.0, 0.5, 0.6, 0.7, 0.8)))[:2]


def test_a_fail() -> None:
    """An interval over 1.2 fails, and says what it keeps."""
    tone, word, sentences = only_answer(beside((1.3, 1.5, 1.4, 1.35, 1.45, 1.4)))

    assert (BAD, "No, over 1.2x") == (tone, word)
    assert sentences.endswith(
        "1.40x [1.30..1.50] the time of bittorrent (96.9 % interval of 6 rounds): over 1.2x, within 2x."
    )


def test_inconclusive() -> None:
    """An interval across the margin leaves it open."""
    tone, word, sentences = only_answer(beside((1.1, 1.5, 1.4, 1.35, 1.45, 1.4)))

    assert (OPEN, "Open") == (tone, word)
    assert sentences.endswith("open at 1.2x, within 2x.")


def test_a_range_claims_nothing() -> None:
    """Of five rounds there is a range in round brackets, no verdict, and that is said."""
    told = beside((9.0, 9.1, 9.2, 9.3, 9.4), stories.SIX[:5])

    tone, word, sentences = only_answer(told)

    assert (SILENT, "No verdict: fewer than 6 rounds") == (tone, word)
    assert "9.20x (9.00..9.40) the time of bittorrent (range of 5 rounds): no verdict" in sentences
    assert any("fewer than 6 rounds" in sentence for sentence in limits(told))


def test_a_median_that_was_not_reached() -> None:
    """Failures are infinite times: the ratio is not reached, and half or more of the rounds failed."""
    told = tell(*stories.failing())

    tone, word, sentences = only_answer(told)

    assert (OPEN, "Open") == (tone, word)
    assert (
        "http did not arrive in half or more of the rounds: ratio to bittorrent not reached [0.833..infinite]"
        in sentences
    )


def test_neither_arrived() -> None:
    """Where no round arrived in either there is no ratio, and the reason stands in its place."""
    cells = [cell(), cell("http")]
    told = tell(story(*(rounds_of(each, [math.inf] * 6) for each in cells)), run_of(*cells))

    assert (SILENT, "No verdict") == only_answer(told)[:2]
    assert "http has no ratio to bittorrent: neither of the two arrived in any round." in only_answer(told)[2]


def test_pairs_that_say_nothing_are_counted() -> None:
    """Pairs in which neither arrived are left out of the ratio, and that is said."""
    first, second = cell(), cell("http")
    seconds = (*stories.SIX, math.inf)
    told = tell(story(rounds_of(first, seconds), rounds_of(second, seconds)), run_of(first, second))

    assert "; in 1 more pair neither arrived: within 1.2x" in only_answer(told)[2]
    assert any(sentence.startswith("In some pairs of rounds neither system arrived") for sentence in limits(told))


def test_publishing_without_a_copy() -> None:
    """BitTorrent's publish is shown and gets no verdict, with the reason; the others' do."""
    told = tell(*stories.uploads())

    codex, bittorrent = answers(told)

    assert (BAD, "No, over 1.2x") == (codex.tone, codex.word)
    assert (SILENT, "No verdict") == (bittorrent.tone, bittorrent.word)
    assert "no verdict, since bittorrent copies nothing when it publishes" in bittorrent.sentences[0]
    assert any(sentence.startswith("Publishing copies nothing in bittorrent") for sentence in limits(told))


# --- many scenarios ---------------------------------------------------------------------------------------------------


def test_every_scenario() -> None:
    """Yes is said only if every scenario that was measured passes; a mean never stands without the worst."""
    tone, word, sentences = only_answer(beside([1.1] * 6, blocks=3))

    assert (GOOD, "Yes, within 1.2x in every scenario measured") == (tone, word)
    assert (
        "http took 1.10x the time of bittorrent in the geometric mean of 3 scenarios. Worst: 1.10x [1.10..1.10] with "
        "4 nodes, 2 seeders, " in sentences
    )
    assert "Within 1.2x in 3 of 3, over it in 0, open in 0." in sentences


def test_one_open_scenario_leaves_it_open() -> None:
    """One scenario across the margin, and none over it: neither yes nor no."""
    groups = [
        rounds_of(cell(name, size=size * MB), [factor * seconds for seconds in stories.SIX])
        for size in (10, 20)
        for name, factor in (("bittorrent", 1.0), ("http", 1.1))
    ]
    groups[1] = [
        round_of(cell("http", size=10 * MB), index, (1 + index / 5) * s) for index, s in enumerate(stories.SIX)
    ]

    assert (OPEN, "Open: within 1.2x in 1 of 2 scenarios") == only_answer(tell(story(*groups), {}))[:2]


def test_no_takes_holms_correction() -> None:
    """Ten rounds can name scenarios among nine as over the margin; how many is said with and without the correction."""
    tone, word, sentences = only_answer(beside([1.5] * 10, TEN, blocks=9))

    assert (BAD, "No, over 1.2x in 9 of 9 scenarios") == (tone, word)
    assert "over it in 9 (9 with Holm's correction), open in 0." in sentences


def test_six_rounds_name_no_scenario_among_nine() -> None:
    """Each scenario fails by itself, but not with certainty enough for nine: no plain no, and what it would take."""
    tone, word, sentences = only_answer(beside([1.5] * 6, blocks=9))

    assert (OPEN, "Over 1.2x in 9 of 9 scenarios, each taken alone") == (tone, word)
    assert "over it in 9 (none with Holm's correction, which takes 8 rounds or more), open in 0." in sentences


@pytest.mark.parametrize("rounds,sure", [(7, False), (8, True)])
def test_the_rounds_that_it_takes(rounds: int, sure: bool) -> None:
    """With as many rounds as the report asks for, nine scenarios can be named; with one less they cannot."""
    assert sure == (BAD == only_answer(beside([1.5] * rounds, TEN[:rounds], blocks=9))[0])


def test_ranges_over_scenarios() -> None:
    """Of few rounds not even a mean over scenarios is given: just what was seen."""
    told = beside((1.5, 2.5), (1.0, 2.0), blocks=2)

    tone, word, sentences = only_answer(told)

    assert (SILENT, "No verdict: fewer than 6 rounds") == (tone, word)
    assert (
        "Over 2 scenarios single rounds took from 1.50x to 2.50x the time of bittorrent: what was seen, not an "
        "interval."
    ) == sentences


# --- titles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,expected",
    [
        ("normal", "Is http as fast as bittorrent?"),
        ("single", "How fast is bittorrent?"),
        ("uploads", "Are codex and bittorrent as fast as http?"),
        ("mixed", "Are http and codex.new as fast as bittorrent?"),
        ("skipped", "Nothing was measured"),
        ("empty", "Nothing was measured"),
    ],
)
def test_the_question(name: str, expected: str) -> None:
    """A report is headed by what it answers."""
    assert expected == title(tell(*STORIES[name]()))


def test_many_systems_are_counted() -> None:
    """A title names no more systems than can be read."""
    names = ("bittorrent", "bittorrent.stock", "bittorrent.streaming", "http", "ipfs", "codex")
    told = tell(story(*(rounds_of(cell(name), (1.0,)) for name in names)), run_of(*map(cell, names)))

    assert "Are 5 systems as fast as bittorrent?" == title(told)


# --- what was found ---------------------------------------------------------------------------------------------------


def test_how_fast_and_at_what_cost() -> None:
    """Each system's speed and overhead are told from its least to its largest median, each with its interval."""
    cells = [cell(name, size=size * MB) for size in (10, 50) for name in ("bittorrent", "http")]
    told = tell(story(*(rounds_of(each, stories.SIX) for each in cells)), run_of(*cells))

    found = findings(told)

    assert (
        "http reached from 5.00 [3.85..6.67] MB/s with 4 nodes, 2 seeders, 10 MB to 25.0 [19.2..33.3] MB/s with "
        "4 nodes, 2 seeders, 50 MB."
    ) in found
    assert [1, 1] == [
        sum(each.startswith(f"On the wire {name} carried from 5.00 [5.00..5.00] % more") for each in found)
        for name in ("bittorrent", "http")
    ]


def test_failures_are_told_with_wilsons_interval() -> None:
    """How many rounds of a cell failed, the share that succeeded with its interval, and the first reason."""
    found = findings(tell(*stories.failing()))

    assert (
        "http-n04-s02-50MB: 4 of 6 rounds failed, so the median time is not reached; 33 % succeeded (95 % interval "
        "10 to 70 %). The first, round 1: http-2 had 40 % of the file at its deadline, after 110 s; the end of its "
        "log: choked <&>"
    ) in found


def test_a_system_by_itself() -> None:
    """One system alone has its own figures, and is compared with nothing."""
    *_, sentence = findings(tell(*stories.single()))

    assert (
        "bittorrent alone was measured with 2 nodes, 1 seeder, 50 MB: 2.00 s [1.50..2.60], 25.0 MB/s, 96.9 % interval "
        "of 6 rounds; there is nothing to compare it with."
    ) == sentence


def test_a_system_alone_that_never_arrived() -> None:
    """What was not reached has no unit and no speed."""
    told = tell(story(rounds_of(cell(), [math.inf] * 6)), run_of(cell()))

    assert "50 MB: not reached, 96.9 % interval of 6 rounds" in findings(told)[1]


def test_nothing_at_all() -> None:
    """An empty run says so, and nothing else."""
    told = tell(*stories.empty())

    assert ["No round was run, so there is nothing to tell of any system."] == findings(told)
    assert [] == limits(told)


def test_what_was_left_out() -> None:
    """Skipped cells and errors are told with their reason; what had no turn is a limit."""
    told = tell(*stories.skipped())

    assert f"codex-n04-s02-50MB, codex-n04-s02-10MB: skipped: {stories.WHY}." in findings(told)
    assert any("ended in an error before its first round: http-3 did not answer" in each for each in findings(told))
    assert ["1 cell had no turn: bittorrent-n04-s02-50MB."] == limits(told)


def test_many_failures_are_counted() -> None:
    """A list of failures ends where nobody would read on, with the count of the rest."""
    cells = [cell(size=size * MB) for size in range(1, 31)]
    told = tell(story(*(rounds_of(each, (math.inf,)) for each in cells)), run_of(*cells))

    assert "And 10 more cells with failures: see below." in findings(told)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_budget_that_cut_rounds() -> None:
    """Fewer rounds than planned are told, with how many there were."""
    first, second = cell(), cell("http")
    told = tell(story(rounds_of(first, (1.0, 2.0)), rounds_of(second, (1.0,))), run_of(first, second, rounds=10))

    assert "2 cells of 2 had 1 to 2 of the 10 planned rounds: bittorrent-n04-s02-50MB, http-n04-s02-50MB." in limits(
        told
    )


def test_flagged_rounds() -> None:
    """What was flagged is named, and what the verdicts would be without it."""
    told = tell(*stories.normal())

    (sentence,) = [each for each in limits(told) if each.startswith("Flagged")]
    assert (
        "Flagged rounds are counted: leechers started up to .. ms apart (1 x). Without them 0 of 1 verdicts would be "
        "another, and 1 could not be given."
    ) == sentence


def test_a_verdict_that_hangs_on_flagged_rounds() -> None:
    """A verdict that flagged rounds alone make is counted."""
    first, second = cell(), cell("http")
    slow = [round_of(second, index, 3.0, flags=("apart",)) for index in range(6, 9)]
    told = tell(
        story(rounds_of(first, [1.0] * 9), [*rounds_of(second, [1.0] * 6), *slow]), run_of(first, second, rounds=9)
    )

    assert any("Without them 1 of 1 verdicts would be another." in sentence for sentence in limits(told))


def shaped(told: tuple[Story, dict[str, Any]], link: int = 10**9) -> Told:
    """The same on limited links."""

    def moved(round_: Round) -> Round:
        old = round_.cell
        return replace(round_, cell=Cell(Shape(old.shape.variant, old.shape.nodes, link), old.seeders, old.size))

    rounds = tuple(moved(round_) for round_ in told[0].rounds)
    return tell(Story(rounds, (), ()), {})


def test_one_machine_without_limits() -> None:
    """Nodes that share a machine without limited links measure its work, and that is said; with links it is not."""
    told = stories.normal()

    assert "In all cells all nodes shared one machine without limited links" in " ".join(limits(tell(*told)))
    assert "without limited links" not in " ".join(limits(shaped(told)))
    assert "In all cells all nodes shared one machine: its processor and disk" in " ".join(limits(shaped(told)))


def test_nodes_on_machines_of_their_own() -> None:
    """Of a cluster with a machine a node nothing is said of sharing."""
    apart = replace(stories.PLACE, colocated=False)
    rounds = [replace(round_, environment=apart) for round_ in rounds_of(cell(), stories.SIX)]

    assert [] == limits(tell(story(rounds), run_of(cell())))


def test_counters_of_pods_are_labelled() -> None:
    """Wire bytes that are not corrected are said to be too low."""
    pods = replace(stories.PLACE, colocated=False, wire="counters of the Pods' interfaces (gso: uncorrected)")
    rounds = [replace(round_, environment=pods) for round_ in rounds_of(cell(), stories.SIX)]

    (sentence,) = limits(tell(story(rounds), run_of(cell())))
    assert "gso: uncorrected" in sentence
    assert "On the wire (gso: uncorrected) bittorrent carried 5.00" in findings(tell(story(rounds), {}))[0]


def test_chance_among_many_verdicts() -> None:
    """Of many intervals some are expected to miss; of one there is nothing to add."""
    many, one = limits(beside([1.5] * 6, blocks=8)), limits(beside([1.5] * 6))

    assert "Of 8 intervals of ratios, 0.250 are expected to miss the true ratio by chance." in " ".join(many)
    assert "by chance" not in " ".join(one)


def test_pairing_drift_and_unreadable_lines() -> None:
    """What weakens a comparison is said: other times, drift, lines of the journal that are in no figure."""
    told, run = stories.mixed()

    words = " ".join(limits(tell(replace(told, problems=("line 3: not readable",)), run)))
    assert "Not measured at the same time as their reference" in words
    assert "the times rise or fall with the round's number (|rho| over 0.6)" in words
    assert "Left out of all figures, since unreadable or there twice: 1 line of the journal." in words


# --- what limited a cell ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds,expected",
    [(0.405, "The links: "), (0.9, "Not the links alone: "), (None, "The slowest leecher ")],
)
def test_what_limited_a_cell(seconds: float | None, expected: str) -> None:
    """The links limit a cell whose whole interval of efficiency is at 90 % or over; across it nothing is claimed."""
    linked = Cell(Shape(BUILT_IN["bittorrent"], 2, 10**9), 1, 50 * MB)
    place = replace(stories.PLACE, probe={"wire_mb_s": 125.0, "disk_mb_s": None})
    times = [seconds] * 6 if seconds else [0.4, 0.5, 0.41, 0.6, 0.42, 0.43]
    rounds = [replace(round_, environment=place) for round_ in rounds_of(linked, times)]

    (outcome,) = tell(story(rounds), {}).found

    assert (limited_by(outcome) or "").startswith(expected)


def test_what_limited_a_cell_cannot_always_be_told() -> None:
    """Without limited links on one machine it cannot be told; of a publish nothing is said."""
    (download,) = tell(*stories.single()).found
    upload, *_ = tell(*stories.uploads()).found

    assert "It cannot be told: no rate is known that is each node's own." == limited_by(download)
    assert limited_by(upload) is None


# --- all of them ------------------------------------------------------------------------------------------------------


@each_story
def test_sentences_end(name: str) -> None:
    """Every sentence is one line; none shows a number that is none, or an empty bracket."""
    told = tell(*STORIES[name]())

    for sentence in (*findings(told), *limits(told)):
        assert re.fullmatch(r"\S.*\S", sentence)
        assert not re.search(r"\b(nan|inf|None)\b|\[\]|\(\)|  | [,;]| \.[^.]", sentence), sentence


@each_story
def test_verdicts_come_from_intervals_alone(name: str) -> None:
    """No answer says yes or no where no ratio has an interval."""
    for answer in answers(tell(*STORIES[name]())):
        sure = any(one.ratio and one.ratio.level for one in answer.standing.comparisons if one.judged)
        assert sure or answer.tone == SILENT
