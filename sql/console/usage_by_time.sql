-- purpose: GPUs and CPUs asked for and used in steps: means over the snapshots of each step, all resource groups together
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 3600  length of a step, seconds
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes whole resource groups, and all workspaces where no whole is known
-- param: user String = ''  user to look at; empty takes all
WITH
    toDateTime({start:UInt32}, 'UTC') AS range_start,
    toDateTime({end:UInt32}, 'UTC') AS range_end
SELECT
    groups.place AS place,
    round(sum(groups.gpus_requested), 2) AS gpus_requested,
    round(sum(groups.gpus_used), 2) AS gpus_used,
    round(sum(groups.cpus_requested), 2) AS cpus_requested,
    round(sum(groups.cpus_used), 2) AS cpus_used
FROM
(
    SELECT
        intDiv(toUnixTimestamp(snapshots.time) - {start:UInt32}, {step:UInt32}) AS place,
        snapshots.region AS region,
        snapshots.resource_group_id AS resource_group_id,
        snapshots.workspace_id AS workspace_id,
        avg(snapshots.gpus_requested) AS gpus_requested,
        avg(snapshots.gpus_used) AS gpus_used,
        avg(snapshots.cpus_requested) AS cpus_requested,
        avg(snapshots.cpus_used) AS cpus_used
    FROM
    (
        -- A snapshot of a group counts with what the user holds in it, which may be nothing.
        SELECT
            usage.time AS time,
            usage.region AS region,
            usage.resource_group_id AS resource_group_id,
            usage.workspace_id AS workspace_id,
            countIf({user:String} = '' OR usage.user_id = {user:String}) AS is_in,
            if(is_in = 0, 0, sumIf(usage.request_gpu, {user:String} = '' OR usage.user_id = {user:String})) AS gpus_requested,
            if(is_in = 0, 0, sumIf(usage.request_gpu * usage.gpu_usage_rate, {user:String} = '' OR usage.user_id = {user:String})) / 100 AS gpus_used,
            if(is_in = 0, 0, sumIf(usage.request_cpu, {user:String} = '' OR usage.user_id = {user:String})) AS cpus_requested,
            if(is_in = 0, 0, sumIf(usage.request_cpu * usage.cpu_usage_rate, {user:String} = '' OR usage.user_id = {user:String})) / 100 AS cpus_used
        FROM
        (
            -- part: drawn_usage
            ({resource_group:String} = '' OR told.resource_group_id = {resource_group:String})
            AND ({workspace:String} = '' OR told.workspace_id = {workspace:String})
            -- end
        ) AS usage
        WHERE usage.is_drawn
            AND (
                {workspace:String} != '' OR usage.workspace_id = ''
                OR (usage.region, usage.resource_group_id) GLOBAL NOT IN
                (
                    SELECT whole.region, whole.resource_group_id
                    FROM user_metrics AS whole
                    WHERE whole.time >= range_start AND whole.time < range_end AND whole.workspace_id = ''
                )
            )
        GROUP BY time, region, resource_group_id, workspace_id
    ) AS snapshots
    GROUP BY place, region, resource_group_id, workspace_id
) AS groups
GROUP BY place
ORDER BY place
