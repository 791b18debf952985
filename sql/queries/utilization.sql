-- purpose: what each user requested against what was used of it: means over the snapshots the user is in
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all, each in rows of its own
-- param: user String = ''  user to look at; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    usage.resource_group_id AS resource_group_id,
    usage.workspace_id AS workspace_id,
    usage.user_id AS user_id,
    uniqExact(usage.time) AS snapshots,
    round(sum(usage.request_gpu) / snapshots, 2) AS gpus_requested,
    round(sum(usage.request_gpu * usage.gpu_usage_rate) / 100 / snapshots, 2) AS gpus_used,
    round(
        sum(usage.request_gpu * usage.gpu_usage_rate)
            / nullIf(sumIf(usage.request_gpu, usage.gpu_usage_rate IS NOT NULL), 0), 1
    ) AS gpus_percent,
    round(sum(usage.request_gpu * (100 - usage.gpu_usage_rate)) / 100 / snapshots, 2) AS gpus_unused,
    round(sum(usage.request_cpu) / snapshots, 2) AS cpus_requested,
    round(sum(usage.request_cpu * usage.cpu_usage_rate) / 100 / snapshots, 2) AS cpus_used,
    round(
        sum(usage.request_cpu * usage.cpu_usage_rate)
            / nullIf(sumIf(usage.request_cpu, usage.cpu_usage_rate IS NOT NULL), 0), 1
    ) AS cpus_percent,
    round(sum(usage.request_memory) / snapshots, 2) AS memory_requested,
    round(sum(usage.request_memory * usage.memory_usage_rate) / 100 / snapshots, 2) AS memory_used,
    round(
        sum(usage.request_memory * usage.memory_usage_rate)
            / nullIf(sumIf(usage.request_memory, usage.memory_usage_rate IS NOT NULL), 0), 1
    ) AS memory_percent
FROM
(
    SELECT
        told.time AS time,
        told.region AS region,
        told.resource_group_id AS resource_group_id,
        told.workspace_id AS workspace_id,
        told.user_id AS user_id,
        told.job_type AS job_type,
        told.request_gpu AS request_gpu,
        told.gpu_usage_rate AS gpu_usage_rate,
        told.request_cpu AS request_cpu,
        told.cpu_usage_rate AS cpu_usage_rate,
        told.request_memory AS request_memory,
        told.memory_usage_rate AS memory_usage_rate,
        told.is_older AS is_older,
        -- In each hour the users of a resource group are drawn from CloudMonitor where it has them.
        min(told.is_older) OVER (
            PARTITION BY told.region, told.resource_group_id, told.workspace_id, toStartOfHour(told.time)
        ) AS drawn
    FROM
    (
        SELECT
            snapshots.time AS time,
            snapshots.region AS region,
            snapshots.resource_group_id AS resource_group_id,
            snapshots.workspace_id AS workspace_id,
            snapshots.user_id AS user_id,
            snapshots.job_type AS job_type,
            snapshots.request_gpu AS request_gpu,
            snapshots.gpu_usage_rate AS gpu_usage_rate,
            snapshots.request_cpu AS request_cpu,
            snapshots.cpu_usage_rate AS cpu_usage_rate,
            snapshots.request_memory AS request_memory,
            snapshots.memory_usage_rate AS memory_usage_rate,
            1 AS is_older
        FROM user_metrics AS snapshots
        WHERE snapshots.time >= range_start AND snapshots.time < range_end
        UNION ALL
        SELECT
            points.time AS time,
            points.region AS region,
            points.scope_id AS resource_group_id,
            '' AS workspace_id,
            points.entity_id AS user_id,
            JSONExtractString(points.dimensions, 'jobType') AS job_type,
            toInt64(maxOrNullIf(points.value, points.measure = 'RequestGPU')) AS request_gpu,
            maxOrNullIf(points.value, points.measure = 'GpuUsageRate') AS gpu_usage_rate,
            toInt64(maxOrNullIf(points.value, points.measure = 'RequestCPU')) AS request_cpu,
            maxOrNullIf(points.value, points.measure = 'CpuUsageRate') AS cpu_usage_rate,
            toInt64(maxOrNullIf(points.value, points.measure = 'RequestMemory')) AS request_memory,
            maxOrNullIf(points.value, points.measure = 'MemoryUsageRate') AS memory_usage_rate,
            0 AS is_older
        FROM metric_points AS points
        WHERE points.time >= range_start AND points.time < range_end AND points.source = 'cloud_metrics'
            AND points.statistic = 'Average'
            AND points.measure IN (
                'RequestGPU', 'GpuUsageRate', 'RequestCPU', 'CpuUsageRate', 'RequestMemory', 'MemoryUsageRate'
            )
        GROUP BY time, region, resource_group_id, user_id, job_type
        HAVING countIf(points.measure = 'RequestGPU') > 0
    ) AS told
) AS usage
WHERE usage.is_older = usage.drawn AND ({resource_group:String} = '' OR usage.resource_group_id = {resource_group:String}) AND ({workspace:String} = '' OR usage.workspace_id = {workspace:String}) AND ({user:String} = '' OR usage.user_id = {user:String})
GROUP BY resource_group_id, workspace_id, user_id
ORDER BY gpus_unused DESC NULLS LAST, resource_group_id, workspace_id, user_id
LIMIT {rows:UInt32}
