-- purpose: nodes as last discovered, with their faults of the last day, those in trouble first
SELECT
    known.node_id AS node_id,
    known.hostname AS hostname,
    known.cluster_id AS cluster_id,
    known.machine_type AS machine_type,
    known.operating_state AS operating_state,
    known.zone_id AS zone_id,
    known.is_present AS is_present,
    faults.lines AS fault_lines,
    faults.classes AS fault_classes,
    known.observed_at AS since
FROM nodes AS known
LEFT JOIN
(
    SELECT node_id, region, count() AS lines, arraySort(groupUniqArray(toString(fault_class))) AS classes
    FROM syslogs
    WHERE time >= now() - INTERVAL 1 DAY AND fault_class != ''
    GROUP BY node_id, region
) AS faults USING (node_id, region)
ORDER BY fault_lines DESC, is_present, node_id
