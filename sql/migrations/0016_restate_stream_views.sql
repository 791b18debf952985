-- The views of streams once more: plain types, which every client can read, and the third state of a gap.
ALTER TABLE pai.gap_states COMMENT COLUMN IF EXISTS state 'open; filled once the range is covered after all; divided where smaller ones took its place';

CREATE OR REPLACE VIEW pai.gaps
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    start DateTime('UTC') COMMENT 'First second of the range, UTC',
    end DateTime('UTC') COMMENT 'First second after the range, UTC',
    reason String COMMENT 'Why the range is not covered',
    state LowCardinality(String) COMMENT 'open; filled once the range is covered after all; divided where smaller ones took its place',
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
    toDateTime(toUnixTimestamp(min(states.collected_from)), 'UTC') AS collected_from,
    toDateTime(toUnixTimestamp(max(states.watermark)), 'UTC') AS watermark,
    fromUnixTimestamp64Milli(toUnixTimestamp64Milli(max(states.updated_at)), 'UTC') AS updated_at
FROM pai.watermark_states AS states
GROUP BY operation, region, scope_id
COMMENT 'Streams, one row each: what is collected and up to when';
