-- purpose: nodes by hours with a fault, so that one burst does not hide a node that fails daily
-- param: hours UInt16 = 168  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: days_min UInt16 = 1  only nodes with faults on so many days (UTC): 2 shows repeat offenders
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: rows UInt32 = 50  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    lines.node_id AS node_id,
    argMax(lines.hostname, lines.time) AS hostname,
    uniqExact(toStartOfHour(lines.time)) AS fault_hours,
    uniqExact(toDate(lines.time)) AS fault_days,
    count() AS lines,
    arraySort(groupUniqArray(toString(lines.fault_class))) AS classes,
    min(lines.time) AS first,
    max(lines.time) AS last
FROM syslogs AS lines
WHERE lines.time >= range_start AND lines.time < range_end AND lines.fault_class != ''
    AND ({class:String} = '' OR lines.fault_class = {class:String})
GROUP BY node_id
HAVING fault_days >= {days_min:UInt16}
ORDER BY fault_hours DESC, lines DESC, node_id
LIMIT {rows:UInt32}
