-- Where every stream stands. A state is never changed, only added, and the views tell the latest.
-- Both directions of a watermark are safe to merge: the earliest start and the latest end are true
-- whatever order the states came in, so a watermark never goes back.
CREATE TABLE IF NOT EXISTS pai.watermark_states
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    collected_from SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'Start of the first window collected, seconds, UTC',
    watermark SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'Event time before which everything is stored, seconds, UTC',
    updated_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'When the state was written, milliseconds, UTC'
)
ENGINE = AggregatingMergeTree
ORDER BY (operation, region, scope_id)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'States of streams as they were written; read watermarks instead';

CREATE OR REPLACE VIEW pai.watermarks
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    collected_from DateTime('UTC') COMMENT 'Start of the first window collected, seconds, UTC',
    watermark DateTime('UTC') COMMENT 'Event time before which everything is stored, seconds, UTC',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC'
)
AS SELECT
    states.operation AS operation,
    states.region AS region,
    states.scope_id AS scope_id,
    min(states.collected_from) AS collected_from,
    max(states.watermark) AS watermark,
    max(states.updated_at) AS updated_at
FROM pai.watermark_states AS states
GROUP BY operation, region, scope_id
COMMENT 'Streams, one row each: what is collected and up to when';

CREATE TABLE IF NOT EXISTS pai.gap_states
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    start DateTime('UTC') COMMENT 'First second of the range, UTC',
    end DateTime('UTC') COMMENT 'First second after the range, UTC',
    reason String COMMENT 'Why the range is not covered',
    state LowCardinality(String) COMMENT 'open, or filled once the range is covered after all',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (operation, region, scope_id, start, end)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'States of gaps as they were written; read gaps instead';

CREATE OR REPLACE VIEW pai.gaps
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    start DateTime('UTC') COMMENT 'First second of the range, UTC',
    end DateTime('UTC') COMMENT 'First second after the range, UTC',
    reason String COMMENT 'Why the range is not covered',
    state LowCardinality(String) COMMENT 'open, or filled once the range is covered after all',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC'
)
AS SELECT
    states.operation AS operation,
    states.region AS region,
    states.scope_id AS scope_id,
    states.start AS start,
    states.end AS end,
    argMax(states.reason, states.updated_at) AS reason,
    argMax(states.state, states.updated_at) AS state,
    max(states.updated_at) AS updated_at
FROM pai.gap_states AS states
GROUP BY operation, region, scope_id, start, end
COMMENT 'Ranges of streams that are not covered, or were not once; one row a range';
