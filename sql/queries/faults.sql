-- purpose: faults by class, code and node, most first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: node String = ''  node to look at; empty takes all
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    lines.fault_class AS fault_class,
    lines.fault_code AS fault_code,
    lines.node_id AS node_id,
    argMax(lines.hostname, lines.time) AS hostname,
    count() AS lines,
    min(lines.time) AS first,
    max(lines.time) AS last
FROM syslogs AS lines
WHERE lines.time >= range_start AND lines.time < range_end AND lines.fault_class != ''
    AND ({node:String} = '' OR lines.node_id = {node:String}) AND ({class:String} = '' OR lines.fault_class = {class:String})
GROUP BY fault_class, fault_code, node_id
ORDER BY lines DESC, fault_class, fault_code, node_id
LIMIT {rows:UInt32}
