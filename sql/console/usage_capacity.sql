-- purpose: GPUs and CPUs of resource groups as the latest snapshot has them, and the most of the range
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: resource_group String = ''  resource group to look at; empty takes all
SELECT
    groups.resource_group_id AS resource_group_id,
    argMax(groups.total_gpu, groups.time) AS total_gpu,
    argMax(groups.total_cpu, groups.time) AS total_cpu,
    argMax(groups.user_count, groups.time) AS users,
    max(groups.time) AS last
FROM resource_group_metrics AS groups
WHERE groups.time >= toDateTime({start:UInt32}, 'UTC') AND groups.time < toDateTime({end:UInt32}, 'UTC')
    AND groups.workspace_id = '' AND ({resource_group:String} = '' OR groups.resource_group_id = {resource_group:String})
GROUP BY resource_group_id
ORDER BY resource_group_id
