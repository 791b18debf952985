-- Lines folded into incidents: those of one device, class and number on a node, while no more than five minutes lie
-- between two of them; a GPU off the bus is an Xid 79 whether a line says the number or not. It reads no messages, but all
-- of history: for a range take the named query, which is the same over a range.
CREATE OR REPLACE VIEW pai.incidents
(
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id String COMMENT 'Cluster of the node',
    node_id LowCardinality(String) COMMENT 'Node that logged the lines',
    hostname String COMMENT 'Host name in the last line',
    fault_severity Enum8('' = 0, 'info' = 1, 'corrected' = 2, 'application' = 3, 'degraded' = 4, 'fatal' = 5) COMMENT 'What a person has to do by the worst line, worst last: info, corrected, application, degraded, fatal',
    fault_class String COMMENT 'Kind of fault of the worst line: a class of fault_codes',
    fault_code UInt16 COMMENT 'Number, such as that of an Xid; 0 if the lines have none',
    fault_case String COMMENT 'Case of the worst line; empty if it is of none',
    device LowCardinality(String) COMMENT 'What the incident is about: a PCI address as dddd:bb:dd, else a disk, an interface or the like; empty if the lines name none',
    first DateTime('UTC') COMMENT 'When the first line was logged, seconds, UTC',
    last DateTime('UTC') COMMENT 'When the last line was logged, seconds, UTC',
    lines UInt64 COMMENT 'Lines, count',
    meaning String COMMENT 'What the worst line means, text',
    action String COMMENT 'What to do about it, text; empty where nothing general can be said',
    users Array(String) COMMENT 'Users that had the node in snapshots of usage around its first and last line; empty where none is known',
    jobs Array(String) COMMENT 'Jobs of those users then, by name'
)
AS WITH
    (
        SELECT tuple(
            groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code), ' ', codes.fault_case)),
            groupArray(codes.meaning),
            groupArray(codes.action)
        )
        FROM pai.fault_codes AS codes
    ) AS known
SELECT
    found.region AS region,
    found.place.2 AS cluster_id,
    found.node_id AS node_id,
    found.place.1 AS hostname,
    found.worst.1 AS fault_severity,
    found.worst.2 AS fault_class,
    found.fault_code AS fault_code,
    found.worst.3 AS fault_case,
    found.device AS device,
    toDateTime(found.first, 'UTC') AS first,
    toDateTime(found.last, 'UTC') AS last,
    found.lines AS lines,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', fault_case), known.1, known.2,
        transform(concat(fault_class, ' 0 ', fault_case), known.1, known.2, '')
    ) AS meaning,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', fault_case), known.1, known.3,
        transform(concat(fault_class, ' 0 ', fault_case), known.1, known.3, '')
    ) AS action,
    arraySort(groupUniqArrayArray(used.users)) AS users,
    arraySort(groupUniqArrayArray(used.jobs)) AS jobs
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
                FROM pai.syslogs AS lines
                WHERE lines.fault_class != ''
                GROUP BY region, node_id, cause, fault_code, device, time
            ) AS seconds
            GROUP BY region, node_id, cause, fault_code, device
        ) AS folded
    ) AS incidents
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
        FROM pai.user_metrics AS usage
    ) AS shown
    WHERE shown.node != ''
    GROUP BY node, bucket
) AS used ON found.moment.1 = used.node AND found.moment.2 = used.bucket
GROUP BY region, node_id, fault_class, fault_code, fault_case, device, fault_severity, first, last, lines, place
COMMENT 'Faults folded into incidents, one row each: lines of one device, class and number with gaps of at most five minutes';
