-- purpose: GPU hours and CPU hours that each user asked for and used, by resource group and workspace, to be charged
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all, each in rows of its own
-- param: user String = ''  user to look at; empty takes all
-- param: step_seconds UInt32 = 600  snapshots further apart than this are not one stretch, seconds
-- param: rows UInt32 = 20000  rows at most
WITH
    toDateTime({start:UInt32}, 'UTC') AS range_start,
    toDateTime({end:UInt32}, 'UTC') AS range_end
SELECT
    usage.resource_group_id AS resource_group_id,
    usage.workspace_id AS workspace_id,
    usage.user_id AS user_id,
    round(sum(usage.request_gpu * ticks.seconds) / 3600, 4) AS gpu_hours,
    round(sum(usage.request_gpu * usage.gpu_usage_rate * ticks.seconds) / 360000, 4) AS gpu_hours_used,
    round(sumIf(usage.request_gpu * ticks.seconds, usage.gpu_usage_rate IS NOT NULL) / 3600, 4) AS gpu_hours_measured,
    round(sum(usage.request_cpu * ticks.seconds) / 3600, 4) AS cpu_hours,
    round(sum(usage.request_cpu * usage.cpu_usage_rate * ticks.seconds) / 360000, 4) AS cpu_hours_used,
    round(sumIf(usage.request_cpu * ticks.seconds, usage.cpu_usage_rate IS NOT NULL) / 3600, 4) AS cpu_hours_measured,
    round(max(ticks.known_seconds) / 3600, 4) AS hours_known,
    max(usage.request_gpu) AS gpus_most,
    uniqExact(usage.time) AS snapshots,
    min(usage.time) AS first,
    max(usage.time) AS last,
    arraySort(groupUniqArray(16)(toString(usage.job_type))) AS job_types
FROM
(
    -- part: drawn_usage
    ({resource_group:String} = '' OR told.resource_group_id = {resource_group:String})
    AND ({workspace:String} = '' OR told.workspace_id = {workspace:String})
    -- end
) AS usage
GLOBAL INNER JOIN
(
    -- A snapshot stands until the next one of its group, in which who holds nothing any more is missing; the last one before
    -- a break stands as long as they usually do.
    SELECT
        series.region AS region,
        series.resource_group_id AS resource_group_id,
        series.workspace_id AS workspace_id,
        tick.1 AS time,
        tick.2 AS seconds,
        series.known_seconds AS known_seconds
    FROM
    (
        SELECT
            told.region AS region,
            told.resource_group_id AS resource_group_id,
            told.workspace_id AS workspace_id,
            arraySort(groupUniqArray(told.time)) AS times,
            arrayPushBack(arrayPopFront(arrayDifference(arrayMap(time -> toUnixTimestamp(time), times))), 0) AS steps,
            arrayFilter(step -> step BETWEEN 1 AND {step_seconds:UInt32}, steps) AS unbroken,
            if(empty(unbroken), 60, arrayReduce('medianExact', unbroken)) AS usual,
            arrayFilter(
                tick -> tick.1 < range_end,
                arrayMap(
                    (time, step) -> tuple(time, if(step BETWEEN 1 AND {step_seconds:UInt32}, step, usual)), times, steps
                )
            ) AS ticks,
            arraySum(tick -> tick.2, ticks) AS known_seconds,
            arrayJoin(ticks) AS tick
        FROM
        (
            SELECT users.region, users.resource_group_id, users.workspace_id, users.time
            FROM user_metrics AS users
            WHERE users.time >= range_start AND users.time < range_end + {step_seconds:UInt32}
            UNION ALL
            SELECT groups.region, groups.resource_group_id, groups.workspace_id, groups.time
            FROM resource_group_metrics AS groups
            WHERE groups.time >= range_start AND groups.time < range_end + {step_seconds:UInt32}
            UNION ALL
            SELECT points.region, points.scope_id AS resource_group_id, '' AS workspace_id, points.time
            FROM metric_points AS points
            WHERE points.time >= range_start AND points.time < range_end + {step_seconds:UInt32}
                AND points.measure = 'RequestGPU'
        ) AS told
        GROUP BY region, resource_group_id, workspace_id
    ) AS series
) AS ticks
    ON usage.region = ticks.region AND usage.resource_group_id = ticks.resource_group_id
    AND usage.workspace_id = ticks.workspace_id AND usage.time = ticks.time
WHERE usage.is_drawn AND ({user:String} = '' OR usage.user_id = {user:String})
GROUP BY resource_group_id, workspace_id, user_id
ORDER BY resource_group_id, workspace_id, gpu_hours DESC NULLS LAST, user_id
LIMIT {rows:UInt32}
