-- purpose: points far outside their series: robust z-score from median and MAD, the farthest first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: z_min Float64 = 6  so many robust standard deviations from the median is far
-- param: points_min UInt32 = 30  a series with fewer points is not judged
-- param: metric String = ''  metric or measure, such as GpuUsageRate; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    series.source AS source,
    series.scope_id AS scope_id,
    series.entity_id AS entity_id,
    series.gpu_type AS gpu_type,
    series.metric AS metric,
    point.1 AS time,
    point.2 AS value,
    round(series.middle, 3) AS median,
    round(series.spread, 3) AS mad,
    round((point.2 - series.middle) / series.deviation, 1) AS z
FROM
(
    SELECT
        points.source AS source,
        points.region AS region,
        points.scope_id AS scope_id,
        points.entity_id AS entity_id,
        points.gpu_type AS gpu_type,
        points.dimensions AS dimensions,
        points.measure AS metric,
        groupArray(tuple(points.time, points.value)) AS known,
        quantileExactInclusive(0.5)(points.value) AS middle,
        arrayMap(p -> abs(p.2 - middle), known) AS distances,
        arrayReduce('quantileExactInclusive(0.5)', distances) AS spread,
        -- Where more than half of the points are equal the MAD is 0, and the mean distance takes its place.
        if(spread > 0, 1.4826 * spread, 1.2533 * arrayAvg(distances)) AS deviation
    FROM
    (
        -- part: drawn_points
        points.time >= range_start AND points.time < range_end
            AND ({metric:String} = '' OR points.measure = {metric:String} OR points.metric = {metric:String})
        -- end
    ) AS points
    WHERE points.is_drawn AND isFinite(points.value)
    GROUP BY source, region, scope_id, entity_id, gpu_type, dimensions, metric
    HAVING count() >= {points_min:UInt32} AND deviation > 0
) AS series
ARRAY JOIN arrayFilter(p -> abs(p.2 - series.middle) >= {z_min:Float64} * series.deviation, series.known) AS point
ORDER BY abs(z) DESC, time DESC, source, scope_id, entity_id, gpu_type, metric, series.region, series.dimensions
LIMIT {rows:UInt32}
