-- Faults folded into incidents as `incidents` does, from their seconds, without reading lines. `spell` has a tuple for the faults
-- of a second that are alike: when, their place in `kinds`, their lines. `kinds` has the worst first: severity, class, case; then
-- where: host, cluster. `worst` and `place` are those of the whole spell, as `incidents` has them of each second.
SELECT
    folded.region AS region, folded.node_id AS node_id,
    folded.fault_code AS fault_code,
    folded.device AS device,
    folded.kinds AS kinds,
    -- A gap of more than five minutes begins another incident.
    arrayJoin(arraySplit((line, gap) -> gap > 300, folded.seen, arrayDifference(folded.seen.1))) AS spell,
    arrayReduce('max', arrayMap(kind -> kinds[kind].1, arrayDistinct(spell.2))) AS worst,
    arrayReduce(
        'max', arrayMap(line -> kinds[line.2].2, arrayFilter(line -> line.1 = spell[-1].1, spell))
    ) AS place
FROM
(
    SELECT
        alike.region AS region, alike.node_id AS node_id,
        if(alike.fault_class = 'gpu_fallen_off_bus', 'xid', toString(alike.fault_class)) AS cause,
        alike.fault_code AS fault_code,
        alike.device AS device,
        arraySort(
            groupArray(
                tuple(
                    tuple(alike.fault_severity, toString(alike.fault_class), toString(alike.fault_case)),
                    tuple(toString(alike.hostname), toString(alike.cluster_id)),
                    alike.seen
                )
            )
        ) AS found,
        arrayMap(kind -> tuple(kind.1, kind.2), found) AS kinds,
        arraySort(
            arrayFlatten(
                arrayMap(
                    (kind, number) -> arrayMap(line -> tuple(line.1, number, line.2), kind.3),
                    found, arrayEnumerate(found)
                )
            )
        ) AS seen
    FROM
    (
        -- Seconds as numbers: what all of them share is taken once.
        SELECT
            lines.region AS region, lines.node_id AS node_id, lines.cluster_id AS cluster_id,
            lines.hostname AS hostname, lines.fault_class AS fault_class, lines.fault_code AS fault_code,
            lines.fault_case AS fault_case, lines.fault_severity AS fault_severity, lines.device AS device,
            groupArray(tuple(toUnixTimestamp(lines.time), lines.lines)) AS seen
        FROM fault_seconds AS lines
        WHERE lines.hour >= toStartOfHour(range_start) AND lines.time >= range_start AND lines.time < range_end
            AND (
                {condition}
            )
        GROUP BY
            region, node_id, cluster_id, hostname, fault_class, fault_code, fault_case, fault_severity, device
    ) AS alike
    GROUP BY region, node_id, cause, fault_code, device
) AS folded
