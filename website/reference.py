"""What the plugin tells about itself, as Markdown: the pieces that pages of the documentation leave open.

A page names a piece in a line of its own, ``<!-- generated: options -->``, which readers of the file do not see.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_codexbench import cli, plugin
from pytest_codexbench.matrix import BUILT_IN, PRESETS, Variant, variant_named
from pytest_codexbench.options import OPTIONS, Option
from pytest_codexbench.systems import find

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"^<!-- generated: (.*) -->$", re.MULTILINE)
FIXTURE = re.compile(r"^(?P<name>[a-z]\w*)(?: \[(?P<scope>\w+) scope\])? -- ")
SYSTEMS = tuple(sorted({variant.system for variant in BUILT_IN.values()}))


def fill(markdown: str) -> str:
    """The text with every piece that it names.

    Raises:
        ValueError: if there is no piece of such a name.
    """

    def piece(match: re.Match[str]) -> str:
        if match[1] not in PIECES:
            raise ValueError(f"{match[0]}: no such piece; there are: {', '.join(PIECES)}")
        return PIECES[match[1]]()

    return PLACE.sub(piece, markdown)


# --- what can be asked for --------------------------------------------------------------------------------------------


def presets() -> str:
    """The matrices with a name."""
    rows = [["matrix", "shapes (nodes, seeders)", "sizes", "rounds", "downloads a system", "uploads"]]
    for name, (pairs, sizes, rounds) in PRESETS.items():
        shapes = " ".join(f"({nodes},{seeders})" for nodes, seeders in pairs)
        rows.append([f"`{name}`", shapes, ", ".join(sizes), str(rounds), str(len(pairs) * len(sizes)), str(len(sizes))])
    return _table(rows)


def options() -> str:
    """Every option of the plugin, with its default and its names."""
    registered = _Parser()
    plugin.pytest_addoption(cast("pytest.Parser", registered))
    return "\n".join(_option(option, registered.found[option.argument]) for option in OPTIONS)


def _option(option: Option, registered: Mapping[str, Any]) -> str:
    value = f"={option.meta}" if option.meta else ""
    given = option.argument + (f"[{value}]" if registered.get("nargs") == "?" else value)
    default = f" Default: `{option.default}`." if option.default else ""
    names = f"<small>`{option.ini}` in an ini file, `{option.variable}` in the environment</small>"
    return f"`{given}` {{ #{option.argument.lstrip('-')} }}\n:   {_sentence(option.help)}{default}\n\n    {names}\n"


class _Parser:
    """Takes what a plugin tells pytest's parser about its options."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def getgroup(self, name: str, description: str) -> _Parser:
        return self

    def addoption(self, argument: str, **more: Any) -> None:
        self.found[argument] = more

    def addini(self, name: str, text: str, default: object = None) -> None:
        pass


def systems() -> str:
    """The systems that come along: their variants, their settings, and what is known of them."""
    rows = [["system", "built-in variants", "settings", "views", "to publish"]]
    for name in SYSTEMS:
        system, variants = find(name), [v for v in BUILT_IN if v.partition(".")[0] == name]
        known = ", ".join(f"`{setting}`" for setting in settings_of(name)) or "none"
        views = ", ".join(f"`{view}`" for view in system.views)
        rows.append([f"`{name}`", ", ".join(f"`{v}`" for v in variants), known, views, system.publishing])
    return _table(rows)


def settings_of(name: str) -> tuple[str, ...]:
    """The settings that a variant of the system may have, as the system says when it refuses another one."""
    plain = variant_named(name, BUILT_IN)
    refused = find(name).wrong(Variant(plain.name, name, (*plain.settings, ("nothing_of_this_name", 1))))
    known = (refused or "").partition("there are ")[2]
    return tuple(word for word in known.split(", ") if word != "none")


# --- what tests of one's own can use ----------------------------------------------------------------------------------


def markers() -> str:
    """The plugin's markers, as ``pytest --markers`` tells them."""
    told = re.findall(r"^@pytest\.mark\.((?:cell|experiment)\(.*?\)): (.*)$", _pytest("--markers"), re.MULTILINE)
    return "\n".join(f"`@pytest.mark.{usage}`\n:   {_sentence(text)}\n" for usage, text in told)


def fixtures() -> str:
    """The plugin's fixtures, as ``pytest --fixtures`` tells them."""
    ours = _pytest("--fixtures").partition("fixtures defined from pytest_codexbench.plugin")[2]
    found: dict[str, list[str]] = {}
    scopes: dict[str, str] = {}
    name = ""
    for line in ours.splitlines()[1:]:
        if line.startswith(("---", "===")):
            break
        if match := FIXTURE.match(line):
            name = match["name"]
            found[name], scopes[name] = [], match["scope"] or "function"
        elif name and line.strip():
            found[name].append(line.strip())
    return "\n".join(f"`{name}`\n:   {' '.join(text)} Scope: {scopes[name]}.\n" for name, text in found.items())


def _pytest(question: str) -> str:
    """What pytest answers where there is nothing but this plugin."""
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "CODEXBENCH_"))}
    alone = {**plain, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "500", "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        plugins = ("-p", "pytest_codexbench.plugin", "-p", "no:cacheprovider")
        argv = [sys.executable, "-m", "pytest", *plugins, "--color=no", f"--rootdir={folder}", question]
        run = subprocess.run(argv, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    if "pytest_codexbench" not in run.stdout and "experiment(" not in run.stdout:
        raise RuntimeError(f"pytest {question} ended with {run.returncode}: {run.stdout}{run.stderr}")
    return run.stdout


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command of ``codexbench``, with its options."""
    return "\n".join(_command(name, parser) for name, parser in subcommands().items())


def subcommands() -> Mapping[str, argparse.ArgumentParser]:
    """The parser of each command, by its name; of one that has commands of its own, theirs."""
    return dict(_below("", cli.command_line()))


def _below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    found = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001 - argparse tells it in no other way
    if not found:
        yield name, parser
    for action in found:
        for word, below in action.choices.items():
            yield from _below(f"{name} {word}".strip(), below)


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split()).replace("  |  ", "\n")
    text = [f"### codexbench {name}", "", _sentence(parser.description or ""), "", "```text", usage, "```", ""]
    for action in parser._actions:  # noqa: SLF001 - as above
        if "--help" not in action.option_strings:
            text += [f"`{_given(action)}`", f":   {_help(action)}", ""]
    return "\n".join(text)


def _given(action: argparse.Action) -> str:
    """An argument as it is written."""
    meta = action.metavar or ("NAME" if action.choices else action.dest.upper())
    word = meta if isinstance(meta, str) else " ".join(meta)
    if not action.option_strings:
        return word
    option = ", ".join(action.option_strings)
    return option if action.nargs == 0 else f"{option}={word}"


def _help(action: argparse.Action) -> str:
    """What an argument says, the words it may be, and its default."""
    what, told, default = (action.help or "").partition("(default: ")
    choices = f"One of {', '.join(f'`{choice}`' for choice in action.choices)}." if action.choices else ""
    return " ".join(filter(None, (_sentence(what.strip()), choices, told and f"Default: {default.rstrip(')')}.")))


STATUSES: Mapping[pytest.ExitCode, str] = {
    pytest.ExitCode.OK: "no cell failed; skipped ones are told, and are no failures",
    pytest.ExitCode.TESTS_FAILED: "a cell failed, or its cluster did not come up (an error in set-up)",
    pytest.ExitCode.INTERRUPTED: "Ctrl-C, or SIGTERM: clusters are down, documents written, `--cb-resume` goes on",
    pytest.ExitCode.INTERNAL_ERROR: "an error of pytest or of a plugin",
    pytest.ExitCode.USAGE_ERROR: "a wrong option, matrix file or values file; nothing was started",
    pytest.ExitCode.NO_TESTS_COLLECTED: "no cell is left: no `--matrix`, or `-k` and `-m` take none",
}
"""What pytest's own statuses mean here."""


def statuses() -> str:
    """With which status ``pytest`` and ``codexbench`` end."""
    ours = {
        0: "done; of `compare`: and the gate of `--fail-on` is open",
        cli.GATE_SHUT: "`compare`: what `--fail-on` names has come about",
        cli.WRONG_USE: "wrong input: what was wrong is on standard error",
    }
    pytests = [["`pytest`", "means"], *([str(int(code)), text] for code, text in STATUSES.items())]
    return f"{_table(pytests)}\n{_table([['`codexbench`', 'means'], *([str(k), v] for k, v in ours.items())])}"


# --- what is written down ---------------------------------------------------------------------------------------------


def record() -> str:
    """The form of a line of ``records.jsonl``."""
    return _schema("record-1", ("Round", "Transfer", "Timeline", "Counters", "Cell", "Environment", "Note"))


def results() -> str:
    """The form of ``results.json``."""
    return _schema("results-1", ("",))


def _schema(name: str, first: tuple[str, ...]) -> str:
    """A table for each kind of object, those of ``first`` first; "" is the document itself."""
    schema = json.loads((ROOT / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    parts = {"": schema, **schema["$defs"]} if "" in first else schema["$defs"]
    family = name.partition("-")[0]
    order = [*first, *(part for part in parts if part not in first)]
    return "\n".join(_object(family, part, parts[part]) for part in order)


def _object(family: str, name: str, part: Mapping[str, Any]) -> str:
    heading = f"### {name or 'The document'} {{ #{family}-{name.lower() or 'document'} }}"
    must = part.get("required", ())
    rows = [["key", "type", "meaning"]]
    for key, value in part["properties"].items():
        meaning = _plain(value.get("description") or _of_records(name, key))
        rows.append([f"`{key}`", _type(family, value) + ("" if key in must else ", optional"), meaning])
    if not any(meaning for _, _, meaning in rows[1:]):
        rows = [row[:2] for row in rows]
    return f"{heading}\n\n{_sentence(_plain(part.get('description', '')))}\n\n{_table(rows)}"


def _of_records(name: str, key: str) -> str:
    """What a key of that name means in the records: results say the same of the same thing."""
    part = json.loads((ROOT / "schemas" / "record-1.json").read_text(encoding="utf-8"))["$defs"].get(name, {})
    return str(part.get("properties", {}).get(key, {}).get("description", ""))


def _plain(text: str) -> str:
    """A description as Markdown in one line."""
    return " ".join(text.replace("``", "`").split())


def _type(family: str, value: Mapping[str, Any]) -> str:
    """The type of a value in words."""
    return " or ".join(dict.fromkeys(_types(family, value)))


def _types(family: str, value: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        yield f"[{name}](#{family}-{name.lower()})"
    elif "const" in value:
        yield f"`{json.dumps(value['const'])}`"
    elif "enum" in value:
        yield from (f"`{json.dumps(word)}`" for word in value["enum"])
    elif many := value.get("anyOf", value.get("oneOf")):
        for one in many:
            yield from _types(family, one)
    else:
        yield from _built_in(family, value)


def _built_in(family: str, value: Mapping[str, Any]) -> Iterator[str]:
    kind = value.get("type", "anything")
    if kind == "array":
        inner = value.get("items") or {}
        if places := value.get("prefixItems"):
            yield f"list of {', '.join(_type(family, place) for place in places)}"
        else:
            yield f"list of {_type(family, inner)}" if inner else "list"
    elif kind == "object" and isinstance(value.get("additionalProperties"), Mapping):
        yield f"object of {_type(family, value['additionalProperties'])}"
    else:
        yield str(kind)


# --- how it is written ------------------------------------------------------------------------------------------------


def _table(rows: list[list[str]]) -> str:
    """Rows, the first of them the head."""
    head, *body = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)) + "\n"


def _sentence(text: str) -> str:
    """A help text as Markdown, with a capital and a full stop, as the terminal has neither."""
    text = text.replace("<", "&lt;")
    if re.match(r"[a-z]+\b[^/:]", text):
        text = text[0].upper() + text[1:]
    return text if not text or text.endswith((".", "`")) else f"{text}."


PIECES: Mapping[str, Callable[[], str]] = {
    "presets": presets,
    "options": options,
    "systems": systems,
    "markers": markers,
    "fixtures": fixtures,
    "commands": commands,
    "statuses": statuses,
    "record": record,
    "results": results,
}
"""Each piece by the name that pages call it."""
