"""Typed answers that commands, the console and JSON show. They are data: no import of what makes them."""

from __future__ import annotations

import msgspec


class MissingRange(msgspec.Struct, frozen=True):
    """A range of a stream that is not covered; times in ISO 8601 UTC, None if nothing of the stream is covered."""

    source: str
    operation: str
    scope_id: str
    start: str | None = msgspec.field(name="from")
    end: str | None = msgspec.field(name="to")
    seconds: int | None
    reason: str


class Gaps(msgspec.Struct, frozen=True):
    """What is not covered of a number of streams."""

    streams: int
    notes: list[str]
    has_history: bool
    gaps: list[MissingRange]


class Reason(msgspec.Struct, frozen=True):
    """One thing that is wrong; see `owner.health.Reason`."""

    kind: str
    text: str
    action: str
    subject: str
    detail: str
    is_severe: bool


class ClockStatus(msgspec.Struct, frozen=True):
    """Which time is used, and how far it is from this machine's."""

    source: str = ""
    offset_seconds: float = 0.0
    is_settled: bool = True
    doubt: str | None = None


class SourceStatus(msgspec.Struct, frozen=True):
    """The streams of one operation; see `pipeline.facts.SourceFacts`."""

    source: str
    operation: str
    states: dict[str, int]
    freshness_seconds: float | None
    freshness_promise_seconds: float
    settle_seconds: int
    ticks_missed: int
    due: int
    new_seconds: float
    is_fresh: bool


class Delay(msgspec.Struct, frozen=True):
    """How late the records of the last day arrived, in seconds."""

    rows: int
    p50: float
    p99: float
    p999: float
    most: int


class StopStatus(msgspec.Struct, frozen=True):
    """Something that is not asked at present; see `pipeline.facts.Stop`. Times in ISO 8601 UTC."""

    what: str
    operation: str
    error: str
    since: str | None
    next_try: str | None


class StreamStatus(msgspec.Struct, frozen=True):
    """One stream. Times in ISO 8601 UTC; the freshness of one that has ended is None."""

    operation: str
    region: str
    scope_id: str
    state: str
    collected_from: str | None = None
    watermark: str | None = None
    freshness_seconds: int | None = None
    pages_open: int = 0
    error: str | None = None
    error_at: str | None = None
    next_try: str | None = None
    last_poll: str | None = None
    next_poll: str | None = None


class OperationStatus(msgspec.Struct, frozen=True):
    """Calls, money and quota of one operation. Money is CNY in text."""

    operation: str
    calls_this_month: int = 0
    rows_received: int | None = None
    """Since the start; None if this process calls nothing."""
    spend_cny: str = "0"
    price_cny: str | None = None
    free_calls_per_month: int = 0
    quota_per_second: int = 0
    quota_documented: bool = False
    rate_per_second: float = 0.0
    quota_used_ratio: float = 0.0
    waiting: int = 0


class BudgetStatus(msgspec.Struct, frozen=True):
    """The money of the billing month, CNY in text."""

    spent_cny: str
    forecast_cny: str
    cap_cny: str | None
    is_reached: bool = False


class PotStatus(msgspec.Struct, frozen=True):
    """Free calls that operations share; see `pipeline.budget.PotFacts`."""

    pot: str
    operations: list[str]
    calls: int
    free_calls_per_month: int
    forecast_calls: int
    told: str


class JournalStatus(msgspec.Struct, frozen=True):
    """How full the journal is. Sizes in bytes."""

    path: str
    bytes_max: int
    is_full: bool
    set_aside: str | None
    bytes: int
    rows: int
    chunks: int
    segments: int
    open_windows: int


class MemoryStatus(msgspec.Struct, frozen=True):
    """How much memory the process may use, and for what (`memory.MemoryBounds`). Sizes in bytes."""

    bytes_max: int
    set_by: str
    engine: int
    query: int
    segment: int
    window: int
    shipping: int
    pages: int
    fetch: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How well things are, with streams, quota, spend and journal.

    Times are ISO 8601 UTC, money is CNY in text, sizes are bytes. This is the JSON of `status --json` and `/status`.
    """

    headline: str
    is_well: bool
    is_ready: bool = True
    reasons: list[Reason] = []
    notes: list[str] = []
    now: str
    clock: ClockStatus = ClockStatus()
    month: str = ""
    region: str
    shard: str
    streams_waiting: int = 0
    collecting: bool
    sources: list[SourceStatus]
    delays: dict[str, Delay] = {}
    stops: list[StopStatus] = []
    streams: list[StreamStatus]
    stream_count: int = 0
    states: dict[str, int]
    operations: list[OperationStatus]
    spend_cny: str = "0"
    budget: BudgetStatus
    pots: list[PotStatus] = []
    journal: JournalStatus
    memory: MemoryStatus
    store: dict[str, str]
    sql_address: str | None = None
    counters: dict[str, int] = {}
    store_error: str | None = None
    log_lines_dropped: int = 0
