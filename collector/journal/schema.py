"""The journal's tables. A change here raises `FORMAT` and adds its step to `UPGRADES`."""

from __future__ import annotations

import re

FORMAT = 8
"""Version of the file. Older ones are upgraded when opened, newer ones are refused."""

_OBSERVED = """
-- The objects of a stream of observed states, as they were seen last.
CREATE TABLE observed (
    stream_id INTEGER NOT NULL,
    object_id TEXT NOT NULL,
    listed INTEGER,                   -- digest of what the list said, NULL when it has to be looked at closer
    fingerprint INTEGER NOT NULL,     -- digest of the state that was stored last
    is_present INTEGER NOT NULL,      -- 0 when the last complete list did not hold it
    ended_at INTEGER,                 -- when the object ended, as the service tells it
    seen_at INTEGER NOT NULL,         -- tick of the last list that held it
    state TEXT NOT NULL,              -- the columns of the stored state, a JSON array
    PRIMARY KEY (stream_id, object_id)
) WITHOUT ROWID;
"""

_SPEND_HOURS = """
-- What calls cost in each of the last hours, for the pace of the spend.
CREATE TABLE spend_hours (
    hour INTEGER PRIMARY KEY,         -- its first second
    since INTEGER NOT NULL,           -- minute of its first call that cost something
    cost_micro_cny INTEGER NOT NULL
) WITHOUT ROWID;
"""

_TERMS = """
ALTER TABLE reserved ADD COLUMN price_micro_cny INTEGER;
ALTER TABLE reserved ADD COLUMN free_calls INTEGER;
"""

_GENERATIONS = """
-- Of streams whose watermark was set back, or was taken over from the store.
CREATE TABLE IF NOT EXISTS generations (
    stream_id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,      -- raised when the watermark is set back; the store shows that of the highest
    adopted_to INTEGER                -- the watermark that was taken over
) WITHOUT ROWID;
"""

_BACKFILLS = """
-- Ranges that backfills read. Kept until a backfill is done, so that an interrupted one goes on where it was.
CREATE TABLE backfills (
    stream_id INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    sealed_to INTEGER NOT NULL,       -- read up to here
    covered INTEGER NOT NULL DEFAULT 0, -- 1 once all of it is read and acknowledged
    found TEXT NOT NULL DEFAULT '[]', -- what the answers did not cover: a JSON array of [start, end, reason]
    PRIMARY KEY (stream_id, start)
) WITHOUT ROWID;
"""

_QUARANTINE = """
-- Rows that the store never takes and of which it takes no dead letter either. Kept here, and counted.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    table_name TEXT NOT NULL,
    partition TEXT NOT NULL,
    rows INTEGER NOT NULL,
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL   -- server time
);
"""

_SIZES = (
    _QUARANTINE
    + """
ALTER TABLE windows ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN part_id TEXT;
CREATE INDEX chunks_of_part ON chunks (part_id) WHERE part_id IS NOT NULL;
UPDATE windows SET bytes = (SELECT ifnull(sum(bytes), 0) FROM chunks WHERE window_id = windows.id)
    WHERE seal_number IS NULL;
-- Segments of older formats may be of any size: their rows are compared. The meter has nothing to be compared by.
UPDATE chunks SET segment_id = NULL, mode = 'compare'
    WHERE segment_id IS NOT NULL AND table_name != 'api_call_parts';
DELETE FROM segments WHERE table_name != 'api_call_parts';
"""
)

_POT_HOURS = """
-- Calls of the last hours that came out of a pot of free calls, for their pace.
CREATE TABLE pot_hours (
    hour INTEGER NOT NULL,            -- its first second
    pot TEXT NOT NULL,
    since INTEGER NOT NULL,           -- minute of its first call
    calls INTEGER NOT NULL,
    PRIMARY KEY (hour, pot)
) WITHOUT ROWID;
"""


def _wider(*tables: str) -> str:
    """What tables with more columns need: what was frozen of them is compared; `older_rows` completes the rows."""
    segments = f"FROM segments WHERE table_name IN ({', '.join(repr(table) for table in tables)})"
    return f"""
DELETE FROM chunks WHERE segment_id IS NULL AND part_id IN (SELECT id {segments});
UPDATE chunks SET segment_id = NULL, part_id = NULL, mode = 'compare' WHERE segment_id IN (SELECT id {segments});
DELETE {segments};
"""


UPGRADES: dict[int, str] = {
    1: _OBSERVED, 2: _TERMS + _SPEND_HOURS, 3: _BACKFILLS, 4: _SIZES, 5: _GENERATIONS,
    6: _POT_HOURS + _wider("metric_points"), 7: _wider("user_metrics", "resource_group_metrics"),
}  # fmt: skip
"""For each older format: the statements that lead to the next one."""

DDL = (
    _OBSERVED
    + _SPEND_HOURS
    + _BACKFILLS
    + _QUARANTINE
    + _GENERATIONS
    + _POT_HOURS
    + """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- One row a stream: what was planned, sealed and acknowledged.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    operation TEXT NOT NULL,
    region TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    collected_from INTEGER,           -- start of the first sealed window
    sealed_to INTEGER,                -- end of the last sealed window: the next one starts here
    watermark INTEGER,                -- everything before is acknowledged by the store
    watermark_shipped INTEGER,        -- the watermark that the store's own table shows
    error TEXT NOT NULL DEFAULT '',   -- the last failure, '' when the stream is well
    error_at INTEGER,
    UNIQUE (operation, region, scope_id)
);

-- For each recheck delay of a stream: closed windows up to here were looked at again.
CREATE TABLE rechecks (
    stream_id INTEGER NOT NULL,
    delay INTEGER NOT NULL,
    rechecked_to INTEGER NOT NULL,
    PRIMARY KEY (stream_id, delay)
) WITHOUT ROWID;

-- Ranges of event time of which the store may already hold rows: windows there are compared.
CREATE TABLE held (
    stream_id INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    PRIMARY KEY (stream_id, start, end)
) WITHOUT ROWID;

-- A window from its first committed page until its rows are acknowledged.
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream_id INTEGER NOT NULL,
    delay INTEGER NOT NULL,           -- 0: first look, above: the recheck that asked for it; -1: strays, and copies
                                      -- of the rows of open windows; -2: backfill,
                                      -- -3 and -4: out of another journal, whole or in part; -5: set back
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    mode TEXT NOT NULL,
    cursor TEXT,                      -- of the next page, NULL for the first
    cursors_used BLOB NOT NULL,       -- 8-byte digests, for finding a cursor that repeats
    pages INTEGER NOT NULL,           -- committed pages of this reading
    bytes INTEGER NOT NULL DEFAULT 0, -- of the rows of this reading
    reading INTEGER NOT NULL,         -- 0, and one more each time a dead cursor made it start again
    last_time INTEGER,                -- newest event time so far, while rows come in order
    in_order INTEGER NOT NULL,
    seal_number INTEGER               -- position in journal order; NULL while pages are missing
);
CREATE UNIQUE INDEX windows_open ON windows (stream_id, delay) WHERE seal_number IS NULL;
CREATE INDEX windows_sealed ON windows (stream_id, seal_number) WHERE seal_number IS NOT NULL;

-- Rows on their way to one table and partition, as lines that never change.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    window_id INTEGER,                -- NULL for rows that belong to no window (the meter)
    stream_id INTEGER,
    reading INTEGER NOT NULL DEFAULT 0,
    table_name TEXT NOT NULL,
    partition TEXT NOT NULL,
    mode TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL,
    seal_number INTEGER,              -- of its window; NULL: not to be shipped yet
    journaled_at REAL NOT NULL,       -- monotonic seconds, for the flush interval only
    segment_id TEXT,
    part_id TEXT                      -- the part of that segment, where it is sent in parts
);
CREATE INDEX chunks_pending ON chunks (table_name, seal_number) WHERE seal_number IS NOT NULL AND segment_id IS NULL;
CREATE INDEX chunks_of_stream ON chunks (stream_id, seal_number) WHERE stream_id IS NOT NULL;
CREATE INDEX chunks_of_window ON chunks (window_id) WHERE window_id IS NOT NULL;
CREATE INDEX chunks_of_segment ON chunks (segment_id) WHERE segment_id IS NOT NULL;
CREATE INDEX chunks_of_part ON chunks (part_id) WHERE part_id IS NOT NULL;

-- What is sent as one insert. Without a body it is the concatenation of its chunks. One that has parts is not sent
-- itself: each part is, and the segment is acknowledged with its last part.
CREATE TABLE segments (
    id TEXT PRIMARY KEY,              -- also the insert's deduplication token
    number INTEGER NOT NULL,          -- order of sending within the table
    table_name TEXT NOT NULL,
    partition TEXT NOT NULL,
    mode TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    body BLOB,                        -- what a comparison left over, or a part that is less than whole chunks
    parent_id TEXT,                   -- the segment of which this is a part
    sent_at INTEGER                   -- server time of the first try, NULL before it
) WITHOUT ROWID;
CREATE INDEX segments_of_table ON segments (table_name, number);

-- Ranges that are not covered; shipped whenever they change.
CREATE TABLE gaps (
    stream_id INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    shipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (stream_id, start, end)
) WITHOUT ROWID;

-- Calls that were allowed to go out and whose answers are not committed yet.
CREATE TABLE reserved (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    minute INTEGER NOT NULL,
    price_micro_cny INTEGER,          -- the terms at its reservation; NULL where an older format kept none
    free_calls INTEGER
);
-- Settled calls of a minute that are not in a chunk yet. Money is in millionths of a CNY.
CREATE TABLE meter (
    minute INTEGER NOT NULL,
    operation TEXT NOT NULL,
    http_status INTEGER NOT NULL,
    code TEXT NOT NULL,
    calls INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    cost_micro_cny INTEGER NOT NULL,
    PRIMARY KEY (minute, operation, http_status, code)
) WITHOUT ROWID;
-- Calls and spend of a billing month, for the free tier.
CREATE TABLE months (
    month TEXT NOT NULL,
    operation TEXT NOT NULL,
    calls INTEGER NOT NULL,
    cost_micro_cny INTEGER NOT NULL,
    PRIMARY KEY (month, operation)
) WITHOUT ROWID;

-- Things worth counting for ever, such as conflicts, strays and dead letters.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
"""
)


TABLE_NAMES = frozenset(re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", DDL, re.MULTILINE))


def statements(script: str) -> list[str]:
    """Split a script of this module into its statements."""
    without_comments = "\n".join(line.split("--")[0] for line in script.splitlines())
    return [statement for statement in without_comments.split(";") if statement.strip()]
