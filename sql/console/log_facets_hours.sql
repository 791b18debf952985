-- purpose: as log_facets, for conditions on columns of the table's hours: of whole hours only the programs are read
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: values UInt16 = 10  values of a column at most
WITH
    toStartOfHour({start:DateTime('UTC')} + 3599) AS first_hour,
    greatest(toStartOfHour({end:DateTime('UTC')}), first_hour) AS end_hour
SELECT found.field AS field, found.value AS value, found.lines AS lines
FROM
(
    SELECT
        multiIf(
            grouping(counted.fault) = 0, 'fault',
            grouping(counted.class) = 0, 'class',
            grouping(counted.code) = 0, 'code',
            grouping(counted.device) = 0, 'device',
            grouping(counted.node) = 0, 'node',
            grouping(counted.level) = 0, 'level',
            'cluster'
        ) AS field,
        multiIf(
            field = 'fault', toString(counted.fault),
            field = 'class', toString(counted.class),
            field = 'code', toString(counted.code),
            field = 'device', toString(counted.device),
            field = 'node', toString(counted.node),
            field = 'level', toString(counted.level),
            toString(counted.cluster)
        ) AS value,
        sum(counted.lines) AS lines
    FROM
    (
        SELECT
            lines.fault_severity AS fault, lines.fault_class AS class, lines.fault_code AS code,
            lines.fault_device AS device, lines.node_id AS node, lines.severity AS level, lines.cluster_id AS cluster,
            count() AS lines
        FROM syslogs AS lines
        WHERE toStartOfHour(lines.time) >= first_hour AND toStartOfHour(lines.time) < end_hour
            -- filters
        GROUP BY fault, class, code, device, node, level, cluster
        UNION ALL
        SELECT
            lines.fault_severity AS fault, lines.fault_class AS class, lines.fault_code AS code,
            lines.fault_device AS device, lines.node_id AS node, lines.severity AS level, lines.cluster_id AS cluster,
            count() AS lines
        FROM syslogs AS lines
        WHERE lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
            AND (lines.time < first_hour OR lines.time >= end_hour)
            -- filters
        GROUP BY fault, class, code, device, node, level, cluster
    ) AS counted
    GROUP BY GROUPING SETS ((counted.fault), (counted.class), (counted.code), (counted.device), (counted.node), (counted.level), (counted.cluster))
    UNION ALL
    SELECT 'program' AS field, extract(tags.tag, '^[^\\[:]*') AS value, sum(tags.lines) AS lines
    FROM
    (
        -- Tags are few beside the lines, and the program is searched in each only once.
        SELECT toString(lines.syslogtag) AS tag, count() AS lines
        FROM syslogs AS lines
        WHERE lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
            -- filters
        GROUP BY lines.syslogtag
    ) AS tags
    GROUP BY value
) AS found
ORDER BY field, lines DESC, value
LIMIT {values:UInt16} BY field
