"""Which files of the project are pages of the site, and how their text becomes a page's.

Every file is written for who reads it where it is, in a checkout or on a forge. What is different on the site is done
here: links lead to pages, and Markdown that only CommonMark understands is spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, normpath, relpath

ROOT = Path(__file__).parents[1]
OWN = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "images/README.md": "images.md",
    "tests/cluster/README.md": "test-cluster.md",
    "charts": "charts.md",
}
"""Pages that are not in docs/, by their place in the project; one that is there too goes before."""
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^()\s#]*)(#[^()\s]*)?(?=\))")
"""The target of a relative link: its path, its anchor."""
FENCE = re.compile(r"^\s*(```+|~~~+)")
CODE = re.compile(r"(`+)(?:(?!\1).)*\1", re.DOTALL)
FENCED = "```"
ITEM = re.compile(r"^(\s*)([-*+]|\d+\.) ")
MOST_SHOWN = 100_000
LANGUAGES = {".json": "json", ".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def page_of(path: str) -> str:
    """The page, among the site's sources, that shows this file or folder of the project.

    Raises:
        ValueError: if there is no such file or folder.
    """
    path = path.rstrip("/")
    if path.startswith("docs/") and not (ROOT / path).is_dir():
        return path.removeprefix("docs/")
    if path in OWN:
        return OWN[path]
    if path.endswith("/README.md"):
        return f"{dirname(path)}.md"
    if (ROOT / path / "README.md").is_file():
        return page_of(f"{path}/README.md")
    if not (ROOT / path).exists():
        raise ValueError(f"{path}: no such file or folder")
    return f"source/{path.lstrip('.')}.md"


def file_of(page: str) -> str:
    """The file of the project that a page is made from."""
    elsewhere = {page_of(path): path for path in _outside()}
    return elsewhere.get(page, f"docs/{page}")


def others() -> Iterator[tuple[str, str]]:
    """The pages that docs/ does not have, with their text: files of the project, and whatever a page links to."""
    files = {path: (ROOT / path).read_text(encoding="utf-8") for path in _outside()}
    for path, text in files.items():
        yield page_of(path), text
    inside = {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in (ROOT / "docs").rglob("*.md")
    }
    linked = {target for path, text in {**files, **inside}.items() for target, _ in targets(text, path)}
    # a link that leads nowhere is told when its page is made
    for path in sorted(path for path in linked if (ROOT / path).exists()):
        page = page_of(path)
        if page.startswith("source/"):
            yield page, source(path)


def _outside() -> Iterator[str]:
    yield from (path for path in OWN if path.endswith(".md") and not (ROOT / "docs" / OWN[path]).exists())
    yield from (f"charts/{file.parent.name}/README.md" for file in sorted((ROOT / "charts").glob("*/README.md")))


def source(path: str) -> str:
    """A page that shows a file, or all files of a folder, as they are."""
    place = ROOT / path
    files = [place] if place.is_file() else sorted(file for file in place.iterdir() if _shown(file))
    text = [f"---\ntitle: {path}\nsearch:\n  exclude: true\n---", f"# {path}"]
    for file in files:
        if place.is_dir():
            text.append(f"## {file.name}")
        size = file.stat().st_size
        shown = f"({size} bytes)\n" if size > MOST_SHOWN else file.read_text(encoding="utf-8")
        text.append(f"````{LANGUAGES.get(file.suffix, 'text')}\n{shown}````")
    return "\n\n".join(text) + "\n"


def _shown(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


def targets(markdown: str, path: str) -> Iterator[tuple[str, str]]:
    """Where the relative links of a file lead: a place in the project, and an anchor or nothing."""
    for prose in _prose(markdown):
        for match in LINK.finditer(CODE.sub(lambda code: " " * len(code[0]), prose)):
            yield _place(match[1], path), match[2] or ""


def _place(target: str, path: str) -> str:
    """The place in the project that a link in ``path`` names."""
    return normpath(f"{dirname(path)}/{target}").lstrip("/") if target else path


def _prose(markdown: str) -> Iterator[str]:
    """All outside of blocks of code."""
    yield from (text for text, is_code in _parts(markdown) if not is_code)


def _parts(markdown: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and whether each is a block of code."""
    piece: list[str] = []
    end = ""
    for line in markdown.splitlines(keepends=True):
        fence = FENCE.match(line)
        if end:
            piece.append(line)
            if fence and fence[1].startswith(end) and not line.strip().strip(end[0]):
                yield "".join(piece), True
                piece, end = [], ""
        elif fence:
            yield "".join(piece), False
            piece, end = [line], fence[1]
        else:
            piece.append(line)
    yield "".join(piece), bool(end)


def for_site(markdown: str, path: str) -> str:
    """The text of a file as the site's Markdown wants it."""
    here = dirname(page_of(path))
    return "".join(
        text if is_code else _spelled_out(_with_links(text, path, here)) for text, is_code in _parts(markdown)
    )


def _with_links(prose: str, path: str, here: str) -> str:
    """Links lead to the pages."""

    def changed(match: re.Match[str]) -> str:
        if not match[1]:
            return match[0]
        return relpath(page_of(_place(match[1], path)), here or ".") + (match[2] or "")

    spans = [code.span() for code in CODE.finditer(prose)]
    return LINK.sub(lambda m: m[0] if any(a <= m.start() < b for a, b in spans) else changed(m), prose)


def _spelled_out(prose: str) -> str:
    """A blank line before each list and table: CommonMark lets them follow text and code, Python-Markdown does not."""
    lines = prose.split("\n")
    spelled: list[str] = []
    for number, line in enumerate(lines):
        before = spelled[-1] if spelled else FENCED
        following = lines[number + 1] if number + 1 < len(lines) else ""
        begins_list = ITEM.match(line) and not ITEM.match(before) and not before.startswith(" ")
        begins_table = line.startswith("|") and following.startswith("|--") and not before.startswith("|")
        if before.strip() and (begins_list or begins_table):
            spelled.append("")
        spelled.append(line)
    return "\n".join(spelled)
