-- The meter. Parts of one minute come in several inserts and are added up, in merges and in the view.
CREATE TABLE IF NOT EXISTS pai.api_call_parts
(
    minute DateTime('UTC') COMMENT 'Minute in which the calls were sent, UTC' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    operation LowCardinality(String) COMMENT 'Operation called',
    http_status UInt16 COMMENT 'HTTP status of the answer, 0 when there was none',
    code LowCardinality(String) COMMENT 'Error code in the answer, empty when there was none',
    calls UInt64 COMMENT 'Calls sent, count',
    rows UInt64 COMMENT 'Records in the answers, count',
    bytes UInt64 COMMENT 'Bodies of the answers, bytes',
    cost_cny Decimal(18, 6) COMMENT 'Price of the calls after the free tier, CNY'
)
ENGINE = SummingMergeTree((calls, rows, bytes, cost_cny))
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, region, operation, http_status, code)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Calls as they were shipped; read api_calls instead';

CREATE OR REPLACE VIEW pai.api_calls
(
    minute DateTime('UTC') COMMENT 'Minute in which the calls were sent, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    operation LowCardinality(String) COMMENT 'Operation called',
    http_status UInt16 COMMENT 'HTTP status of the answer, 0 when there was none',
    code LowCardinality(String) COMMENT 'Error code in the answer, empty when there was none',
    calls UInt64 COMMENT 'Calls sent, count',
    rows UInt64 COMMENT 'Records in the answers, count',
    bytes UInt64 COMMENT 'Bodies of the answers, bytes',
    cost_cny Decimal(18, 6) COMMENT 'Price of the calls after the free tier, CNY'
)
AS SELECT
    parts.minute AS minute,
    parts.region AS region,
    parts.operation AS operation,
    parts.http_status AS http_status,
    parts.code AS code,
    sum(parts.calls) AS calls,
    sum(parts.rows) AS rows,
    sum(parts.bytes) AS bytes,
    sum(parts.cost_cny) AS cost_cny
FROM pai.api_call_parts AS parts
GROUP BY minute, region, operation, http_status, code
COMMENT 'Calls of one minute, by operation and outcome, with their price';
