-- Points of series as a mean may be taken of them. In each hour a measure of an entity is drawn from CloudMonitor where it
-- has points, of its finest period, else from the older operation: those are `is_drawn`.
SELECT
    points.source AS source,
    points.region AS region,
    points.scope_id AS scope_id,
    points.entity_id AS entity_id,
    points.gpu_type AS gpu_type,
    points.dimensions AS dimensions,
    points.measure AS measure,
    points.time AS time,
    points.value AS value,
    tuple(points.source != 'cloud_metrics', points.period_seconds, points.statistic = 'Value') AS rank,
    rank = min(rank) OVER (
        PARTITION BY points.region, points.scope_id, points.entity_id, points.measure, toStartOfHour(points.time)
    ) AS is_drawn
FROM metric_points AS points
WHERE points.statistic IN ('', 'Average', 'Value')
    AND (
        {condition}
    )
