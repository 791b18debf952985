-- purpose: jobs that snapshots of usage name, with their users, nodes and when they were seen
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all
-- param: user String = ''  user to look at; empty takes all
-- param: job String = ''  job to look at; empty takes all
-- param: rows UInt32 = 2000  rows at most
SELECT
    named.job AS job,
    arraySort(groupUniqArray(8)(toString(named.user_id))) AS users,
    any(toString(named.resource_group_id)) AS resource_group_id,
    any(toString(named.job_type)) AS job_type,
    max(named.has_gpus) AS has_gpus,
    arraySort(groupUniqArrayArray(64)(named.nodes)) AS nodes,
    min(named.time) AS first,
    max(named.time) AS last,
    uniqExact(named.time) AS snapshots
FROM
(
    SELECT
        arrayJoin(
            arrayConcat(
                arrayMap(name -> tuple(name, 1), usage.gpu_job_names), arrayMap(name -> tuple(name, 0), usage.cpu_job_names)
            )
        ) AS one,
        one.1 AS job,
        one.2 AS has_gpus,
        usage.user_id AS user_id,
        usage.resource_group_id AS resource_group_id,
        usage.job_type AS job_type,
        if(has_gpus, usage.gpu_node_names, usage.cpu_node_names) AS nodes,
        usage.time AS time
    FROM user_metrics AS usage
    WHERE usage.time >= toDateTime({start:UInt32}, 'UTC') AND usage.time < toDateTime({end:UInt32}, 'UTC')
        AND ({resource_group:String} = '' OR usage.resource_group_id = {resource_group:String})
        AND ({workspace:String} = '' OR usage.workspace_id = {workspace:String})
        AND ({user:String} = '' OR usage.user_id = {user:String})
) AS named
WHERE named.job != '' AND ({job:String} = '' OR named.job = {job:String})
GROUP BY job
ORDER BY snapshots DESC, job
LIMIT {rows:UInt32}
