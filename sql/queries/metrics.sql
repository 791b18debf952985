-- purpose: last value of every metric of each node and pod within the last day, with the day's mean and highest
SELECT
    source,
    scope_id,
    entity_id,
    gpu_type,
    metric,
    argMax(value, time) AS last_value,
    round(avg(value), 3) AS mean,
    max(value) AS highest,
    count() AS points,
    max(points.time) AS last
FROM metric_points AS points
WHERE time >= now() - INTERVAL 1 DAY
GROUP BY source, scope_id, entity_id, gpu_type, metric
ORDER BY source, scope_id, entity_id, gpu_type, metric
