-- purpose: jobs whose pods are or were on a node, by what the list of jobs says
-- param: node String  id of the node
-- param: host String = ''  its host name
-- param: rows UInt32 = 100  rows at most
SELECT
    jobs.object_id AS job,
    jobs.name AS name,
    jobs.state AS state,
    JSONExtractString(jobs.attributes, 'UserId') AS user_id,
    JSONExtractString(jobs.attributes, 'ResourceId') AS resource_group_id,
    JSONExtractString(jobs.attributes, 'JobType') AS job_type,
    toUnixTimestamp(parseDateTimeBestEffortOrNull(
        coalesce(
            nullIf(JSONExtractString(jobs.attributes, 'GmtRunningTime'), ''),
            JSONExtractString(jobs.attributes, 'GmtCreateTime')
        ), 'UTC'
    )) AS began,
    toUnixTimestamp(parseDateTimeBestEffortOrNull(
        coalesce(
            nullIf(JSONExtractString(jobs.attributes, 'GmtFinishTime'), ''),
            nullIf(JSONExtractString(jobs.attributes, 'GmtFailedTime'), ''),
            nullIf(JSONExtractString(jobs.attributes, 'GmtStoppedTime'), ''),
            JSONExtractString(jobs.attributes, 'GmtSuccessedTime')
        ), 'UTC'
    )) AS ended
FROM inventory AS jobs
WHERE jobs.kind = 'job'
    AND (
        position(jobs.attributes, concat('"', {node:String}, '"')) > 0
        OR ({host:String} != '' AND position(jobs.attributes, concat('"', {host:String}, '"')) > 0)
    )
ORDER BY began DESC NULLS LAST, job
LIMIT {rows:UInt32}
