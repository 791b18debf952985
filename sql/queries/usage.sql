-- purpose: users of each resource group in its latest snapshot, by GPUs asked for, with how busy they are
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all, each in rows of its own
-- param: rows UInt32 = 1000  rows at most
SELECT
    usage.resource_group_id AS resource_group_id,
    usage.workspace_id AS workspace_id,
    usage.user_id AS user_id,
    usage.job_type AS job_type,
    usage.request_gpu AS request_gpu,
    usage.gpu_usage_rate AS gpu_usage_rate,
    usage.request_cpu AS request_cpu,
    usage.cpu_usage_rate AS cpu_usage_rate,
    usage.memory_usage_rate AS memory_usage_rate,
    length(usage.node_names) AS nodes,
    usage.time AS time
FROM user_metrics AS usage
WHERE ({resource_group:String} = '' OR usage.resource_group_id = {resource_group:String}) AND ({workspace:String} = '' OR usage.workspace_id = {workspace:String})
    AND (usage.region, usage.resource_group_id, usage.workspace_id, usage.time) GLOBAL IN
    (
        -- A snapshot without users is in the second table only, and one that was asked for single users in the first.
        SELECT ticks.region, ticks.resource_group_id, ticks.workspace_id, max(ticks.time)
        FROM
        (
            SELECT users.region, users.resource_group_id, users.workspace_id, users.time
            FROM user_metrics AS users
            WHERE users.time >= now('UTC') - toIntervalDay(1)
            UNION ALL
            SELECT groups.region, groups.resource_group_id, groups.workspace_id, groups.time
            FROM resource_group_metrics AS groups
        ) AS ticks
        GROUP BY ticks.region, ticks.resource_group_id, ticks.workspace_id
    )
ORDER BY resource_group_id, workspace_id, request_gpu DESC NULLS LAST, user_id, job_type, usage.region, gpu_usage_rate,
    request_cpu, cpu_usage_rate, memory_usage_rate, nodes
LIMIT {rows:UInt32}
