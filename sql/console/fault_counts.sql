-- purpose: fault lines by class and severity in steps
-- param: start UInt32  start of the first step, seconds since the epoch
-- param: since UInt32  start of the range, in the first step, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 3600  length of a step, seconds
-- param: node String = ''  node to look at; empty takes all
SELECT
    toString(faults.fault_class) AS fault_class,
    toString(faults.fault_severity) AS fault_severity,
    intDiv(toUnixTimestamp(faults.time) - {start:UInt32}, {step:UInt32}) AS place,
    sum(faults.lines) AS lines
FROM fault_seconds AS faults
WHERE faults.hour >= toStartOfHour(toDateTime({since:UInt32}, 'UTC'))
    AND faults.time >= toDateTime({since:UInt32}, 'UTC') AND faults.time < toDateTime({end:UInt32}, 'UTC')
    AND ({node:String} = '' OR faults.node_id = {node:String})
GROUP BY fault_class, fault_severity, place
ORDER BY place, fault_severity DESC, fault_class
