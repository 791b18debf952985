-- purpose: incidents (lines of one device and cause, close in time) with meaning, action, users and jobs, the worst first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: node String = ''  node to look at; empty takes all
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: severity String = ''  least severity: info, corrected, application, degraded or fatal; empty takes all
-- param: rows UInt32 = 200  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start,
    (
        SELECT tuple(
            groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code), ' ', codes.fault_case)),
            groupArray(codes.meaning),
            groupArray(codes.action)
        )
        FROM fault_codes AS codes
    ) AS known
SELECT
    found.worst.1 AS fault_severity,
    toDateTime(found.first, 'UTC') AS first,
    toDateTime(found.last, 'UTC') AS last,
    found.lines AS lines,
    found.node_id AS node_id,
    found.place.1 AS hostname,
    found.device AS device,
    found.worst.2 AS fault_class,
    found.fault_code AS fault_code,
    found.worst.3 AS fault_case,
    arraySort(groupUniqArrayArray(used.users)) AS users,
    arraySort(groupUniqArrayArray(used.jobs)) AS jobs,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', fault_case), known.1, known.2,
        transform(concat(fault_class, ' 0 ', fault_case), known.1, known.2, '')
    ) AS meaning,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', fault_case), known.1, known.3,
        transform(concat(fault_class, ' 0 ', fault_case), known.1, known.3, '')
    ) AS action
FROM
(
    SELECT
        incidents.region AS region,
        incidents.node_id AS node_id,
        incidents.fault_code AS fault_code,
        incidents.device AS device,
        incidents.spell[1].1 AS first,
        incidents.spell[-1].1 AS last,
        arraySum(incidents.spell.2) AS lines,
        arrayReduce('max', incidents.spell.3) AS worst,
        incidents.spell[-1].4 AS place,
        -- The ten minutes before it, those it began in and those it ended in, by either name of the node.
        arrayJoin(
            arrayFlatten(
                arrayMap(
                    name -> arrayMap(
                        bucket -> tuple(name, bucket),
                        arrayDistinct([intDiv(first, 600) - 1, intDiv(first, 600), intDiv(last, 600)])
                    ),
                    arrayDistinct([toString(incidents.node_id), place.1])
                )
            )
        ) AS moment
    FROM
    (
        SELECT
            folded.region AS region, folded.node_id AS node_id,
            folded.fault_code AS fault_code,
            folded.device AS device,
            -- A gap of more than five minutes begins another incident.
            arrayJoin(arraySplit((line, gap) -> gap > 300, folded.seen, arrayDifference(folded.seen.1))) AS spell
        FROM
        (
            SELECT
                seconds.region AS region, seconds.node_id AS node_id,
                seconds.cause AS cause,
                seconds.fault_code AS fault_code,
                seconds.device AS device,
                arraySort(
                    groupArray(
                        tuple(toUnixTimestamp(seconds.time), seconds.lines, seconds.worst, seconds.place)
                    )
                ) AS seen
            FROM
            (
                SELECT
                    lines.region AS region, lines.node_id AS node_id,
                    if(lines.fault_class = 'gpu_fallen_off_bus', 'xid', toString(lines.fault_class)) AS cause,
                    lines.fault_code AS fault_code,
                    lines.fault_device AS device,
                    lines.time AS time,
                    count() AS lines,
                    max(
                        tuple(lines.fault_severity, toString(lines.fault_class), toString(lines.fault_case))
                    ) AS worst,
                    max(tuple(toString(lines.hostname), toString(lines.cluster_id))) AS place
                FROM syslogs AS lines
                WHERE lines.time >= range_start AND lines.time < range_end AND lines.fault_class != ''
                    AND ({node:String} = '' OR lines.node_id = {node:String})
                    AND ({class:String} = '' OR lines.fault_class = {class:String})
                GROUP BY region, node_id, cause, fault_code, device, time
            ) AS seconds
            GROUP BY region, node_id, cause, fault_code, device
        ) AS folded
    ) AS incidents
    WHERE toInt8(worst.1) >= transform(
        {severity:String}, ['', 'info', 'corrected', 'application', 'degraded', 'fatal'], [0, 1, 2, 3, 4, 5], 9
    )
) AS found
GLOBAL LEFT JOIN
(
    SELECT
        shown.node AS node,
        shown.bucket AS bucket,
        groupUniqArray(shown.user_id) AS users,
        groupUniqArrayArray(shown.jobs) AS jobs
    FROM
    (
        SELECT
            arrayJoin(
                arrayDistinct(arrayConcat(usage.node_names, usage.gpu_node_names, usage.cpu_node_names))
            ) AS node,
            intDiv(toUnixTimestamp(usage.time), 600) AS bucket,
            toString(usage.user_id) AS user_id,
            arrayConcat(usage.gpu_job_names, usage.cpu_job_names) AS jobs
        FROM user_metrics AS usage
        WHERE usage.time >= range_start AND usage.time < range_end
    ) AS shown
    WHERE shown.node != ''
    GROUP BY node, bucket
) AS used ON found.moment.1 = used.node AND found.moment.2 = used.bucket
GROUP BY region, node_id, fault_class, fault_code, fault_case, device, fault_severity, first, last, lines, place
ORDER BY fault_severity DESC, last DESC, node_id, fault_class, fault_code, fault_case, device, first, found.region
LIMIT {rows:UInt32}
