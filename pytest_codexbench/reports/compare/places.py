"""Where two sides were measured, as far as it is not the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.records import Round
from pytest_codexbench.stats import median

PLAIN = ("backend", "isolation", "kernel", "colocated", "workers", "wire")
PROBE_APART = 1.2
ON_THE_WIRE = frozenset({"wire_rx_bytes", "wire_tx_bytes", "overhead"})
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same, with what each side says of it; ``place``: of the machines, not of the builds."""

    what: str
    reference: str
    subject: str
    place: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.reference} | {self.subject}"


def differences(reference: Sequence[Round], subject: Sequence[Round], one_system: bool) -> tuple[Difference, ...]:
    """All that differs; of two systems, versions and settings that just one of them has are no difference."""
    found = []
    here, there = _facts(reference, one_system), _facts(subject, one_system)
    for what in dict.fromkeys((*here, *there)):
        ours, theirs = (_words(facts.get(what, ())) for facts in (here, there))
        of_builds = what.startswith(("versions.", "settings."))
        if ours != theirs and (one_system or not of_builds or NOTHING not in (ours, theirs)):
            found.append(Difference(what, ours, theirs, place=not of_builds and what != "deadline_s"))
    return (*found, *_probes(reference, subject))


def _facts(rounds: Iterable[Round], with_settings: bool) -> dict[str, set[str]]:
    """What is said of each thing, in any of the rounds."""
    facts: dict[str, set[str]] = {}
    for round_ in rounds:
        for what, value in _of_round(round_, with_settings):
            facts.setdefault(what, set()).add(_word(value))
    return facts


def _of_round(round_: Round, with_settings: bool) -> Iterator[tuple[str, object]]:
    place = round_.environment
    yield from ((name, getattr(place, name)) for name in PLAIN)
    yield from _of_mapping("machine", place.machine)
    yield from _of_mapping("versions", place.versions)
    if with_settings:
        variant = round_.cell.shape.variant
        yield from _of_mapping(f"settings.{variant.system}", dict(variant.settings))
    yield "deadline_s", round_.deadline_s
    yield "cold_cache", round_.cold_cache


def _of_mapping(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        # two machines of one kind differ by a few pages
        in_bytes = key == "memory" and isinstance(value, int)
        yield f"{name}.{key}", f"{value / 1e9:.3g} GB" if in_bytes else value


def _probes(reference: Sequence[Round], subject: Sequence[Round]) -> Iterator[Difference]:
    """Rates of wire and disk by the medians of the clusters' probes, where they are more than a fifth apart."""
    for name in ("wire_mb_s", "disk_mb_s"):
        ours, theirs = (_rate(rounds, name) for rounds in (reference, subject))
        if ours and theirs and max(ours / theirs, theirs / ours) > PROBE_APART:
            yield Difference(f"probe.{name}", f"{ours:.0f}", f"{theirs:.0f}", place=False)


def _rate(rounds: Iterable[Round], name: str) -> float | None:
    known = [rate for round_ in rounds if (rate := round_.environment.probe.get(name))]
    return median(known) if known else None


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _words(values: Iterable[str]) -> str:
    return " and ".join(sorted(values)) or NOTHING


def refuse_other_places(found: Iterable[Difference]) -> None:
    """For those who want the same machine, or nothing.

    Raises:
        WrongInput: if anything but the builds differs.
    """
    if other := [str(difference) for difference in found if difference.place]:
        raise WrongInput(f"--same-place: they were not measured in the same place: {'; '.join(other)}")


def refuse_other_counts(metric: str, reference: Iterable[Round], subject: Iterable[Round]) -> None:
    """Bytes on the wire that were counted in two ways are never compared.

    Raises:
        WrongInput: if they are of ``metric``: names both ways.
    """
    ours, theirs = ({r.environment.wire for r in rounds if _counts(metric, r)} for rounds in (reference, subject))
    if ours and theirs and len(ours | theirs) > 1:
        raise WrongInput(
            f"--metric={metric}: bytes on the wire were counted in two ways ({_words(ours)} | {_words(theirs)}), "
            "and such counts are never compared; times are: --metric=t100_s"
        )


def _counts(metric: str, round_: Round) -> bool:
    """Whether the metric rests on bytes counted on the wire."""
    by_nodes = all(counters.payload_tx_bytes is not None for counters in round_.nodes.values())
    return metric in ON_THE_WIRE or (metric == "seeder_share" and not by_nodes)
