-- purpose: log lines of one node in steps, those with a fault apart
-- param: node String  id of the node
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 300  length of a step, seconds
SELECT
    intDiv(toUnixTimestamp(lines.time) - {start:UInt32}, {step:UInt32}) AS place,
    count() AS lines,
    countIf(lines.fault_class != '') AS fault_lines
FROM syslogs AS lines
WHERE lines.node_id = {node:String}
    AND lines.time >= toDateTime({start:UInt32}, 'UTC') AND lines.time < toDateTime({end:UInt32}, 'UTC')
GROUP BY place
ORDER BY place
