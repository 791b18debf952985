-- A row for each state that the configuration of a log shipper was seen in. It is the history that is asked for, so
-- the view shows all of them.
CREATE TABLE IF NOT EXISTS pai.resource_log_states
(
    observed_at DateTime('UTC') COMMENT 'When the state was first seen, seconds, UTC' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    object_id LowCardinality(String) COMMENT 'Serving resource group, cluster_id/resource_id',
    is_present UInt8 COMMENT '1, or 0 once a complete list did not hold the object any more',
    fingerprint UInt64 COMMENT 'Digest of the columns after it: equal for equal states',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the serving resource group, a region',
    resource_id LowCardinality(String) COMMENT 'Serving resource group',
    project_name LowCardinality(String) COMMENT 'Log Service project that logs are shipped to, empty when none',
    log_store LowCardinality(String) COMMENT 'Logstore in the project, empty when none',
    status LowCardinality(String) COMMENT 'Status in the words of the service, such as ResourceReady',
    message String COMMENT 'What the service says about the status, text',
    extra String DEFAULT '{}' COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(observed_at)
ORDER BY (object_id, observed_at)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'States of log shippers as they were seen; read resource_logs instead';

CREATE OR REPLACE VIEW pai.resource_logs
(
    observed_at DateTime('UTC') COMMENT 'When the state was first seen, seconds, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the serving resource group, a region',
    resource_id LowCardinality(String) COMMENT 'Serving resource group',
    project_name LowCardinality(String) COMMENT 'Log Service project that logs are shipped to, empty when none',
    log_store LowCardinality(String) COMMENT 'Logstore in the project, empty when none',
    status LowCardinality(String) COMMENT 'Status in the words of the service, such as ResourceReady',
    message String COMMENT 'What the service says about the status, text',
    extra String COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
AS SELECT
    states.observed_at AS observed_at,
    states.region AS region,
    states.cluster_id AS cluster_id,
    states.resource_id AS resource_id,
    states.project_name AS project_name,
    states.log_store AS log_store,
    states.status AS status,
    states.message AS message,
    states.extra AS extra
FROM pai.resource_log_states AS states
COMMENT 'States of log shippers, one row for each state that was seen; a row is added when something changes';
