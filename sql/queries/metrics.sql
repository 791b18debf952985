-- purpose: last value of every metric of each node and pod, with mean and highest of the range
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: metric String = ''  metric type, such as GpuUsageRate; empty takes all
-- param: rows UInt32 = 10000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    points.source AS source,
    points.scope_id AS scope_id,
    points.entity_id AS entity_id,
    points.gpu_type AS gpu_type,
    points.metric AS metric,
    argMax(points.value, points.time) AS last_value,
    round(avg(points.value), 3) AS mean,
    max(points.value) AS highest,
    count() AS points,
    max(points.time) AS last
FROM metric_points AS points
WHERE points.time >= range_start AND points.time < range_end
    AND ({metric:String} = '' OR points.metric = {metric:String})
GROUP BY source, scope_id, entity_id, gpu_type, metric
ORDER BY source, scope_id, entity_id, gpu_type, metric
LIMIT {rows:UInt32}
