-- A task has a row for each state that it was seen in; the view shows the last. The columns go through argMax as
-- one tuple, because on its own argMax passes over NULL and would show a value that is gone.
CREATE TABLE IF NOT EXISTS pai.diagnostic_states
(
    observed_at DateTime('UTC') COMMENT 'When the state was first seen, seconds, UTC' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    object_id LowCardinality(String) COMMENT 'Diagnostic task',
    is_present UInt8 COMMENT '1, or 0 once a complete list did not hold the object any more',
    fingerprint UInt64 COMMENT 'Digest of the columns after it: equal for equal states',
    cluster_id LowCardinality(String) COMMENT 'Cluster that is diagnosed',
    node_ids Array(String) COMMENT 'Nodes that are diagnosed',
    diagnostic_type LowCardinality(String) COMMENT 'What is diagnosed, such as CheckByAiJobLogs',
    state LowCardinality(String) COMMENT 'State of the task in the words of the service, such as Fault',
    created_at Nullable(DateTime('UTC')) COMMENT 'When the task was created, seconds, UTC; NULL when the service does not say',
    ended_at Nullable(DateTime('UTC')) COMMENT 'When the task ended, seconds, UTC; NULL until then',
    results String COMMENT 'Findings, a JSON array',
    extra String DEFAULT '{}' COMMENT 'What only the list of tasks tells, fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
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
COMMENT 'States of diagnostic tasks as they were seen; read diagnostics instead';

CREATE OR REPLACE VIEW pai.diagnostics
(
    diagnostic_id LowCardinality(String) COMMENT 'Diagnostic task',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster that is diagnosed',
    node_ids Array(String) COMMENT 'Nodes that are diagnosed',
    diagnostic_type LowCardinality(String) COMMENT 'What is diagnosed, such as CheckByAiJobLogs',
    state LowCardinality(String) COMMENT 'State of the task in the words of the service, such as Fault',
    created_at Nullable(DateTime('UTC')) COMMENT 'When the task was created, seconds, UTC; NULL when the service does not say',
    ended_at Nullable(DateTime('UTC')) COMMENT 'When the task ended, seconds, UTC; NULL until then',
    results String COMMENT 'Findings, a JSON array',
    observed_at DateTime('UTC') COMMENT 'When this state was first seen, seconds, UTC',
    extra String COMMENT 'What only the list of tasks tells, fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
AS SELECT
    tasks.diagnostic_id AS diagnostic_id,
    tasks.region AS region,
    tasks.latest.1 AS cluster_id,
    tasks.latest.2 AS node_ids,
    tasks.latest.3 AS diagnostic_type,
    tasks.latest.4 AS state,
    tasks.latest.5 AS created_at,
    tasks.latest.6 AS ended_at,
    tasks.latest.7 AS results,
    tasks.observed_at AS observed_at,
    tasks.latest.8 AS extra
FROM
(
    SELECT
        states.object_id AS diagnostic_id,
        states.region AS region,
        max(states.observed_at) AS observed_at,
        argMax(
            tuple(
                states.cluster_id, states.node_ids, states.diagnostic_type, states.state,
                states.created_at, states.ended_at, states.results, states.extra
            ),
            tuple(states.observed_at, states.fingerprint)
        ) AS latest
    FROM pai.diagnostic_states AS states
    GROUP BY diagnostic_id, region
) AS tasks
COMMENT 'Diagnostic tasks as last seen, one row each';
