-- purpose: nodes by fatal and degraded incidents, then by hours with a fault, with the worst incident of each
-- param: hours UInt16 = 168  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: days_min UInt16 = 1  only nodes with faults on so many days (UTC): 2 shows repeat offenders
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: rows UInt32 = 50  rows at most
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
    ranked.node_id AS node_id,
    ranked.hostname AS hostname,
    ranked.worst.1 AS fault_severity,
    ranked.fatal AS fatal,
    ranked.degraded AS degraded,
    ranked.application AS application,
    ranked.fault_hours AS fault_hours,
    ranked.fault_days AS fault_days,
    ranked.lines AS lines,
    ranked.classes AS classes,
    ranked.worst.3 AS fault_class,
    ranked.worst.4 AS fault_code,
    ranked.worst.6 AS device,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', ranked.worst.5), known.1, known.2,
        transform(concat(fault_class, ' 0 ', ranked.worst.5), known.1, known.2, '')
    ) AS meaning,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', ranked.worst.5), known.1, known.3,
        transform(concat(fault_class, ' 0 ', ranked.worst.5), known.1, known.3, '')
    ) AS action,
    toDateTime(ranked.first, 'UTC') AS first,
    toDateTime(ranked.last, 'UTC') AS last
FROM
(
    SELECT
        incidents.node_id AS node_id,
        argMax(incidents.place.1, tuple(incidents.spell[-1].1, incidents.place.1)) AS hostname,
        -- Of equally bad incidents the latest.
        max(
            tuple(
                incidents.worst.1, incidents.spell[-1].1, incidents.worst.2, incidents.fault_code, incidents.worst.3,
                toString(incidents.device)
            )
        ) AS worst,
        countIf(incidents.worst.1 = 'fatal') AS fatal,
        countIf(incidents.worst.1 = 'degraded') AS degraded,
        countIf(incidents.worst.1 = 'application') AS application,
        uniqExactArray(arrayMap(line -> intDiv(line.1, 3600), incidents.spell)) AS fault_hours,
        uniqExactArray(arrayMap(line -> intDiv(line.1, 86400), incidents.spell)) AS fault_days,
        sum(arraySum(incidents.spell.3)) AS lines,
        -- Of a second the worst line.
        arraySort(
            groupUniqArrayArray(
                arrayMap(
                    kind -> incidents.kinds[kind].1.2,
                    arrayDistinct(
                        arrayFilter(
                            (line, next) -> line.1 != next,
                            incidents.spell, arrayPushBack(arrayPopFront(incidents.spell.1), 0)
                        ).2
                    )
                )
            )
        ) AS classes,
        min(incidents.spell[1].1) AS first,
        max(incidents.spell[-1].1) AS last
    FROM
    (
        -- part: incidents_of_seconds
        {class:String} = '' OR lines.fault_class = {class:String}
        -- end
    ) AS incidents
    GROUP BY node_id
    HAVING fault_days >= {days_min:UInt16}
) AS ranked
ORDER BY fatal DESC, degraded DESC, fault_hours DESC, lines DESC, node_id
LIMIT {rows:UInt32}
