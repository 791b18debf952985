-- purpose: nodes as last discovered, with their faults of the range, those with the worst faults first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rows UInt32 = 10000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    known.node_id AS node_id,
    known.hostname AS hostname,
    known.cluster_id AS cluster_id,
    known.machine_type AS machine_type,
    known.operating_state AS operating_state,
    known.zone_id AS zone_id,
    known.is_present AS is_present,
    faults.worst AS fault_severity,
    faults.lines AS fault_lines,
    faults.classes AS fault_classes,
    known.observed_at AS observed_at
FROM nodes AS known
GLOBAL LEFT JOIN
(
    SELECT
        lines.node_id AS node_id,
        lines.region AS region,
        max(lines.fault_severity) AS worst,
        sum(lines.lines) AS lines,
        arraySort(groupUniqArray(toString(lines.fault_class))) AS classes
    FROM fault_seconds AS lines
    WHERE lines.hour >= toStartOfHour(range_start) AND lines.time >= range_start AND lines.time < range_end
    GROUP BY node_id, region
) AS faults ON known.node_id = faults.node_id AND known.region = faults.region
ORDER BY fault_severity DESC, fault_lines DESC, is_present, node_id, known.region
LIMIT {rows:UInt32}
