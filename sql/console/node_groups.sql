-- purpose: machines that metrics or usage named lately, with their resource groups; a metric knows better than usage
-- param: end UInt32  end of the range, seconds since the epoch
-- param: hours UInt32 = 6  how long before the end metrics are looked for, hours
-- param: minutes UInt32 = 30  how long before the end usage is looked at, minutes
SELECT
    named.name AS name,
    argMax(named.resource_group_id, tuple(named.is_measured, named.time)) AS resource_group_id,
    max(named.is_measured) AS is_measured
FROM
(
    SELECT
        points.entity_id AS name,
        toString(points.scope_id) AS resource_group_id,
        1 AS is_measured,
        points.time AS time
    FROM metric_points AS points
    WHERE points.time >= toDateTime({end:UInt32} - {hours:UInt32} * 3600, 'UTC')
        AND points.time < toDateTime({end:UInt32}, 'UTC')
        AND points.measure IN ('GpuUsageRate', 'CpuUsageRate')
        AND (points.source = 'node_metrics' OR position(points.dimensions, '"nodeId"') > 0)
    UNION ALL
    SELECT
        arrayJoin(usage.node_names) AS name,
        toString(usage.resource_group_id) AS resource_group_id,
        0 AS is_measured,
        usage.time AS time
    FROM user_metrics AS usage
    WHERE usage.time >= toDateTime({end:UInt32} - {minutes:UInt32} * 60, 'UTC')
        AND usage.time < toDateTime({end:UInt32}, 'UTC')
) AS named
WHERE named.name != ''
GROUP BY name
