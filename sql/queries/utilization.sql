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
    -- part: drawn_usage
    ({resource_group:String} = '' OR told.resource_group_id = {resource_group:String})
        AND ({workspace:String} = '' OR told.workspace_id = {workspace:String})
    -- end
) AS usage
WHERE usage.is_drawn AND ({user:String} = '' OR usage.user_id = {user:String})
GROUP BY resource_group_id, workspace_id, user_id
ORDER BY gpus_unused DESC NULLS LAST, resource_group_id, workspace_id, user_id
LIMIT {rows:UInt32}
