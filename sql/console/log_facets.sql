-- purpose: log lines of a range by the values of some columns, the most frequent of each
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: values UInt16 = 10  values of a column at most
SELECT
    multiIf(
        grouping(found.fault) = 0, 'fault',
        grouping(found.class) = 0, 'class',
        grouping(found.code) = 0, 'code',
        grouping(found.device) = 0, 'device',
        grouping(found.node) = 0, 'node',
        grouping(found.level) = 0, 'level',
        grouping(found.program) = 0, 'program',
        'cluster'
    ) AS field,
    multiIf(
        field = 'fault', toString(found.fault),
        field = 'class', toString(found.class),
        field = 'code', toString(found.code),
        field = 'device', toString(found.device),
        field = 'node', toString(found.node),
        field = 'level', toString(found.level),
        field = 'program', toString(found.program),
        toString(found.cluster)
    ) AS value,
    count() AS lines
FROM
(
    SELECT
        lines.fault_severity AS fault,
        lines.fault_class AS class,
        lines.fault_code AS code,
        lines.fault_device AS device,
        lines.node_id AS node,
        lines.severity AS level,
        extract(lines.syslogtag, '^[^\\[:]*') AS program,
        lines.cluster_id AS cluster
    FROM syslogs AS lines
    WHERE lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
        -- filters
) AS found
GROUP BY GROUPING SETS ((found.fault), (found.class), (found.code), (found.device), (found.node), (found.level), (found.program), (found.cluster))
ORDER BY field, lines DESC, value
LIMIT {values:UInt16} BY field
