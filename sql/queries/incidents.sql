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
    ) AS known,
    (
        -- Found before usage is read, of which only what belongs to these is looked at.
        SELECT groupArray(
            tuple(
                listed.region, listed.node_id, listed.fault_code, listed.device, listed.first, listed.last, listed.lines,
                listed.worst, listed.place
            )
        )
        FROM
        (
            SELECT
                incidents.region AS region,
                incidents.node_id AS node_id,
                incidents.fault_code AS fault_code,
                incidents.device AS device,
                incidents.spell[1].1 AS first,
                incidents.spell[-1].1 AS last,
                arraySum(incidents.spell.3) AS lines,
                incidents.worst AS worst,
                incidents.place AS place
            FROM
            (
                -- part: incidents_of_seconds
                ({node:String} = '' OR lines.node_id = {node:String})
                    AND ({class:String} = '' OR lines.fault_class = {class:String})
                -- end
            ) AS incidents
            WHERE toInt8(worst.1) >= transform(
                {severity:String}, ['', 'info', 'corrected', 'application', 'degraded', 'fatal'], [0, 1, 2, 3, 4, 5], 9
            )
            ORDER BY worst.1 DESC, last DESC, node_id, worst.2, fault_code, worst.3, device, first, region
            LIMIT {rows:UInt32}
        ) AS listed
    ) AS all_shown,
    -- Of each the ten minutes before it, those it began in and those it ended in, by either name of the node.
    arrayMap(
        one -> arrayFlatten(
            arrayMap(
                name -> arrayMap(
                    bucket -> tuple(name, bucket),
                    arrayDistinct([intDiv(one.5, 600) - 1, intDiv(one.5, 600), intDiv(one.6, 600)])
                ),
                arrayDistinct([toString(one.2), one.9.1])
            )
        ),
        all_shown
    ) AS moments,
    arrayDistinct(arrayFlatten(moments).1) AS nodes_shown,
    arrayDistinct(arrayFlatten(moments).2) AS buckets_shown
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
        each.shown.1 AS region,
        toLowCardinality(each.shown.2) AS node_id,
        each.shown.3 AS fault_code,
        toLowCardinality(each.shown.4) AS device,
        each.shown.5 AS first,
        each.shown.6 AS last,
        each.shown.7 AS lines,
        each.shown.8 AS worst,
        each.shown.9 AS place,
        arrayJoin(each.its_moments) AS moment
    FROM
    (
        SELECT arrayJoin(arrayZip(all_shown, moments)) AS both, both.1 AS shown, both.2 AS its_moments
    ) AS each
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
            AND has(buckets_shown, intDiv(toUnixTimestamp(usage.time), 600))
    ) AS shown
    WHERE shown.node != '' AND shown.node GLOBAL IN (SELECT arrayJoin(nodes_shown))
    GROUP BY node, bucket
) AS used ON found.moment.1 = used.node AND found.moment.2 = used.bucket
GROUP BY region, node_id, fault_class, fault_code, fault_case, device, fault_severity, first, last, lines, place
ORDER BY fault_severity DESC, last DESC, node_id, fault_class, fault_code, fault_case, device, first, found.region
LIMIT {rows:UInt32}
