-- purpose: users and jobs of a node: who had it in snapshots of usage, with the jobs they had then
-- param: node String  id of the node
-- param: host String = ''  its host name, by which usage may name it
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: rows UInt32 = 100  rows at most
SELECT
    shown.job AS job,
    known.name AS name,
    known.state AS state,
    shown.users AS users,
    shown.resource_group_id AS resource_group_id,
    shown.job_type AS job_type,
    shown.first AS first,
    shown.last AS last,
    shown.snapshots AS snapshots
FROM
(
    SELECT
        arrayJoin(
            if(empty(usage.gpu_job_names) AND empty(usage.cpu_job_names), [''], arrayConcat(usage.gpu_job_names, usage.cpu_job_names))
        ) AS job,
        arraySort(groupUniqArray(toString(usage.user_id))) AS users,
        any(usage.resource_group_id) AS resource_group_id,
        any(usage.job_type) AS job_type,
        min(usage.time) AS first,
        max(usage.time) AS last,
        uniqExact(usage.time) AS snapshots
    FROM user_metrics AS usage
    WHERE usage.time >= toDateTime({start:UInt32}, 'UTC') AND usage.time < toDateTime({end:UInt32}, 'UTC')
        AND (
            has(usage.node_names, {node:String}) OR has(usage.gpu_node_names, {node:String})
            OR has(usage.cpu_node_names, {node:String})
            OR {host:String} != '' AND (
                has(usage.node_names, {host:String}) OR has(usage.gpu_node_names, {host:String})
                OR has(usage.cpu_node_names, {host:String})
            )
        )
    GROUP BY job
) AS shown
GLOBAL LEFT JOIN
(
    SELECT jobs.object_id AS object_id, jobs.name AS name, jobs.state AS state
    FROM inventory AS jobs
    WHERE jobs.kind = 'job'
) AS known ON shown.job = known.object_id
ORDER BY last DESC, job
LIMIT {rows:UInt32}
