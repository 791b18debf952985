-- purpose: jobs of the list of jobs that ran in the range, with what they asked for
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all
-- param: user String = ''  user to look at; empty takes all
-- param: job String = ''  job to look at; empty takes all
-- param: rows UInt32 = 2000  rows at most
SELECT
    jobs.object_id AS job,
    jobs.name AS name,
    jobs.state AS state,
    jobs.is_present AS is_present,
    JSONExtractString(jobs.attributes, 'UserId') AS user_id,
    JSONExtractString(jobs.attributes, 'ResourceId') AS resource_group_id,
    JSONExtractString(jobs.attributes, 'JobType') AS job_type,
    toFloat64OrNull(
        coalesce(nullIf(JSONExtractString(jobs.attributes, 'RequestGPU'), ''), JSONExtractRaw(jobs.attributes, 'RequestGPU'))
    ) AS gpus,
    toUnixTimestamp(parseDateTimeBestEffortOrNull(JSONExtractString(jobs.attributes, 'GmtRunningTime'), 'UTC')) AS began,
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
    AND ({job:String} = '' OR jobs.object_id = {job:String})
    AND ({workspace:String} = '' OR jobs.parent_id = {workspace:String})
    AND ({user:String} = '' OR user_id = {user:String})
    AND ({resource_group:String} = '' OR resource_group_id = {resource_group:String})
    AND (began IS NULL OR began < {end:UInt32}) AND (ended IS NULL OR ended >= {start:UInt32})
    AND (began IS NOT NULL OR state NOT IN ('Succeeded', 'Failed', 'Stopped'))
ORDER BY began DESC NULLS LAST, job
LIMIT {rows:UInt32}
