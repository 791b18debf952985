-- Fault lines folded into incidents: those of one device and cause with at most five minutes between them. `spell` has a tuple for
-- each second: when, its lines, the worst of them (severity, class, case), where (host, cluster), and what else is asked of them.
SELECT
    folded.region AS region,
    folded.node_id AS node_id,
    folded.fault_code AS fault_code,
    folded.device AS device,
    arrayJoin(arraySplit((line, gap) -> gap > 300, folded.seen, arrayDifference(folded.seen.1))) AS spell
FROM
(
    SELECT
        seconds.region AS region,
        seconds.node_id AS node_id,
        seconds.cause AS cause,
        seconds.fault_code AS fault_code,
        seconds.device AS device,
        arraySort(
            groupArray(
                tuple(toUnixTimestamp(seconds.time), seconds.lines, seconds.worst, seconds.place, seconds.more)
            )
        ) AS seen
    FROM
    (
        SELECT
            lines.region AS region,
            lines.node_id AS node_id,
            if(lines.fault_class = 'gpu_fallen_off_bus', 'xid', toString(lines.fault_class)) AS cause,
            lines.fault_code AS fault_code,
            lines.fault_device AS device,
            lines.time AS time,
            count() AS lines,
            max(tuple(lines.fault_severity, toString(lines.fault_class), toString(lines.fault_case))) AS worst,
            max(tuple(toString(lines.hostname), toString(lines.cluster_id))) AS place,
            {more} AS more
        FROM syslogs AS lines
        WHERE lines.fault_class != ''
            AND (
                {condition}
            )
        GROUP BY region, node_id, cause, fault_code, device, time
    ) AS seconds
    GROUP BY region, node_id, cause, fault_code, device
) AS folded
