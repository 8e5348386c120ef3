"""The documentation: its reference is whole, its links lead somewhere, and it builds as a site."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pytest_codexbench import plugin
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import BUILT_IN, PRESETS
from pytest_codexbench.matrixfile import KEYS, read_matrix
from pytest_codexbench.options import OPTIONS, Option

ROOT = Path(__file__).parents[1]
WEBSITE = ROOT / "website"
DOCS = ROOT / "docs"
DEFAULT = (BUILT_IN["bittorrent"],)
# What runs, builds and tools leave behind, and what others wrote.
NOT_OURS = {"build", "dist", "results", "node_modules", "venv"}

sys.path.insert(0, str(WEBSITE))  # as mkdocs does it
import pages  # noqa: E402
import reference  # noqa: E402


def markdown_files() -> list[Path]:
    """Every Markdown file of the project."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    ours = [path for path in folders if path.name not in NOT_OURS]
    return sorted([*ROOT.glob("*.md"), *(file for folder in ours for file in folder.rglob("*.md"))])


@cache
def parsed(file: Path) -> list[Token]:
    """A file as CommonMark reads it, with GitHub's tables."""
    return MarkdownIt("commonmark").enable("table").parse(file.read_text(encoding="utf-8"))


@cache
def filled(page: str) -> str:
    """A page of docs/ with the pieces that are made from the plugin."""
    return reference.fill((DOCS / page).read_text(encoding="utf-8"))


def terms(markdown: str) -> set[str]:
    """What a page defines: the first line of each definition."""
    return set(re.findall(r"^`([^`]+)`(?: \{ #\S+ \})?\n: {3}\S", markdown, re.MULTILINE))


# --- the reference ---


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_in_the_reference(option: Option) -> None:
    """As it is written in each of the three ways, and with its help."""
    page = filled("matrices.md")
    before_commands = page.partition("### codexbench ")[0]
    written = [term for term in terms(before_commands) if re.match(rf"{re.escape(option.argument)}($|\[?=)", term)]

    assert 1 == len(written)
    assert f"`{option.ini}`" in page
    assert f"`{option.variable}`" in page
    assert option.help[1:] in page


def test_an_option_whose_value_may_be_left_out_says_so() -> None:
    """`--cb-resume` alone is the latest run."""
    assert "--cb-resume[=RUN]" in terms(filled("matrices.md"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_in_the_reference(name: str) -> None:
    """With its number of rounds."""
    (row,) = re.findall(rf"^\| `{name}` \|.*$", filled("matrices.md"), re.MULTILINE)

    assert f"| {PRESETS[name][2]} |" in row


@pytest.mark.parametrize("name, parser", reference.subcommands().items())
def test_every_command_is_in_the_reference(name: str, parser: argparse.ArgumentParser) -> None:
    """With each of its options."""
    section = filled("matrices.md").partition(f"### codexbench {name}\n")[2].partition("### ")[0]
    options = set(re.findall(r"(?<![-\w])--[a-z][a-z-]*", parser.format_help())) - {"--help"}

    assert parser.description
    assert parser.description[1:] in section
    assert {term.partition("=")[0] for term in terms(section) if term.startswith("--")} == {
        option for option in options if option in parser._option_string_actions
    }


def test_the_commands_are_those_of_the_program() -> None:
    """As it lists them itself."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest_codexbench.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    listed = re.findall(r"^    ([a-z]+) ", told.partition("COMMAND\n")[2], re.MULTILINE)

    assert listed == list(dict.fromkeys(name.partition(" ")[0] for name in reference.subcommands()))


def test_every_marker_is_in_the_reference(pytestconfig: pytest.Config) -> None:
    """Each that the plugin registers."""
    ours = [line for line in pytestconfig.getini("markers") if line.startswith(("cell(", "experiment("))]

    assert 2 == len(ours)
    assert {f"@pytest.mark.{line.partition('): ')[0]})" for line in ours} <= terms(filled("matrices.md"))


def test_every_fixture_is_in_the_reference() -> None:
    """Each that the plugin has, by the name that tests ask for."""
    fixtures = {
        name for name, value in vars(plugin).items() if "fixture" in type(value).__name__.lower() and name[0] != "_"
    }

    assert {"cell", "cluster", "rounds"} <= fixtures
    assert fixtures <= terms(filled("matrices.md"))


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_of_a_matrix_file_is_explained(key: str) -> None:
    """In the table of keys."""
    assert re.search(rf"^\|[^|]*`{key}`[^|]*\|", filled("matrices.md"), re.MULTILINE)


@pytest.mark.parametrize("system", reference.SYSTEMS)
def test_every_setting_of_a_system_is_explained(system: str) -> None:
    """In the table of settings, beside the system's name."""
    page, settings = filled("matrices.md"), reference.settings_of(system)
    unexplained = [name for name in settings if not re.search(rf"^\| `{name}` \|[^|]*`{system}`", page, re.MULTILINE)]

    assert bool(settings) == (system != "http")
    assert not unexplained


@pytest.mark.parametrize("piece", ["record", "results"])
def test_every_type_in_a_form_is_explained_on_the_page(piece: str) -> None:
    """What a table links to is there."""
    page = filled("results.md")
    anchors = re.findall(r"^### .* \{ #(\S+) \}$", page, re.MULTILINE)

    assert len(anchors) == len(set(anchors))
    assert set(re.findall(rf"\(#({piece}-\w+)\)", page)) <= set(anchors)


def test_a_piece_that_nobody_makes_is_told() -> None:
    """A mistyped name never becomes a page with a hole in it."""
    with pytest.raises(ValueError, match=r"generated: optoins.*no such piece; there are: presets, options"):
        reference.fill("before\n<!-- generated: optoins -->\nafter")


@pytest.mark.parametrize("name", reference.PIECES)
def test_every_piece_is_on_a_page(name: str) -> None:
    """Nothing is made that nobody reads."""
    assert any(f"<!-- generated: {name} -->" in file.read_text(encoding="utf-8") for file in DOCS.glob("*.md"))


# --- the files ---


def examples() -> Iterator[tuple[str, str]]:
    """Every matrix file that is shown, with the place where."""
    for file in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        for token in parsed(file):
            if token.info == "toml" and re.search("^(shapes|nodes) = ", token.content, re.MULTILINE):
                yield f"{file.name}:{token.map[0] + 1 if token.map else 0}", token.content


@pytest.mark.parametrize("text", [pytest.param(text, id=place) for place, text in examples()])
def test_every_matrix_file_that_is_shown_can_be_read(text: str, tmp_path: Path) -> None:
    """As it is, comments and all."""
    file = tmp_path / "shown.toml"
    file.write_text(text, encoding="utf-8")

    try:
        matrix, _ = read_matrix(file, DEFAULT)
    except WrongInput as error:
        pytest.fail(str(error))

    assert list(matrix)


def links(file: Path) -> Iterator[str]:
    """The target of every link and picture in a file that is not in code."""
    for token in parsed(file):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                yield str(target)


def anchors(file: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    tokens = parsed(file)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def broken(file: Path) -> Iterator[str]:
    """The relative links of a file that lead nowhere, with the reason."""
    for link in links(file):
        path, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (file.parent / path).resolve() if path else file
        if not target.exists():
            yield f"{link}: no such file or folder"
        elif ROOT not in target.parents and target != ROOT:
            yield f"{link}: outside of the project"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{link}: no such heading; there are: {', '.join(sorted(anchors(target)))}"


@pytest.mark.parametrize("file", markdown_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(file: Path) -> None:
    """To a file or folder of the project, and to a heading of it."""
    if not (ROOT / ".github").is_dir():
        pytest.skip("a source distribution has not all that is linked to; run it in a checkout")

    assert [] == list(broken(file))


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a missing heading, a file elsewhere; not those in code, and none of the web."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# One `two`, three\n", encoding="utf-8")
    file = tmp_path / "here.md"
    file.write_text(
        "[a](there.md) [b](there.md#one-two-three) [c](https://a.example/no.md) `[d](no.md)`\n\n"
        "[e](no.md) [f](there.md#one) [g](/etc) [h](#here)\n",
        encoding="utf-8",
    )

    assert ["no.md", "there.md#one", "/etc", "#here"] == [text.partition(":")[0] for text in broken(file)]


# --- how files become pages ---


@pytest.mark.parametrize(
    "path, page",
    [
        ("docs/metrics.md", "metrics.md"),
        ("README.md", "index.md"),
        ("CONTRIBUTING.md", "contributing.md"),
        ("charts", "charts.md"),
        ("charts/http", "charts/http.md"),
        ("charts/http/README.md", "charts/http.md"),
        ("images", "images.md"),
        ("tests/cluster/shape.py", "source/tests/cluster/shape.py.md"),
        ("charts/scenarios", "source/charts/scenarios.md"),
    ],
)
def test_where_a_file_is_on_the_site(path: str, page: str) -> None:
    """Each file and folder that a page may link to has a page."""
    if not (ROOT / path).exists():
        pytest.skip(f"no {path} in a source distribution")

    assert page == pages.page_of(path)


def test_links_between_files_become_links_between_pages() -> None:
    """From docs/ to the outside, from a chart to docs/; not in code, not to the web."""
    text = "[a](../CONTRIBUTING.md#check) `[b](../README.md)` [c](comparing.md) [d](https://a.example/x.md) [e](#f)"

    assert (
        "[a](contributing.md#check) `[b](../README.md)` [c](comparing.md) [d](https://a.example/x.md) [e](#f)"
        == pages.for_site(text, "docs/metrics.md")
    )
    assert "[a](../kubernetes.md)" == pages.for_site("[a](../../docs/kubernetes.md)", "charts/http/README.md")
    assert "```\n[a](../README.md)\n```\n" == pages.for_site("```\n[a](../README.md)\n```\n", "docs/metrics.md")


def test_a_list_or_table_may_end_a_paragraph() -> None:
    """As CommonMark has it; Python-Markdown wants a blank line."""
    assert "Take:\n\n- one\n  more\n- two\n" == pages.for_site("Take:\n- one\n  more\n- two\n", "docs/metrics.md")
    assert "Take:\n\n| a |\n|---|\n| b |\n" == pages.for_site("Take:\n| a |\n|---|\n| b |\n", "docs/metrics.md")
    assert "```\nTake:\n- one\n```\n" == pages.for_site("```\nTake:\n- one\n```\n", "docs/metrics.md")


# --- the site ---


class Page(HTMLParser):
    """What a page of the site is made of, and what it makes a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.article: Counter[str] = Counter()
        self._inside = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "audio", "video", "embed", "object"):
            self.fetched.append(given.get("src") or given.get("data") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.fetched.append(given.get("href") or "")
        self._inside += tag == "article"
        if self._inside:
            self.article[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == "article"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built strictly."""
    missing = [name for name in ("mkdocs", "material") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no {', no '.join(missing)} here: pip install --group docs; tox -e docs builds the site too")
    if not (ROOT / ".github").is_dir():
        pytest.skip("a source distribution has not all that is linked to; run it in a checkout")
    folder = tmp_path_factory.mktemp("site")
    # not with --quiet: what is not told is not counted either
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]

    run = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )

    assert 0 == run.returncode, run.stdout + run.stderr
    assert "WARNING" not in run.stderr
    return folder


def test_the_site_builds_without_a_warning(site: Path) -> None:
    """Strictly, and with a page for each of the project's documents."""
    built = {str(file.parent.relative_to(site)) for file in site.rglob("index.html")}

    assert {".", "getting-started", "matrices", "faq", "contributing", "changelog", "charts/runner"} <= built


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    """No font, script, style or picture of another server, in any page or style."""
    pages_of_it = [Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")]
    styles = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))

    assert len(pages_of_it) > 20
    assert [] == [url for page in pages_of_it for url in page.fetched if re.match(r"(?:[a-z]+:)?//", url)]
    assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", styles)


@pytest.mark.parametrize("file", markdown_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_page_has_the_lists_and_tables_of_its_file(file: Path, site: Path) -> None:
    """What CommonMark reads in the file is on the page: no list or table became a paragraph."""
    page = pages.page_of(str(file.relative_to(ROOT)))
    if str(file.relative_to(ROOT)) != pages.file_of(page):
        pytest.skip(f"{page} is made from another file")
    built = site / re.sub(r"(index|README)?\.md$", "", page) / "index.html"
    tokens = [token.type for token in parsed(file)]
    article = Page(built.read_text(encoding="utf-8")).article
    generated = "<!-- generated: " in file.read_text(encoding="utf-8")

    for tag, opening in (("table", "table_open"), ("li", "list_item_open"), ("h2", "heading_open")):
        found = tokens.count(opening)
        if tag == "h2":
            found = sum(token.type == opening and token.tag == "h2" for token in parsed(file))
        assert found <= article[tag] if generated else found == article[tag], tag
