"""What a line of the journal holds, as its JSON Schema is made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, RootModel

Bytes = Annotated[int, Field(ge=0)]
Nanoseconds = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """Any part of a line: it holds just what is named here."""

    model_config = ConfigDict(extra="forbid")


class Cell(Part):
    """One point of the matrix."""

    id: str
    key: str = Field(pattern="^[0-9a-f]{12}$", description="hash of all in the plan that can change the result")
    kind: Literal["download", "upload"]
    variant: str
    system: str
    settings: dict[str, str | int | float | bool]
    nodes: int = Field(ge=2)
    seeders: int = Field(ge=1)
    size: int = Field(ge=1, description="bytes")
    size_text: str
    link: int | None = Field(description="bits a second of each node's link, both ways; null: no limit")


class Timeline(Part):
    """When the bytes of one transfer came, in one view."""

    total: Bytes
    marks: list[tuple[Bytes, Nanoseconds]] = Field(
        description="bytes held, and when: the first byte, 1 MiB, every whole percent, the last byte"
    )
    received: list[Bytes] = Field(description="bytes received at each whole second")
    gaps: list[tuple[Nanoseconds, Nanoseconds]] = Field(description="start and length of every pause over 1 s")
    end_ns: Nanoseconds = Field(description="the last moment seen")


class Transfer(Part):
    """What one node did."""

    node: str
    kind: Literal["download", "upload", "proof"]
    outcome: Literal["ok", "corrupt", "late", "failed"]
    timelines: dict[str, Timeline] = Field(description="by view: available (any order) or contiguous")
    seconds: dict[str, FiniteFloat] = Field(description="other durations by name, such as publish_s")
    error: str | None
    log_tail: str | None


class Counters(Part):
    """What one node used over the measured part of a round; null where nobody can tell."""

    wire_rx_bytes: int | None
    wire_tx_bytes: int | None
    payload_rx_bytes: int | None
    payload_tx_bytes: int | None
    cpu_s: FiniteFloat | None
    rss_peak_bytes: int | None
    more: dict[str, FiniteFloat]


class Environment(Part):
    """Where it was measured."""

    backend: str
    isolation: str
    versions: dict[str, str]
    machine: dict[str, Any]
    kernel: str
    colocated: bool = Field(description="several nodes share a machine")
    workers: int
    wire: str = Field(description="how bytes on the wire were counted")
    probe: dict[str, FiniteFloat | None] = Field(
        description="10^6 B/s of wire and disk, measured before the first round"
    )


class Round(Part):
    """One round, as it was measured; every figure that is shown is derived from these."""

    kind: Literal["round"]
    schema_: Literal[1] = Field(alias="schema")
    cell: Cell
    index: int = Field(ge=-1, description="-1: it only warmed the cluster up")
    warmup: bool
    success: bool
    seed: int
    seeders: list[str]
    started_at: str = Field(description="ISO 8601")
    handle: str
    digest: str
    deadline_s: FiniteFloat
    seconds: dict[str, FiniteFloat] = Field(description="durations of the round as a whole, such as start_skew_s")
    cold_cache: bool
    paired: str
    also_ran: list[str]
    flags: list[str]
    left_on: list[str] = Field(description="nodes that still held something of the file afterwards")
    relays: bool = Field(description="leechers pass on what they have")
    copies: bool = Field(description="publishing copies the bytes into the network")
    error: str | None
    transfers: list[Transfer]
    nodes: dict[str, Counters]
    environment: Environment


class Note(Part):
    """Why a cell has no rounds."""

    kind: Literal["note"]
    schema_: Literal[1] = Field(alias="schema")
    what: Literal["skipped", "error"]
    cell: Cell
    text: str


class Line(RootModel[Annotated[Round | Note, Field(discriminator="kind")]]):
    """A line of ``records.jsonl``."""
