-- The hours of a part hold its faults by the second, with case and device: lists of faults and incidents are folded from
-- these, and no line is read. Lines without a fault count in the first second of their hour, so they take as many rows
-- as before. The hours of older parts are made again at the start, once the fault columns have their expressions, in the
-- background; until then the engine reads their lines.
ALTER TABLE pai.syslogs DROP PROJECTION IF EXISTS hourly;

ALTER TABLE pai.syslogs ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT
        toStartOfHour(time), region, cluster_id, node_id, hostname, severity, fault_class, fault_code, fault_case,
        fault_device, if(fault_class = '', toStartOfHour(time), time), count(), min(time), max(time)
    GROUP BY
        toStartOfHour(time), region, cluster_id, node_id, hostname, severity, fault_class, fault_code, fault_case,
        fault_device, if(fault_class = '', toStartOfHour(time), time)
);

CREATE OR REPLACE VIEW pai.fault_seconds
(
    hour DateTime('UTC') COMMENT 'Start of the hour, UTC; a condition on it leaves out what need not be read',
    time DateTime('UTC') COMMENT 'When the lines were logged, seconds, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the node',
    node_id LowCardinality(String) COMMENT 'Node that logged the lines',
    hostname LowCardinality(String) COMMENT 'Host name in the lines',
    fault_class LowCardinality(String) COMMENT 'Kind of fault that the messages report: a class of fault_codes',
    fault_code UInt16 COMMENT 'Number in the messages, such as that of an Xid; 0 if none',
    fault_case LowCardinality(String) COMMENT 'Case of the class or number that the messages are; empty if they are of none',
    fault_severity Enum8('' = 0, 'info' = 1, 'corrected' = 2, 'application' = 3, 'degraded' = 4, 'fatal' = 5) COMMENT 'What a person has to do, worst last: info, corrected, application, degraded, fatal',
    device LowCardinality(String) COMMENT 'What the fault is about: a PCI address as dddd:bb:dd, else a disk, an interface or the like; empty if the messages name none',
    lines UInt64 COMMENT 'Lines, count'
)
AS SELECT
    toStartOfHour(logs.time) AS hour,
    if(logs.fault_class = '', toStartOfHour(logs.time), logs.time) AS time,
    logs.region AS region,
    logs.cluster_id AS cluster_id,
    logs.node_id AS node_id,
    logs.hostname AS hostname,
    logs.fault_class AS fault_class,
    logs.fault_code AS fault_code,
    logs.fault_case AS fault_case,
    logs.fault_severity AS fault_severity,
    logs.fault_device AS device,
    count() AS lines
FROM pai.syslogs AS logs
WHERE logs.fault_class != ''
GROUP BY hour, time, region, cluster_id, node_id, hostname, fault_class, fault_code, fault_case, fault_severity, device
COMMENT 'Faults counted by second, node and device, without their messages; always equal to syslogs';
