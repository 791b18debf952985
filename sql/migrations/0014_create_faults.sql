-- What faults mean: as the rules say (faults.toml and the user's own), which are compared with this at every start. A
-- state is never changed, only added, and the view tells the latest.
CREATE TABLE IF NOT EXISTS pai.fault_code_states
(
    fault_class LowCardinality(String) COMMENT 'Kind of fault, as in syslogs',
    fault_code UInt16 COMMENT 'Number, such as that of an Xid; 0 for the class itself',
    meaning String COMMENT 'What it means, text',
    action String COMMENT 'What to do about it, text; empty where nothing general can be said',
    is_known UInt8 COMMENT '1, or 0 once the rules did not hold it any more',
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the state was written, milliseconds, UTC'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (fault_class, fault_code)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'States of fault meanings as they were written; read fault_codes instead';

CREATE OR REPLACE VIEW pai.fault_codes
(
    fault_class LowCardinality(String) COMMENT 'Kind of fault, as in syslogs',
    fault_code UInt16 COMMENT 'Number, such as that of an Xid; 0 for the class itself',
    meaning String COMMENT 'What it means, text',
    action String COMMENT 'What to do about it, text; empty where nothing general can be said'
)
AS SELECT
    known.fault_class AS fault_class,
    known.fault_code AS fault_code,
    known.latest.1 AS meaning,
    known.latest.2 AS action
FROM
(
    SELECT
        states.fault_class AS fault_class,
        states.fault_code AS fault_code,
        argMax(tuple(states.meaning, states.action, states.is_known), states.updated_at) AS latest
    FROM pai.fault_code_states AS states
    GROUP BY fault_class, fault_code
) AS known
WHERE known.latest.3 = 1
COMMENT 'Meaning of fault classes and of their numbers, one row each';

-- A number that is not known means what its class means. GLOBAL and ANY: a line stays one row, also where the tables
-- are spread over a cluster.
CREATE OR REPLACE VIEW pai.faults
(
    time DateTime('UTC') COMMENT 'When the line was logged, seconds, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the node',
    node_id LowCardinality(String) COMMENT 'Node that logged the line',
    hostname LowCardinality(String) COMMENT 'Host name in the line',
    severity LowCardinality(String) COMMENT 'Syslog severity, such as err or info',
    fault_class LowCardinality(String) COMMENT 'Kind of fault that the message reports: a class of fault_codes',
    fault_code UInt16 COMMENT 'Number in the message, such as that of an Xid; 0 where there is none',
    meaning String COMMENT 'What the number means, or the class where the number is not known, text',
    action String COMMENT 'What to do about it, text; empty where nothing general can be said',
    msg String COMMENT 'The message, text'
)
AS SELECT
    logs.time AS time,
    logs.region AS region,
    logs.cluster_id AS cluster_id,
    logs.node_id AS node_id,
    logs.hostname AS hostname,
    logs.severity AS severity,
    logs.fault_class AS fault_class,
    logs.fault_code AS fault_code,
    if(codes.meaning != '', codes.meaning, classes.meaning) AS meaning,
    if(codes.meaning != '', codes.action, classes.action) AS action,
    logs.msg AS msg
FROM pai.syslogs AS logs
GLOBAL ANY LEFT JOIN (SELECT fault_class, fault_code, meaning, action FROM pai.fault_codes) AS codes
    ON logs.fault_class = codes.fault_class AND logs.fault_code = codes.fault_code
GLOBAL ANY LEFT JOIN (SELECT fault_class, meaning, action FROM pai.fault_codes WHERE fault_code = 0) AS classes
    ON logs.fault_class = classes.fault_class
WHERE logs.fault_class != ''
COMMENT 'Log lines that report a fault, with what it means; one row a line';
