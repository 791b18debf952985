-- A watermark that was dated by a clock that ran ahead is set back. States of a later generation stand for those before;
-- within one, the earliest start and the latest end are true whatever order the states came in.
ALTER TABLE pai.watermark_states ADD COLUMN IF NOT EXISTS generation UInt32 COMMENT 'Raised each time the watermark is set back, count', MODIFY ORDER BY (operation, region, scope_id, generation);

CREATE OR REPLACE VIEW pai.watermarks
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    collected_from DateTime('UTC') COMMENT 'Start of the first window collected, seconds, UTC',
    watermark DateTime('UTC') COMMENT 'Event time before which everything is stored, seconds, UTC',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC',
    generation UInt32 COMMENT 'How often the watermark was set back because the clock had been ahead, at least; a number that only grows'
)
AS SELECT
    states.operation AS operation,
    states.region AS region,
    states.scope_id AS scope_id,
    toDateTime(toUnixTimestamp(min(states.collected_from)), 'UTC') AS collected_from,
    toDateTime(tupleElement(max(tuple(states.generation, toUnixTimestamp(states.watermark))), 2), 'UTC') AS watermark,
    fromUnixTimestamp64Milli(toUnixTimestamp64Milli(max(states.updated_at)), 'UTC') AS updated_at,
    max(states.generation) AS generation
FROM pai.watermark_states AS states
GROUP BY operation, region, scope_id
COMMENT 'Streams, one row each: what is collected and up to when';
