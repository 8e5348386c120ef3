"""Where the numbers come from, and how to get them again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_codexbench.reports.html.markup import Content, Markup, element, joined
from pytest_codexbench.reports.html.table import Column, table
from pytest_codexbench.reports.outcomes import Outcome
from pytest_codexbench.reports.told import Told
from pytest_codexbench.reports.wording import count, number

MOST_LISTED = 20


def provenance(told: Told) -> Markup:
    """What was run, with which programs, on which machines."""
    columns = [
        Column[tuple[str, str]]("what", lambda row: row[0], words=True),
        Column("is", lambda row: row[1], words=True),
    ]
    groups: dict[Markup | None, list[tuple[str, str]]] = {element("span", "The run"): list(_run(told.run))}
    before: dict[str, str] = {}
    places = _places(told)
    for index, place in enumerate(places[:MOST_LISTED]):
        title = element("span", f"Environment {index + 1}" if len(places) > 1 else "Environment")
        # of the later ones what is different
        groups[title] = [(name, text) for name, text in place.items() if before.get(name) != text]
        before |= place
    more = len(places) - MOST_LISTED
    return joined(
        table("Provenance", columns, groups) if any(groups.values()) else None,
        element("p", f"And {count(more, 'more environment')}: see results.json.") if more > 0 else None,
        _probes(told),
        _problems(told),
    )


def _places(told: Told) -> list[dict[str, str]]:
    """Each environment once; what the clusters' probes found, and each system's own version, are told elsewhere."""
    found: dict[str, dict[str, str]] = {}
    for outcome in told.measured:
        for round_ in outcome.rounds:
            place = round_.environment.to_json()
            own = place["versions"].keys() & {outcome.cell.system, outcome.cell.shape.variant.system}
            place["versions"] = {name: text for name, text in place["versions"].items() if name not in own}
            del place["probe"]
            found.setdefault(json.dumps(place, sort_keys=True), dict(_flat(place)))
    return list(found.values())


def _probes(told: Told) -> Markup | None:
    """What the wire and the disk of each cluster carried, before it was measured on."""
    columns = [
        Column[Outcome]("cluster", lambda one: str(one.cell.shape), words=True),
        Column("version", _version, words=True),
        Column("wire, MB/s", lambda one: number(one.rounds[0].environment.probe.get("wire_mb_s"))),
        Column("disk, MB/s", lambda one: number(one.rounds[0].environment.probe.get("disk_mb_s"))),
    ]
    clusters = {outcome.cell.shape: outcome for outcome in reversed(told.measured)}
    rows = sorted(clusters.values(), key=lambda one: str(one.cell.shape))
    return table("Each cluster: what its first probe found", columns, {None: rows}) if rows else None


def _version(outcome: Outcome) -> str:
    """What the nodes of a cell said of themselves."""
    told = outcome.rounds[0].environment.versions
    return told.get(outcome.cell.system) or told.get(outcome.cell.shape.variant.system) or ""


def _run(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    skipped = ("cells", "schema", "environment", "selected", "command")
    yield from _flat({name: value for name, value in run.items() if name not in skipped})


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{prefix}{name}", f"{value:.6g}" if isinstance(value, float) else str(value)


def _problems(told: Told) -> Content:
    if not told.story.problems:
        return None
    items = [element("li", problem) for problem in told.story.problems[:MOST_LISTED]]
    return joined(element("h3", "What of the journal could not be read"), element("ul", items))


def repeating(told: Told) -> Markup:
    """The command that measures the same again, and the one that makes this page again."""
    command = told.run.get("command")
    words = " ".join(map(str, command)) if isinstance(command, list) else command
    run = told.run.get("id") or "RUN"
    seed = told.run.get("seed")
    again = element("pre", element("code", str(words)), tabindex=0) if words else None
    drawn = (
        f"The plan is drawn from seed {seed}: the same seed draws the same bytes, seeders and orders on any machine."
        if seed is not None
        else None
    )
    return joined(
        element("p", "The same plan, measured anew:") if again else None,
        again,
        element("p", drawn) if drawn else None,
        element("p", "This page, made again from the run's records:"),
        element("pre", element("code", f"codexbench report results/{run}"), tabindex=0),
    )
