"""Prints the JSON Schema of a document: ``python -m pytest_codexbench.reports.schema > schemas/results-1.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def results_schema() -> dict[str, Any]:
    """Of ``results.json``."""
    from pytest_codexbench.reports.results_model import Results

    return _named("results-1", "A codexbench run", Results.model_json_schema(by_alias=True, mode="serialization"))


def record_schema() -> dict[str, Any]:
    """Of one line of ``records.jsonl``."""
    from pytest_codexbench.reports.record_model import Line

    return _named("record-1", "A line of a codexbench journal", Line.model_json_schema(by_alias=True))


def _named(name: str, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    # a name and no place: nothing is fetched from anywhere, and there is no site of ours that could move
    return {"$schema": DIALECT, "$id": f"urn:codexbench:{name}", **_open(schema), "title": title}


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the ban on more keys: our own models refuse them, but readers are to stand what later versions add."""
    parts = {name: _open(part) for name, part in schema.get("$defs", {}).items()}
    rest = {key: value for key, value in schema.items() if (key, value) != ("additionalProperties", False)}
    return {**rest, "$defs": parts} if parts else rest


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {"results": results_schema, "record": record_schema}


def main(words: Sequence[str]) -> None:
    """Print the schema that the first word names, ``results`` without one."""
    sys.stdout.write(json.dumps(SCHEMAS[words[0] if words else "results"](), indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
