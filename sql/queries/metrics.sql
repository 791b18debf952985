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
            -- In each hour a measure of an entity is drawn from CloudMonitor where it has points, of its finest period.
            tuple(points.source != 'cloud_metrics', points.period_seconds, points.statistic = 'Value') AS rank,
            min(rank) OVER (
                PARTITION BY points.region, points.scope_id, points.entity_id, points.measure, toStartOfHour(points.time)
            ) AS drawn
        FROM metric_points AS points
        WHERE points.time >= range_start AND points.time < range_end
            AND points.statistic IN ('', 'Average', 'Value')
            AND ({metric:String} = '' OR points.measure = {metric:String} OR points.metric = {metric:String})
    ) AS series
WHERE series.rank = series.drawn
GROUP BY source, scope_id, entity_id, gpu_type, metric
ORDER BY source, scope_id, entity_id, gpu_type, metric
LIMIT {rows:UInt32}
