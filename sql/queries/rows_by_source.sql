-- purpose: rows of each source, hour by hour, and from how many nodes, resource groups, jobs or services
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start,
    toStartOfHour(range_start) + toIntervalHour(1) AS whole_start,
    greatest(toStartOfHour(range_end), whole_start) AS whole_end
SELECT source, hour, rows, scopes
FROM
(
    SELECT 'syslogs' AS source, counted.hour AS hour, sum(counted.lines) AS rows, uniqExact(counted.node_id) AS scopes
    FROM
    (
        -- Hours within the range, which are counted already, and the lines of those that it begins and ends in.
        SELECT toStartOfHour(lines.time) AS hour, lines.node_id AS node_id, count() AS lines
        FROM syslogs AS lines
        WHERE toStartOfHour(lines.time) >= whole_start AND toStartOfHour(lines.time) < whole_end
        GROUP BY hour, node_id
        UNION ALL
        SELECT toStartOfHour(cut.time) AS hour, cut.node_id AS node_id, count() AS lines
        FROM syslogs AS cut
        WHERE cut.time >= range_start AND cut.time < range_end AND (cut.time < whole_start OR cut.time >= whole_end)
        GROUP BY hour, node_id
    ) AS counted
    GROUP BY hour
    UNION ALL
    SELECT 'user_metrics' AS source, toStartOfHour(usage.time) AS hour, count() AS rows, uniqExact(usage.resource_group_id) AS scopes
    FROM user_metrics AS usage
    WHERE usage.time >= range_start AND usage.time < range_end
    GROUP BY hour
    UNION ALL
    SELECT toString(points.source) AS source, toStartOfHour(points.time) AS hour, count() AS rows, uniqExact(points.scope_id) AS scopes
    FROM metric_points AS points
    WHERE points.time >= range_start AND points.time < range_end
    GROUP BY source, hour
    UNION ALL
    SELECT 'events' AS source, toStartOfHour(said.time) AS hour, count() AS rows, uniqExact(said.scope_id) AS scopes
    FROM events AS said
    WHERE said.time >= range_start AND said.time < range_end
    GROUP BY hour
)
ORDER BY hour DESC, source
