-- purpose: the newest lines of one node
-- param: node String  id of the node
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: rows UInt32 = 30  rows at most
SELECT
    lines.time AS time,
    lines.severity AS severity,
    lines.fault_severity AS fault_severity,
    lines.syslogtag AS syslogtag,
    lines.msg AS msg
FROM syslogs AS lines
WHERE lines.node_id = {node:String}
    AND lines.time >= toDateTime({start:UInt32}, 'UTC') AND lines.time < toDateTime({end:UInt32}, 'UTC')
ORDER BY time DESC, msg
LIMIT {rows:UInt32}
