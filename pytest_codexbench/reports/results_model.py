"""What ``results.json`` holds, as its JSON Schema is made of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

SCHEMA = 1

Count = Field(ge=0)


class Part(BaseModel):
    """Any part of the document: it holds just what is named here."""

    model_config = ConfigDict(extra="forbid")


class Run(BaseModel):
    """Provenance, as in ``run.json``: what was asked for, where, with which versions."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    matrix: str | None = None
    plan_hash: str | None = None
    seed: int | None = None
    rounds: int | None = None
    backend: str | None = None
    started_at: str | None = None
    command: str | list[str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    systems: list[str] | dict[str, Any] = Field(default_factory=list)
    versions: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)


class Interval(Part):
    """A median over rounds with its exact order-statistic interval; ``level`` null: just the range of the values.

    A limit that is null was not reached: it is infinite. ``reached`` tells it of the median.
    """

    reached: bool
    median: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    level: FiniteFloat | None = Field(description="coverage that holds exactly, for instance 0.969; null: a range")
    count: int = Field(ge=1, description="values it was made of")


class Transfer(Part):
    """What one node did in a round. ``figures`` are those that are known; infinite ones are named in the other list."""

    node: str
    kind: str = Field(description="download, upload, or proof: the fetch that proves an upload, outside its clock")
    outcome: Literal["ok", "corrupt", "late", "failed"]
    error: str | None
    figures: dict[str, FiniteFloat]
    not_reached: list[str]


class Round(Part):
    """One round: figures of the swarm are medians over leechers unless their name says otherwise."""

    index: int = Count
    success: bool
    failure: str | None
    flags: list[str] = Field(description="what makes it less than perfect, in words")
    started_at: str
    seed: int
    seeders: list[str]
    handle: str
    digest: str
    deadline_s: FiniteFloat
    cold_cache: bool
    paired: str
    also_ran: list[str]
    environment: int = Field(ge=0, description="position in the document's environments")
    figures: dict[str, FiniteFloat]
    not_reached: list[str]
    transfers: list[Transfer]


class Reliability(Part):
    """Rounds that succeeded, with Wilson's interval of their share; the transfers' share has none."""

    succeeded: int = Count
    attempted: int = Field(ge=1)
    low: FiniteFloat
    high: FiniteFloat
    level: FiniteFloat
    transfers_ok: int = Count
    transfers_attempted: int = Count


class Drift(Part):
    """Spearman's rank correlation of the time with the round's index; null where one of them does not vary."""

    rho: FiniteFloat | None
    flagged: bool = Field(description="over 0.6 either way, in as many rounds as give an interval")


class Cell(Part):
    """One point of the matrix, what became of it, its rounds and their summary."""

    id: str
    key: str = Field(description="hash of all in the plan that can change the result")
    kind: str = Field(description="download, upload, reliability or stability")
    variant: str
    system: str
    settings: dict[str, str | int | float | bool]
    nodes: int = Field(ge=2)
    seeders: int = Field(ge=1)
    leechers: int = Field(ge=1)
    size: int = Field(ge=1, description="bytes")
    size_text: str
    link: int | None = Field(description="bits a second of each node's link, both ways; null: no limit")
    disturbance: str = Field("", description="what happens meanwhile; in cells of reliability alone")
    status: Literal["passed", "failed", "skipped", "error", "not run"]
    reason: str | None
    headline: str = Field(description="the metric that cells of this kind are compared by")
    mb_s: FiniteFloat | None = Field(description="10^6 B/s of the median time; null: not reached")
    flagged_rounds: int = Count
    rounds: list[Round]
    summary: dict[str, Interval] = Field(description="by metric; one that nobody could tell is left out")
    without_flagged: dict[str, Interval] | None = Field(description="without flagged rounds; null if there are none")
    reliability: Reliability | None
    drift: Drift | None


class Verdict(Part):
    """Whether the interval of a ratio lies at or below a margin (pass), above it (fail), or neither."""

    margin: FiniteFloat
    verdict: Literal["pass", "fail", "inconclusive"] | None


class Subject(Part):
    """One system: its time over the reference's, paired round by round; over 1 is slower."""

    cell: str
    variant: str
    ratio: Interval | None
    without_flagged: Interval | None
    pairs: int = Field(ge=0, description="rounds that both have")
    neither: int = Field(ge=0, description="pairs in which neither arrived; they are left out of the ratio")
    paired_in_time: bool
    verdicts: list[Verdict]
    word: str = Field(description="all verdicts in a word or two; empty where none may be given")
    note: str | None = Field(description="why there is no ratio, or no verdict")


class Comparison(Part):
    """The systems of one block against its reference."""

    block: str
    kind: str
    nodes: int
    seeders: int
    size: int = Field(description="bytes")
    link: int | None
    metric: str
    reference: str
    subjects: list[Subject]


class Standing(Part):
    """One system against one reference over all blocks of a kind."""

    subject: str
    reference: str
    kind: str
    blocks: int = Field(ge=1)
    geometric_mean: FiniteFloat | None
    worst_block: str
    worst_ratio: FiniteFloat | None = Field(description="null: not reached")
    margins: list[Margin]


class Margin(Part):
    """In how many blocks a margin is kept."""

    margin: FiniteFloat
    passed: int = Count
    failed: int = Count
    inconclusive: int = Count
    failing: list[str] = Field(description="blocks that fail with Holm's correction over all of them")


class Delivery(Part):
    """What one node saw of a message."""

    node: str
    copies: int = Count
    latency_s: FiniteFloat | None = Field(description="null: it did not arrive")
    error: str | None


class Meeting(Part):
    """One round of a test with several deployments."""

    test: str
    index: int = Count
    success: bool
    deployments: list[dict[str, Any]] = Field(description="of each its name, variant, nodes, and whom it meets")
    started_at: str
    seconds: FiniteFloat
    measures: dict[str, FiniteFloat] = Field(description="by name, with the unit in it")
    deliveries: list[Delivery]
    flags: list[str]
    error: str | None = Field(description="what was not as it should be, in words")
    environment: int = Field(ge=0, description="position in environments")


class Resilience(Part):
    """One system under one disturbance; rounds in which it did not happen are ``void``, and in nothing else here."""

    cell: str
    variant: str
    disturbance: str
    rounds: int = Count
    void: int = Count
    succeeded: int = Count
    low: FiniteFloat = Field(description="Wilson's 95 % interval of the share that succeeded")
    high: FiniteFloat
    ratio: Interval | None = Field(description="t100 over the undisturbed round's of the same seeders, median leecher")
    last_ratio: Interval | None = Field(description="the same of the last leecher")
    figures: dict[str, Interval]


class Trend(Part):
    """A quantity over the rounds' numbers: Theil and Sen's slope a round, Spearman's rank correlation."""

    first: FiniteFloat
    last: FiniteFloat
    slope: FiniteFloat
    rho: FiniteFloat | None
    count: int = Count
    rises: bool = Field(description="rho over 0.6, in as many rounds as give an interval")


class NodeCourse(Part):
    """One node over a soak: bytes of resident memory and of disk after each deletion."""

    name: str
    memory: Trend | None
    disk: Trend | None
    restarts: int = Count


class Endurance(Part):
    """One system over a soak."""

    cell: str
    variant: str
    rounds: int = Count
    succeeded: int = Count
    low: FiniteFloat
    high: FiniteFloat
    seconds: Trend | None = Field(description="t100 of the median leecher")
    restarts: int = Count
    nodes: list[NodeCourse]


class Results(Part):
    """The whole of one run. Sizes are bytes, durations seconds, speeds 10^6 bytes a second."""

    schema_: Literal[1] = Field(alias="schema")
    run: Run
    environments: list[dict[str, Any]]
    cells: list[Cell]
    comparisons: list[Comparison]
    standings: list[Standing]
    meetings: list[Meeting] = Field(default_factory=list, description="of tests with several deployments")
    resilience: list[Resilience] = Field(default_factory=list, description="cells of reliability")
    endurance: list[Endurance] = Field(default_factory=list, description="soaks")
    warmups: int = Field(ge=0, description="rounds that only warmed a cluster up: in no figure")
    problems: list[str] = Field(description="what could not be read of the journal")
