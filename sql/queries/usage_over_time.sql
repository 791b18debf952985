-- purpose: median and 95th percentile of what each user of a resource group requested and used, hour by hour
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all, each in rows of its own
-- param: user String = ''  user to look at; empty takes all
-- param: rows UInt32 = 1000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    toStartOfHour(ticks.time) AS hour,
    ticks.resource_group_id AS resource_group_id,
    ticks.workspace_id AS workspace_id,
    ticks.user_id AS user_id,
    count() AS snapshots,
    round(quantileExactInclusive(0.5)(ticks.gpus_requested), 2) AS gpus_requested_p50,
    round(quantileExactInclusive(0.95)(ticks.gpus_requested), 2) AS gpus_requested_p95,
    round(quantileExactInclusive(0.5)(ticks.gpus_used), 2) AS gpus_used_p50,
    round(quantileExactInclusive(0.95)(ticks.gpus_used), 2) AS gpus_used_p95,
    round(quantileExactInclusive(0.5)(ticks.cpus_requested), 2) AS cpus_requested_p50,
    round(quantileExactInclusive(0.95)(ticks.cpus_requested), 2) AS cpus_requested_p95,
    round(quantileExactInclusive(0.5)(ticks.cpus_used), 2) AS cpus_used_p50,
    round(quantileExactInclusive(0.95)(ticks.cpus_used), 2) AS cpus_used_p95
FROM
(
    SELECT
        usage.time AS time,
        usage.resource_group_id AS resource_group_id,
        usage.workspace_id AS workspace_id,
        usage.user_id AS user_id,
        toFloat64(sum(usage.request_gpu)) AS gpus_requested,
        sum(usage.request_gpu * usage.gpu_usage_rate) / 100 AS gpus_used,
        toFloat64(sum(usage.request_cpu)) AS cpus_requested,
        sum(usage.request_cpu * usage.cpu_usage_rate) / 100 AS cpus_used
    FROM user_metrics AS usage
    WHERE usage.time >= range_start AND usage.time < range_end AND ({resource_group:String} = '' OR usage.resource_group_id = {resource_group:String}) AND ({workspace:String} = '' OR usage.workspace_id = {workspace:String}) AND ({user:String} = '' OR usage.user_id = {user:String})
    GROUP BY time, resource_group_id, workspace_id, user_id
) AS ticks
GROUP BY hour, resource_group_id, workspace_id, user_id
ORDER BY hour DESC, resource_group_id, workspace_id, gpus_requested_p50 DESC NULLS LAST, user_id
LIMIT {rows:UInt32}
