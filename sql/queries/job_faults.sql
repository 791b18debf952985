-- purpose: what the nodes of a job reported before it failed or ended: the first fault of each
-- param: job String  id of the job
-- param: hours UInt16 = 6  how long before its end lines are looked at, hours
-- param: until Nullable(DateTime('UTC')) = NULL  when it went bad, UTC; NULL takes its end, else its last event of a failure, else when it was last seen
-- param: days UInt8 = 30  how long before now the job is looked for in usage and events, days
WITH
    coalesce(
        {until:Nullable(DateTime('UTC'))},
        (
            SELECT
                coalesce(
                    parseDateTimeBestEffortOrNull(JSONExtractString(jobs.attributes, 'GmtFailedTime'), 'UTC'),
                    parseDateTimeBestEffortOrNull(JSONExtractString(jobs.attributes, 'GmtFinishTime'), 'UTC')
                )
            FROM inventory AS jobs
            WHERE jobs.kind = 'job' AND jobs.object_id = {job:String}
            ORDER BY jobs.observed_at DESC
            LIMIT 1
        ),
        (
            SELECT maxOrNull(said.time)
            FROM events AS said
            WHERE said.source = 'dlc' AND said.scope_id = {job:String}
                AND said.time >= now('UTC') - toIntervalDay({days:UInt8})
                AND match(said.content, '(?i)\\b(fail|error|evict|unhealthy)')
        ),
        (
            SELECT maxOrNull(usage.time)
            FROM user_metrics AS usage
            WHERE usage.time >= now('UTC') - toIntervalDay({days:UInt8})
                AND (has(usage.gpu_job_names, {job:String}) OR has(usage.cpu_job_names, {job:String}))
        )
    ) AS ended_at
SELECT
    used.node AS node,
    ended_at AS job_ended,
    found.first AS first_fault,
    dateDiff('second', found.first, ended_at) AS seconds_before,
    found.earliest.1 AS fault_class,
    found.earliest.2 AS fault_code,
    found.lines AS fault_lines,
    found.earliest.3 AS msg
FROM
(
    SELECT DISTINCT node
    FROM
    (
        SELECT arrayJoin(arrayConcat(usage.node_names, usage.gpu_node_names, usage.cpu_node_names)) AS node
        FROM user_metrics AS usage
        WHERE usage.time >= now('UTC') - toIntervalDay({days:UInt8})
            AND (has(usage.gpu_job_names, {job:String}) OR has(usage.cpu_job_names, {job:String}))
        UNION ALL
        SELECT JSONExtractString(arrayJoin(JSONExtractArrayRaw(jobs.attributes, 'Pods')), 'NodeName') AS node
        FROM inventory AS jobs
        WHERE jobs.kind = 'job' AND jobs.object_id = {job:String}
    )
    WHERE node != ''
) AS used
GLOBAL LEFT JOIN
(
    SELECT
        arrayJoin(arrayDistinct([toString(lines.node_id), toString(lines.hostname)])) AS node,
        toNullable(min(lines.time)) AS first,
        argMin(tuple(toString(lines.fault_class), lines.fault_code, lines.msg), tuple(lines.time, lines.msg)) AS earliest,
        count() AS lines
    FROM syslogs AS lines
    WHERE lines.time >= ended_at - toIntervalHour({hours:UInt16}) AND lines.time <= ended_at
        AND lines.fault_class != ''
    GROUP BY node
) AS found ON used.node = found.node
ORDER BY first_fault ASC NULLS LAST, node
