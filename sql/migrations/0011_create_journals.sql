-- The journals that write to this store, so that no stream is ever collected by two of them. A state is never
-- changed, only added, and the view tells the latest. Having been given up is for ever, whatever is written later
-- by a journal that does not know it yet.
CREATE TABLE IF NOT EXISTS pai.journal_states
(
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    id String COMMENT 'Journal: the random id that it was made with',
    shard UInt16 COMMENT 'Part of the streams that it collects, 0 is the first',
    of UInt16 COMMENT 'Number of parts; 1 where one process collects everything',
    state LowCardinality(String) COMMENT 'collecting: its process is at work, or died; holding: it ended or changed its part, and holds rows that are not shipped; drained: it holds nothing; forgotten: it was given up',
    heartbeat DateTime('UTC') COMMENT 'When its process was last known to be alive, seconds, UTC',
    host String COMMENT 'Machine that it is on',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (region, id, shard, of, state)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'States of journals as they were written; read journals instead';

CREATE OR REPLACE VIEW pai.journals
(
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    id String COMMENT 'Journal: the random id that it was made with',
    shard UInt16 COMMENT 'Part of the streams that it collects, 0 is the first',
    of UInt16 COMMENT 'Number of parts; 1 where one process collects everything',
    state LowCardinality(String) COMMENT 'collecting: its process is at work, or died; holding: it ended or changed its part, and holds rows that are not shipped; drained: it holds nothing; forgotten: it was given up',
    heartbeat DateTime('UTC') COMMENT 'When its process was last known to be alive, seconds, UTC',
    host String COMMENT 'Machine that it is on',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC'
)
AS SELECT
    states.region AS region,
    states.id AS id,
    states.shard AS shard,
    states.of AS of,
    if(countIf(states.state = 'forgotten') > 0, 'forgotten', argMax(states.state, states.updated_at)) AS state,
    max(states.heartbeat) AS heartbeat,
    argMax(states.host, states.updated_at) AS host,
    max(states.updated_at) AS updated_at
FROM pai.journal_states AS states
GROUP BY region, id, shard, of
COMMENT 'Journals, one row for each part that each of them has worked on';
