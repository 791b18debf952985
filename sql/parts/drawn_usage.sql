-- What users requested and used, from `range_start` to `range_end`. In each hour the users of a resource group are drawn from
-- CloudMonitor where it has them, else from the snapshots: those are `is_drawn`. Which it is, all users of the group decide,
-- so the condition may name groups and workspaces only.
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
    told.is_older = min(told.is_older) OVER (
        PARTITION BY told.region, told.resource_group_id, told.workspace_id, toStartOfHour(told.time)
    ) AS is_drawn
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
WHERE {condition}
