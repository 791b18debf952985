-- purpose: worst severity and lines of each node in steps, of the nodes with the worst and most frequent faults
-- param: start UInt32  start of the first step, seconds since the epoch
-- param: since UInt32  start of the range, in the first step, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 3600  length of a step, seconds
-- param: node String = ''  node to look at; empty takes all
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: severity String = ''  least severity: info, corrected, application, degraded or fatal; empty takes all
-- param: rows UInt32 = 50  nodes at most
SELECT
    cells.node_id AS node_id,
    toString(max(cells.worst)) AS fault_severity,
    sum(cells.lines) AS lines,
    arraySort(groupArray(tuple(cells.place, toString(cells.worst), cells.lines))) AS steps
FROM
(
    SELECT
        faults.node_id AS node_id,
        intDiv(toUnixTimestamp(faults.time) - {start:UInt32}, {step:UInt32}) AS place,
        max(faults.fault_severity) AS worst,
        sum(faults.lines) AS lines
    FROM fault_seconds AS faults
    WHERE faults.hour >= toStartOfHour(toDateTime({since:UInt32}, 'UTC'))
        AND faults.time >= toDateTime({since:UInt32}, 'UTC') AND faults.time < toDateTime({end:UInt32}, 'UTC')
        AND ({node:String} = '' OR faults.node_id = {node:String})
        AND ({class:String} = '' OR faults.fault_class = {class:String})
    GROUP BY node_id, place
) AS cells
WHERE toInt8(cells.worst) >= transform(
    {severity:String}, ['', 'info', 'corrected', 'application', 'degraded', 'fatal'], [0, 1, 2, 3, 4, 5], 9
)
GROUP BY node_id
ORDER BY max(cells.worst) DESC, count() DESC, lines DESC, node_id
LIMIT {rows:UInt32}
