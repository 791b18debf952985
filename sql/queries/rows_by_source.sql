-- purpose: rows of each source over the last day, hour by hour, and from how many nodes, resource groups, jobs or services
SELECT source, hour, rows, scopes
FROM
(
    SELECT 'syslogs' AS source, toStartOfHour(time) AS hour, count() AS rows, uniqExact(node_id) AS scopes
    FROM syslogs
    WHERE time >= now() - INTERVAL 1 DAY
    GROUP BY hour
    UNION ALL
    SELECT 'user_metrics' AS source, toStartOfHour(time) AS hour, count() AS rows, uniqExact(resource_group_id) AS scopes
    FROM user_metrics
    WHERE time >= now() - INTERVAL 1 DAY
    GROUP BY hour
    UNION ALL
    SELECT toString(points.source) AS source, toStartOfHour(time) AS hour, count() AS rows, uniqExact(scope_id) AS scopes
    FROM metric_points AS points
    WHERE time >= now() - INTERVAL 1 DAY
    GROUP BY source, hour
    UNION ALL
    SELECT 'events' AS source, toStartOfHour(time) AS hour, count() AS rows, uniqExact(scope_id) AS scopes
    FROM events
    WHERE time >= now() - INTERVAL 1 DAY
    GROUP BY hour
)
ORDER BY hour DESC, source
