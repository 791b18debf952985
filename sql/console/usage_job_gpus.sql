-- purpose: mean GPU use of jobs, as their own metrics tell it
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
SELECT
    series.scope_id AS job,
    round(avg(series.value), 1) AS gpu_percent
FROM
(
    -- part: drawn_points
    points.time >= toDateTime({start:UInt32}, 'UTC') AND points.time < toDateTime({end:UInt32}, 'UTC')
    AND points.measure IN ('GpuCoreUsage', 'GPU_CORE_USAGE')
    -- end
) AS series
WHERE series.is_drawn
GROUP BY job
