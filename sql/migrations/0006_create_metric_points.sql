-- Points of all series, whichever product measured them. One metric of one scope over time is what a dashboard
-- asks for, and the collector compares a scope too, so both lead the key; a day of points is a partition.
CREATE TABLE IF NOT EXISTS pai.metric_points
(
    time DateTime('UTC') COMMENT 'Time of the point as the service gives it, seconds, UTC' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    source LowCardinality(String) COMMENT 'What measured: node_metrics, job_metrics, dsw_metrics',
    scope_id LowCardinality(String) COMMENT 'What was asked for: a resource group, a job, a notebook',
    entity_id LowCardinality(String) COMMENT 'What was measured: a node, a pod',
    metric LowCardinality(String) COMMENT 'Metric type that was asked for, such as GpuUsageRate',
    gpu_type LowCardinality(String) COMMENT 'GPU that was measured, such as A100; empty where the service tells none',
    value Float64 COMMENT 'Value in the unit of the metric, such as percent, as the service gives it',
    extra String DEFAULT '{}' COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(time)
ORDER BY (scope_id, metric, entity_id, time)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Points of metric series, one row a point';
