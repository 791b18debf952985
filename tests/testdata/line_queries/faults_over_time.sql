-- purpose: faults of each node and class, interval by interval, the latest first and of an interval the worst
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: minutes UInt16 = 60  length of an interval, minutes, at least 1
-- param: node String = ''  node to look at; empty takes all
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: rows UInt32 = 1000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    toStartOfInterval(lines.time, toIntervalMinute(greatest({minutes:UInt16}, 1)), 'UTC') AS start,
    lines.node_id AS node_id,
    lines.fault_class AS fault_class,
    max(lines.fault_severity) AS fault_severity,
    count() AS lines,
    uniqExact(lines.fault_code) AS codes,
    max(lines.time) AS last
FROM syslogs AS lines
WHERE lines.time >= range_start AND lines.time < range_end AND lines.fault_class != ''
    AND ({node:String} = '' OR lines.node_id = {node:String}) AND ({class:String} = '' OR lines.fault_class = {class:String})
GROUP BY start, node_id, fault_class
ORDER BY start DESC, fault_severity DESC, node_id, fault_class
LIMIT {rows:UInt32}
