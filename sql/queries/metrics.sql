-- purpose: last value of every metric of each node and pod, with mean and highest of the range
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: metric String = ''  metric or measure, such as GpuUsageRate; empty takes all
-- param: rows UInt32 = 10000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    series.source AS source,
    series.scope_id AS scope_id,
    series.entity_id AS entity_id,
    series.gpu_type AS gpu_type,
    series.measure AS metric,
    argMax(series.value, tuple(series.time, series.region, series.dimensions)) AS last_value,
    round(avg(series.value), 3) AS mean,
    max(series.value) AS highest,
    count() AS points,
    max(series.time) AS last
FROM
    (
        -- part: drawn_points
        points.time >= range_start AND points.time < range_end
            AND ({metric:String} = '' OR points.measure = {metric:String} OR points.metric = {metric:String})
        -- end
    ) AS series
WHERE series.is_drawn
GROUP BY source, scope_id, entity_id, gpu_type, metric
ORDER BY source, scope_id, entity_id, gpu_type, metric
LIMIT {rows:UInt32}
