-- purpose: faults of the last day by class, code and node, most first
SELECT
    fault_class,
    fault_code,
    node_id,
    any(hostname) AS hostname,
    count() AS lines,
    min(time) AS first,
    max(time) AS last
FROM syslogs
WHERE time >= now() - INTERVAL 1 DAY AND fault_class != ''
GROUP BY fault_class, fault_code, node_id
ORDER BY lines DESC, fault_class, node_id
LIMIT 100
