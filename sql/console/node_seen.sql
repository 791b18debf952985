-- purpose: the last line of a node in the range, and under which host name
-- param: node String  id of the node
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
SELECT
    logs.hostname AS hostname,
    count() AS lines,
    max(logs.time) AS last_line
FROM syslogs AS logs
WHERE logs.node_id = {node:String}
    AND toStartOfHour(logs.time) >= toDateTime({start:UInt32}, 'UTC')
    AND toStartOfHour(logs.time) < toDateTime({end:UInt32}, 'UTC')
GROUP BY hostname
ORDER BY last_line DESC
LIMIT 1
