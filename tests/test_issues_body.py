"""What the text of an issue asks for, and what it can never ask for."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import issue_forms
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from issue_forms import HOSTILE_BODIES, HOSTILE_VALUES, LABELS, filled
from markdown_it import MarkdownIt

from pytest_codexbench.cli import main
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.issues.body import HEADINGS, MOST_LETTERS, OFFERED, OWN, Refused, digest, read
from pytest_codexbench.issues.comment import Links, compose
from pytest_codexbench.issues.request import Limits, Request, from_json, over, read_limits
from pytest_codexbench.issues.state import PLANNED, REFUSED, State, marked
from pytest_codexbench.matrix import BUILT_IN
from pytest_codexbench.matrixfile import read_matrix

GOLDEN = Path(__file__).parent / "golden_issues"
LINKS = Links("https://github.example/acme/bench")
# A line of a matrix file that is made of an issue, whatever the issue says.
NUMBERS, TEXTS = r"\[\[?[0-9, \[\]]*\]", r'\["[0-9a-zA-Z", ]*"\]'
MATRIX_FILE = re.compile(
    rf'name = "issue(-[0-9]+)?(-smoke|-3x3)?"\nshapes = {NUMBERS}\nsizes = {TEXTS}\n(links = {TEXTS}\n)?'
    r'rounds = [0-9]+\n(\[systems\."[a-z.]+"\]\n)+'
)


def comment_of(body: str) -> str:
    """What an issue with this text is told."""
    told: Request | Refused
    try:
        told = read(body, 12)
    except Refused as refused:
        told = refused
    return compose(State(12, PLANNED if isinstance(told, Request) else REFUSED, digest(body)), told, LINKS)


def assert_harmless(comment: str) -> None:
    """Nobody is called, nothing is linked or loaded, no tag is opened but our own."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(comment)
    inner = [child for token in tokens for child in token.children or ()]
    tags = {t.content for t in (*tokens, *inner) if t.type in ("html_inline", "html_block")}
    words = " ".join(child.content for child in inner if child.type == "text")

    assert len(comment) < 65536
    assert all(tag in ("<sub>", "</sub>") or marked(tag, 12) for tag in map(str.strip, tags)), tags
    assert not [child for child in inner if child.type in ("link_open", "image")]
    assert not re.search(r"@\w|https?:|www\.|#\d|[^\x20-\x7e]", words), words


# --- good ones ---


@pytest.mark.parametrize("body", sorted(GOLDEN.glob("*.body")), ids=lambda path: path.stem)
def test_a_form_that_was_filled_in_is_read(body: Path) -> None:
    """As matrix file and comment that were looked at; CODEXBENCH_WRITE_GOLDEN=1 writes them anew."""
    text = body.read_text(encoding="utf-8")
    found = read(text, 12).matrix_file() + "\n" + comment_of(text).partition("\n")[2]
    golden = body.with_suffix(".expected")
    if os.environ.get("CODEXBENCH_WRITE_GOLDEN"):
        golden.write_text(found, encoding="utf-8")

    assert golden.read_text(encoding="utf-8") == found
    assert MATRIX_FILE.match(found)


@pytest.mark.parametrize("body", sorted(GOLDEN.glob("*.body")), ids=lambda path: path.stem)
def test_the_matrix_file_is_the_matrix(body: Path, tmp_path: Path) -> None:
    """What pytest will read from it is what was planned."""
    request = read(body.read_text(encoding="utf-8"), 12)
    (tmp_path / "it.toml").write_text(request.matrix_file(), encoding="utf-8")

    matrix, _ = read_matrix(tmp_path / "it.toml", (BUILT_IN["codex"],))

    assert request.matrix == matrix
    assert request == from_json(request.to_json(), Limits())


def test_empty_answers_are_read_as_such() -> None:
    """As GitHub writes them for a line, for a list, and as nothing at all."""
    plain = read(filled(), 1).matrix

    assert plain == read(filled(Link="None"), 1).matrix
    assert plain == read(filled().replace("### Link\n\n_No response_", "### Link\n\n"), 1).matrix
    assert plain == read(filled().partition("### Note")[0], 1).matrix
    assert (None,) == plain.links


def test_line_ends_change_nothing() -> None:
    """The form ends lines in one way, a browser's editor in another: that is no edit."""
    body = filled()

    assert read(body, 1) == read(body.replace("\n", "\r\n"), 1)
    assert digest(body) == digest(body.replace("\n", "\r\n"))
    assert digest(body) != digest(body + " ")


@pytest.mark.parametrize(
    "note",
    ["@mona look at <b>this</b>", "### Why\n\nbecause", "\x00\ud800", "```sh\nrm -rf /\n```", "Systems", "| x |"],
)
def test_nobody_reads_the_note(note: str) -> None:
    """It changes the hash, and nothing else."""
    noted = filled(Note=note)

    assert read(filled(), 1).matrix == read(noted, 1).matrix
    assert read(filled(), 1).sha != read(noted, 1).sha
    assert_harmless(comment_of(noted))


def test_pairs_without_a_leecher_are_told() -> None:
    """They are dropped as from a matrix file, and the comment counts them."""
    assert "4 with 2; 1 pair without a leecher left out" in comment_of(filled(Nodes="2, 4", Seeders="1, 2"))


# --- hostile ones ---


def hostile() -> list[str]:
    """Each value below each heading, and the whole bodies."""
    values = [filled({**issue_forms.SMALL, label: value}) for value in HOSTILE_VALUES for label in LABELS[:-1]]
    return [*values, *HOSTILE_BODIES]


def outcome(body: str) -> Request | Refused:
    """What comes of a text; what it is told is looked at on the way."""
    assert_harmless(comment_of(body))
    try:
        return read(body, 12)
    except Refused as refused:
        return refused


def test_hundreds_of_hostile_bodies_ask_for_nothing() -> None:
    """None of them becomes a request; each is told why, in words that harm nobody."""
    found = {body: outcome(body) for body in hostile()}

    assert len(found) > 600
    assert [] == [body for body, told in found.items() if isinstance(told, Request)]
    assert all(told.problems for told in found.values() if isinstance(told, Refused))


def test_a_huge_text_is_refused_at_once() -> None:
    """Megabytes cost no more than their hash."""
    began = time.process_time()

    with pytest.raises(Refused, match=f"more than {MOST_LETTERS} letters"):
        read("### Systems\n" * 1_000_000)

    assert time.process_time() - began < 5


PIECES = st.sampled_from(
    (
        *(f"### {label}" for label in LABELS),
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "http",
        "2",
        "1",
        "1MB",
        ",",
        "_No response_",
        OWN,
    )
)


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=60).map("".join)))
@example(filled())
def test_any_text_is_a_request_within_limits_or_refused(body: str) -> None:
    """Nothing else happens, and nothing else comes out, whatever is written."""
    assert_within_limits_or_refused(outcome(body))


def assert_within_limits_or_refused(told: Request | Refused) -> None:
    """Either what may be measured, or reasons."""
    if isinstance(told, Refused):
        assert told.problems
    else:
        assert [] == over(told, Limits())
        assert MATRIX_FILE.fullmatch(told.matrix_file())


@given(st.dictionaries(st.sampled_from(LABELS), st.text(max_size=60)))
def test_any_answers_are_a_request_within_limits_or_refused(answers: dict[str, str]) -> None:
    """The same in the form's own frame, where more of it is read."""
    assert_within_limits_or_refused(outcome(filled({**issue_forms.SMALL, **answers})))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Each with its heading, and with what would be right."""
    with pytest.raises(Refused) as refused:
        read(filled(Systems="http, webseed", Nodes="1, x<b>", Sizes="6GB", Rounds="100", Link="fast"))

    assert [
        f"Systems: `webseed` is not one of {', '.join(Limits().systems)}.",
        "Rounds: `100` is not a number from 1 to 20.",
        "Link: `fast` is not a rate from 1mbit to 10gbit.",
        "Nodes: `1` is not a number from 2 to 32.",
        "Nodes: what is there is not a number from 2 to 32.",
        "Sizes: `6GB` is not a size from 1B to 5GB, written as 100MB.",
    ] == list(refused.value.problems)


# --- limits ---


def test_limits_of_ones_own(tmp_path: Path) -> None:
    """A repository may allow less, or more."""
    file = tmp_path / "limits.toml"
    file.write_text('systems = ["http"]\nnodes = 4\nseconds = 10\n', encoding="utf-8")
    limits = read_limits(file)

    assert Limits(systems=("http",), nodes=4, seconds=10) == limits
    with pytest.raises(Refused, match="`ipfs` is not one of http"):
        read(filled(Systems="ipfs"), limits=limits)
    with pytest.raises(Refused, match="at most 10 s may be asked for"):
        read(filled(), limits=limits)


@pytest.mark.parametrize(
    "text, message",
    [
        ("hours = 3", "unknown key 'hours'; known ones: cells, least_link"),
        ("nodes = 0", "nodes = 0; a whole number from 1 on is needed"),
        ("nodes = true", "nodes = True; a whole number"),
        ('systems = "http"', "systems = 'http'; a list of names is needed"),
        ('systems = ["codex.no"]', "system 'codex.no' is not defined"),
        ("nodes = ", "Invalid value"),
    ],
)
def test_wrong_limits(text: str, message: str, tmp_path: Path) -> None:
    """The file, the key and what would be right."""
    file = tmp_path / "limits.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(WrongInput, match=re.escape(message)):
        read_limits(file)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"issue": "12"},
        {"sha": "x"},
        {"systems": ["faulty"]},
        {"systems": "http"},
        {"shapes": [[2]]},
        {"shapes": [[99, 1]]},
        {"shapes": [[2, 2]]},
        {"shapes": []},
        {"sizes": ["1MB"]},
        {"sizes": [0]},
        {"sizes": [10**12]},
        {"links": [1]},
        {"rounds": 0},
        {"rounds": True},
        {"matrix": 'x"\n[systems.y]'},
    ],
    ids=str,
)
def test_a_request_that_was_tampered_with_is_refused(change: dict[str, object]) -> None:
    """What one job hands to the next is checked as if a stranger had written it."""
    told = read(filled(), 12).to_json()
    assert 12 == from_json(told, Limits()).issue

    with pytest.raises(WrongInput):
        from_json({**told, **change}, Limits())


# --- the form ---


def test_the_form_asks_for_what_is_read() -> None:
    """Its labels are the headings, its choices the ones that are known, and its prose the limits."""
    if not issue_forms.FORM.is_file():
        pytest.skip("no form in a source distribution")
    fields = [field for field in issue_forms.form()["body"] if field["type"] != "markdown"]
    told = {field["attributes"]["label"]: field["attributes"] for field in fields}
    limits = read_limits(issue_forms.ROOT / ".github/benchmark-limits.toml")

    assert list(HEADINGS) == list(LABELS) == list(told)
    assert Limits() == limits
    assert list(limits.systems) == told["Systems"]["options"]
    assert [OWN, *OFFERED] == told["Matrix"]["options"]
    for label, figure in (("Nodes", "2 to 32"), ("Sizes", "at most 5GB"), ("Rounds", "at most 20")):
        assert figure in told[label]["description"]


def test_placeholders_of_the_form_are_right_answers() -> None:
    """Who types what stands there in grey gets a plan."""
    if not issue_forms.FORM.is_file():
        pytest.skip("no form in a source distribution")
    grey = {
        field["attributes"]["label"]: field["attributes"]["placeholder"]
        for field in issue_forms.form()["body"]
        if "placeholder" in field["attributes"]
    }

    assert {"Nodes", "Seeders", "Sizes", "Rounds", "Link"} == set(grey)
    assert 3 == len(read(filled({"Systems": "http", "Matrix": OWN, **grey})).matrix.pairs)


def test_the_form_keeps_to_githubs_rules() -> None:
    """Those of its documentation: a form that breaks one is not offered, without a word."""
    if not issue_forms.FORM.is_file():
        pytest.skip("no form in a source distribution")
    form = issue_forms.form()
    keys = {
        "markdown": {"value"},
        "input": {"label", "description", "placeholder", "value"},
        "textarea": {"label", "description", "placeholder", "value", "render"},
        "dropdown": {"label", "description", "multiple", "options", "default"},
    }

    assert set(form) <= {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
    assert all(isinstance(form[key], str) and form[key] for key in ("name", "description", "title"))
    assert form["labels"] == ["benchmark"]
    for field in form["body"]:
        attributes = field["attributes"]
        assert set(field) <= {"type", "id", "attributes", "validations"}
        assert set(attributes) <= keys[field["type"]]
        assert all(isinstance(text, str) for key, text in attributes.items() if key in ("placeholder", "value"))
        if field["type"] == "dropdown":
            options = attributes["options"]
            assert all(isinstance(option, str) and option.lower() != "none" for option in options)
            assert len(options) == len(set(options))
            assert 0 <= attributes.get("default", 0) < len(options)
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    labels = [field["attributes"]["label"] for field in form["body"] if field["type"] != "markdown"]
    assert all(re.fullmatch("[A-Za-z0-9_-]+", one) for one in ids)
    assert len(ids) == len(set(ids)) == len(set(labels))


# --- the command ---


def test_a_plan_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it would run, what that costs, and the matrix file if it is wanted; GitHub is not asked."""
    file = tmp_path / "body.md"
    file.write_text(filled(), encoding="utf-8")

    assert 0 == main(["issue", "plan", str(file), f"--matrix={tmp_path / 'm.toml'}"])

    said = capsys.readouterr().out
    assert "cells   2, uploads included" in said
    assert "bytes   4 MB over the links" in said
    assert (tmp_path / "m.toml").read_text(encoding="utf-8") in said


@pytest.mark.parametrize(
    "text, message",
    [
        (filled(Nodes="1"), "codexbench: Nodes: `1` is not a number from 2 to 32.\n"),
        ("hello", "codexbench: There is text outside of the form's headings"),
        (None, "No such file"),
    ],
)
def test_a_plan_of_what_cannot_be(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and every reason."""
    file = tmp_path / "body.md"
    if text is not None:
        file.write_text(text, encoding="utf-8")

    assert 2 == main(["issue", "plan", str(file)])

    said = capsys.readouterr()
    assert "" == said.out
    assert message in said.err
