-- Events of services and of jobs. They are few, so a partition is a month; the hour leads the key, because the
-- latest events of everything are asked for as often as those of one service or job.
CREATE TABLE IF NOT EXISTS pai.events
(
    time DateTime('UTC') COMMENT 'When it happened, seconds, UTC' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    source LowCardinality(String) COMMENT 'Product that tells: eas, dlc',
    scope_id LowCardinality(String) COMMENT 'What was asked for: a service as cluster_id/service_name, a job',
    entity_id LowCardinality(String) COMMENT 'What it happened to: a service, a job, or what the event itself names',
    event_id String COMMENT 'Id of the event, empty where it has none',
    event_type LowCardinality(String) COMMENT 'Kind of the event, such as Normal or Warning; empty where it has none',
    reason LowCardinality(String) COMMENT 'Why, in one word, as the service gives it; empty where it has none',
    triggered_by LowCardinality(String) COMMENT 'Who or what caused it, empty where the service does not say',
    content String COMMENT 'What happened, text or JSON text',
    extra String DEFAULT '{}' COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (toStartOfHour(time), scope_id, time)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Events, one row an event; equal events of one second are separate rows';
