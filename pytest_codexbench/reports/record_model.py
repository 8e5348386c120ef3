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

    id: str = Field(description="as in the test's id")
    key: str = Field(pattern="^[0-9a-f]{12}$", description="hash of all in the plan that can change the result")
    kind: Literal["download", "upload", "reliability", "stability"]
    variant: str = Field(description="its name, as codex.next")
    system: str = Field(description="what it is a variant of")
    settings: dict[str, str | int | float | bool] = Field(description="the variant's")
    nodes: int = Field(ge=2, description="seeders included")
    seeders: int = Field(ge=1)
    size: int = Field(ge=1, description="bytes")
    size_text: str = Field(description="the same, as in the id")
    link: int | None = Field(description="bits a second of each node's link, both ways; null: no limit")
    disturbance: str = Field("", description="what happens meanwhile; in cells of reliability alone")


class Timeline(Part):
    """When the bytes of one transfer came, in one view."""

    total: Bytes = Field(description="of the file")
    marks: list[tuple[Bytes, Nanoseconds]] = Field(
        description="bytes held, and when: the first byte, 1 MiB, every whole percent, the last byte"
    )
    received: list[Bytes] = Field(description="bytes received at each whole second")
    gaps: list[tuple[Nanoseconds, Nanoseconds]] = Field(description="start and length of every pause over 1 s")
    end_ns: Nanoseconds = Field(description="the last moment seen")


class Transfer(Part):
    """What one node did."""

    node: str = Field(description="its name")
    kind: Literal["download", "upload", "proof"] = Field(
        description="proof: the fetch that proves an upload, outside its clock"
    )
    outcome: Literal["ok", "corrupt", "late", "failed"]
    timelines: dict[str, Timeline] = Field(description="by view: available (any order) or contiguous")
    seconds: dict[str, FiniteFloat] = Field(description="other durations by name, such as publish_s")
    error: str | None = Field(description="what went wrong, in words")
    log_tail: str | None = Field(description="the end of the node's log, of a transfer that failed")


class Counters(Part):
    """What one node used over the measured part of a round; null where nobody can tell."""

    wire_rx_bytes: int | None = Field(description="received on its link, headers and all protocols")
    wire_tx_bytes: int | None = Field(description="sent on it")
    payload_rx_bytes: int | None = Field(description="of files, as the node itself counts them")
    payload_tx_bytes: int | None = Field(description="the same, sent")
    cpu_s: FiniteFloat | None = Field(description="processor time of its processes")
    rss_peak_bytes: int | None = Field(description="the peak of their resident memory")
    more: dict[str, FiniteFloat] = Field(description="counters of the node's own, by name")
    rss_bytes: int | None = Field(None, description="resident memory at that moment; in a soak")
    disk_bytes: int | None = Field(None, description="what its folder takes of the disk at that moment; in a soak")
    started_at_s: FiniteFloat | None = Field(None, description="when its program was started; in a soak")


class Happened(Part):
    """What was done to the swarm meanwhile; seconds are since the fetches began, by the clock of the runner."""

    name: str = Field(description="the disturbance")
    nodes: list[str] = Field(description="to whom")
    percent: FiniteFloat | None = Field(description="how much of the file was there when it began")
    begun_s: FiniteFloat | None
    ended_s: FiniteFloat | None
    ready_s: FiniteFloat | None = Field(description="when those it was done to served again")
    recovery_s: FiniteFloat | None = Field(description="from its end to the first new bytes; median over leechers")
    recovered: bool = Field(description="false: no new bytes came after its end")
    seen: dict[str, FiniteFloat] = Field(description="what was read back of it, such as dropped_packets")
    void: str | None = Field(description="why it did not happen: the round counts for nothing")


class Environment(Part):
    """Where it was measured."""

    backend: str = Field(description="local or kubernetes")
    isolation: str = Field(description="what keeps the nodes' networks apart")
    versions: dict[str, str] = Field(description="by program")
    machine: dict[str, Any] = Field(description="processor, cores, memory")
    kernel: str
    colocated: bool = Field(description="several nodes share a machine")
    workers: int = Field(description="processes that ran rounds (-n)")
    wire: str = Field(description="how bytes on the wire were counted")
    probe: dict[str, FiniteFloat | None] = Field(
        description="10^6 B/s of wire and disk, measured before the first round"
    )


class Series(Part):
    """Samples of one metric of one node."""

    labels: dict[str, str]
    points: list[tuple[FiniteFloat, FiniteFloat]] = Field(description="pairs of a Unix time in seconds and a value")


class Round(Part):
    """One round, as it was measured; every figure that is shown is derived from these."""

    kind: Literal["round"]
    schema_: Literal[1] = Field(alias="schema")
    cell: Cell
    index: int = Field(ge=-1, description="-1: it only warmed the cluster up")
    warmup: bool = Field(description="in no figure")
    success: bool = Field(description="every transfer brought every byte in time, with the file's digest")
    seed: int = Field(description="of the file's bytes")
    seeders: list[str] = Field(description="names of the nodes that held the file")
    started_at: str = Field(description="ISO 8601")
    handle: str = Field(description="by which the file was fetched: a CID, an info hash, a name")
    digest: str = Field(description="BLAKE3 of the file")
    deadline_s: FiniteFloat = Field(description="for each transfer")
    seconds: dict[str, FiniteFloat] = Field(description="durations of the round as a whole, such as start_skew_s")
    cold_cache: bool = Field(description="the nodes' files were out of the page cache when the clock started")
    paired: str = Field(description="what it shares with that round of the others: 'draw and time' or 'draw only'")
    also_ran: list[str] = Field(description="clusters that were up meanwhile")
    flags: list[str] = Field(description="what makes it less than perfect, in words")
    left_on: list[str] = Field(description="nodes that still held something of the file afterwards")
    relays: bool = Field(description="leechers pass on what they have")
    copies: bool = Field(description="publishing copies the bytes into the network")
    error: str | None = Field(description="what ended it before its transfers could, in words")
    happened: Happened | None = None
    rest: dict[str, Counters] = Field(default_factory=dict, description="by name, after the deletion; in a soak")
    transfers: list[Transfer]
    nodes: dict[str, Counters] = Field(description="by name")
    environment: Environment


class Lookup(Part):
    """What a database of metrics had of a round."""

    kind: Literal["series"]
    schema_: Literal[1] = Field(alias="schema")
    cell: str = Field(description="the id of the round's cell")
    index: int = Field(ge=0)
    series: dict[str, list[Series]] = Field(description="by metric")
    trouble: str | None = Field(description="why there is nothing")


class Delivery(Part):
    """What one node saw of a message."""

    node: str
    copies: int = Field(ge=0)
    latency_s: FiniteFloat | None = Field(description="null: it did not arrive")
    error: str | None


class Meeting(Part):
    """One round of a test with several deployments."""

    kind: Literal["meeting"]
    schema_: Literal[1] = Field(alias="schema")
    test: str
    index: int = Field(ge=0)
    success: bool = Field(description="all was as it should be")
    deployments: list[dict[str, Any]] = Field(description="of each its name, variant, nodes, and whom it meets")
    started_at: str = Field(description="ISO 8601")
    seconds: FiniteFloat
    measures: dict[str, FiniteFloat] = Field(description="by name, with the unit in it")
    deliveries: list[Delivery]
    flags: list[str]
    error: str | None = Field(description="what was not as it should be, in words")
    environment: Environment


class Note(Part):
    """Why a cell has no rounds."""

    kind: Literal["note"]
    schema_: Literal[1] = Field(alias="schema")
    what: Literal["skipped", "error"]
    cell: Cell
    text: str = Field(description="the reason, and the way out")


class Line(RootModel[Annotated[Round | Note | Meeting | Lookup, Field(discriminator="kind")]]):
    """A line of ``records.jsonl``."""
