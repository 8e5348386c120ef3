"""A matrix written down in a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

from pytest_codexbench.disturbances import DISTURBANCES
from pytest_codexbench.errors import WrongInput
from pytest_codexbench.matrix import BUILT_IN, EXPERIMENTS, Matrix, Variant, parse_rate, parse_size, variant_named

KEYS = {"name", "shapes", "nodes", "seeders", "sizes", "links", "rounds", "systems", "experiments", "disturbances"}


def read_matrix(path: Path, default: tuple[Variant, ...]) -> tuple[Matrix, Mapping[str, Variant]]:
    """The matrix in the file and every variant that may be named with it.

    ``default`` are the variants of a file that defines none. Pairs with no leecher are dropped and counted.

    Raises:
        WrongInput: naming the file, the key, the value and what would be right.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WrongInput(f"matrix file {path}: {error}") from error
    try:
        return _matrix(path.stem, document, default)
    except WrongInput as error:
        raise WrongInput(f"matrix file {path}: {error}") from error


def _matrix(stem: str, document: dict[str, Any], default: tuple[Variant, ...]) -> tuple[Matrix, Mapping[str, Variant]]:
    if unknown := sorted(set(document) - KEYS):
        raise WrongInput(f"unknown key {unknown[0]!r}; known ones: {', '.join(sorted(KEYS))}")
    own = dict(_variants(document.get("systems", {})))
    pairs = list(_pairs(document))
    kept = tuple((nodes, seeders) for nodes, seeders in pairs if seeders < nodes)
    name = document.get("name", stem)
    if not isinstance(name, str) or not name.strip():
        raise WrongInput(f"name = {name!r}: a word for the reports is needed")
    matrix = Matrix(
        name=name,
        pairs=tuple(dict.fromkeys(kept)),
        sizes=tuple(dict.fromkeys(_texts(document, "sizes", parse_size))),
        variants=tuple(own.values()) or default,
        links=tuple(dict.fromkeys(_texts(document, "links", parse_rate))) if "links" in document else (None,),
        rounds=_whole("rounds", document.get("rounds", 6)),
        dropped=len(pairs) - len(kept),
        **_experiments(document),
    )
    return matrix, {**BUILT_IN, **own}


def _experiments(document: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """What kinds of cells there are, and what happens in those of reliability."""
    disturbances = tuple(_words(document, "disturbances", DISTURBANCES)) if "disturbances" in document else ()
    usual = ("download", "upload", *(("reliability",) if disturbances else ()))
    experiments = tuple(_words(document, "experiments", EXPERIMENTS)) if "experiments" in document else usual
    return {"experiments": tuple(dict.fromkeys(experiments)), "disturbances": tuple(dict.fromkeys(disturbances))}


def _words(document: dict[str, Any], key: str, known: Collection[str]) -> Iterator[str]:
    words = document[key]
    if not isinstance(words, list) or not words:
        raise WrongInput(f"{key} = {words!r}; a list is needed, of {', '.join(known)}")
    for word in words:
        if not isinstance(word, str) or word not in known:
            raise WrongInput(f"{key}: {word!r} is not known; there are {', '.join(known)}")
        yield word


def _pairs(document: dict[str, Any]) -> Iterator[tuple[int, int]]:
    if "shapes" in document:
        if "nodes" in document or "seeders" in document:
            raise WrongInput("give either shapes = [[nodes, seeders], ...] or nodes and seeders, not both")
        shapes = document["shapes"]
        if not isinstance(shapes, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in shapes):
            raise WrongInput(f"shapes = {shapes!r}; write it as [[2, 1], [8, 2]]: nodes, then seeders among them")
        yield from ((_whole("shapes", nodes), _whole("shapes", seeders)) for nodes, seeders in shapes)
        return
    for key in ("nodes", "seeders"):
        if not isinstance(document.get(key), list) or not document[key]:
            raise WrongInput(f"{key} = {document.get(key)!r}; a list of whole numbers is needed, as in {key} = [2, 8]")
    for nodes, seeders in product(document["nodes"], document["seeders"]):
        yield _whole("nodes", nodes), _whole("seeders", seeders)


def _texts(document: dict[str, Any], key: str, parse: Callable[[str], int]) -> Iterator[int]:
    texts = document.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        example = '["10mbit", "100mbit"]' if key == "links" else '["100MB", "1GB"]'
        given = f"{key} = {texts!r}" if texts is not None else f"{key} = None (it is missing)"
        raise WrongInput(f"{given}; a list of texts is needed, as in {key} = {example}")
    for text in texts:
        try:
            yield parse(text)
        except WrongInput as error:
            raise WrongInput(f"{key}: {error}") from error


def _whole(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**6:
        raise WrongInput(f"{key}: {value!r} is not a whole number from 1 on")
    return value


def _variants(tables: object) -> Iterator[tuple[str, Variant]]:
    if not isinstance(tables, dict):
        raise WrongInput(f'systems = {tables!r}; write a table a variant, as in [systems."codex.new"]')
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise WrongInput(f'systems.{name} = {table!r}; write it as [systems."{name}"] with its settings below')
        for key, value in table.items():
            if isinstance(value, dict):
                raise WrongInput(
                    f"systems.{name}.{key} = {value!r}; a text, a number or true/false is needed; "
                    f'for a variant write its name in quotes: [systems."{name}.{key}"]'
                )
            if not isinstance(value, str | int | float | bool) or (isinstance(value, float) and not isfinite(value)):
                raise WrongInput(f"systems.{name}.{key} = {value!r}; a text, a number or true/false is needed")
        system = table.get("system", name.partition(".")[0])
        if not isinstance(system, str):
            raise WrongInput(f"systems.{name}.system = {system!r}; the name of a system is needed")
        plain = variant_named(name, BUILT_IN).settings if name in BUILT_IN else ()
        settings = {**dict(plain), **{key: value for key, value in table.items() if key != "system"}}
        yield name, Variant(name, system, tuple(sorted(settings.items())))
