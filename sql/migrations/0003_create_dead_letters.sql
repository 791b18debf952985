-- What the service returned and no table could take.
CREATE TABLE IF NOT EXISTS pai.dead_letters
(
    observed_at DateTime('UTC') COMMENT 'When the collector saw the record, seconds, UTC',
    operation LowCardinality(String) COMMENT 'Operation that returned the record',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What was asked for: a node, a resource group',
    reason String COMMENT 'Why the record could not become a row',
    record String COMMENT 'The record as it came, JSON text'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(observed_at)
ORDER BY (operation, scope_id, observed_at)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Records that could not be accepted, one row a record';
