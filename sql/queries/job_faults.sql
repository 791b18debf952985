-- purpose: what the nodes of a job reported before it failed or ended: the worst incident of each, the worst first
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
    ) AS ended_at,
    (
        SELECT tuple(
            groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code), ' ', codes.fault_case)),
            groupArray(codes.meaning),
            groupArray(codes.action)
        )
        FROM fault_codes AS codes
    ) AS known
SELECT
    used.node AS node,
    ended_at AS job_ended,
    if(found.incidents = 0, NULL, found.worst.1.1) AS fault_severity,
    if(found.incidents = 0, NULL, toDateTime(-found.worst.2, 'UTC')) AS first_fault,
    dateDiff('second', first_fault, ended_at) AS seconds_before,
    found.worst.1.2 AS fault_class,
    found.worst.3 AS fault_code,
    found.worst.4 AS device,
    found.incidents AS incidents,
    found.lines AS fault_lines,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', found.worst.1.3), known.1, known.2,
        transform(concat(fault_class, ' 0 ', found.worst.1.3), known.1, known.2, '')
    ) AS meaning,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', found.worst.1.3), known.1, known.3,
        transform(concat(fault_class, ' 0 ', found.worst.1.3), known.1, known.3, '')
    ) AS action,
    found.worst.5 AS msg
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
        arrayJoin(arrayDistinct([toString(incidents.node_id), incidents.spell[-1].4.1])) AS node,
        -- Of equally bad incidents the first: the others may follow from it.
        max(
            tuple(
                arrayReduce('max', incidents.spell.3),
                -toInt64(incidents.spell[1].1),
                incidents.fault_code,
                toString(incidents.device),
                arrayFirst(line -> line.3 = arrayReduce('max', incidents.spell.3), incidents.spell).5
            )
        ) AS worst,
        count() AS incidents,
        sum(arraySum(incidents.spell.2)) AS lines
    FROM
    (
        -- part: incidents with argMax(lines.msg, tuple(lines.fault_severity, lines.msg))
        lines.time >= ended_at - toIntervalHour({hours:UInt16}) AND lines.time <= ended_at
        -- end
    ) AS incidents
    GROUP BY node
) AS found ON used.node = found.node
ORDER BY fault_severity DESC NULLS LAST, first_fault ASC NULLS LAST, node
