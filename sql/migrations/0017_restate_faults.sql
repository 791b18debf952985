-- Faults with their meaning once more: the meanings are looked up among constants, a third of the work of two joins, and
-- a cluster sends these instead of tables. A number that is not known means what its class means.
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
AS WITH
    (
        SELECT tuple(
            groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code))),
            groupArray(codes.meaning),
            groupArray(codes.action)
        )
        FROM pai.fault_codes AS codes
    ) AS numbers,
    (
        SELECT tuple(groupArray(toString(codes.fault_class)), groupArray(codes.meaning), groupArray(codes.action))
        FROM pai.fault_codes AS codes
        WHERE codes.fault_code = 0
    ) AS classes,
    concat(logs.fault_class, ' ', toString(logs.fault_code)) AS number
SELECT
    logs.time AS time,
    logs.region AS region,
    logs.cluster_id AS cluster_id,
    logs.node_id AS node_id,
    logs.hostname AS hostname,
    logs.severity AS severity,
    logs.fault_class AS fault_class,
    logs.fault_code AS fault_code,
    transform(number, numbers.1, numbers.2, transform(toString(logs.fault_class), classes.1, classes.2, '')) AS meaning,
    transform(number, numbers.1, numbers.3, transform(toString(logs.fault_class), classes.1, classes.3, '')) AS action,
    logs.msg AS msg
FROM pai.syslogs AS logs
WHERE logs.fault_class != ''
COMMENT 'Log lines that report a fault, with what it means; one row a line';
