-- purpose: nodes of the last week by hours with a fault, so that one burst does not hide a node that fails daily
SELECT
    node_id,
    any(hostname) AS hostname,
    uniqExact(toStartOfHour(time)) AS fault_hours,
    uniqExact(toDate(time)) AS fault_days,
    count() AS lines,
    arraySort(groupUniqArray(toString(fault_class))) AS classes,
    max(time) AS last
FROM syslogs
WHERE time >= now() - INTERVAL 7 DAY AND fault_class != ''
GROUP BY node_id
ORDER BY fault_hours DESC, lines DESC, node_id
LIMIT 50
