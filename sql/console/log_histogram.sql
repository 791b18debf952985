-- purpose: log lines of a range over time, by severity or class of fault or by level
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: step UInt32 = 3600  length of a part, seconds
-- param: by String = 'fault'  fault, class or level
SELECT
    intDiv(toUnixTimestamp(lines.time), {step:UInt32}) * {step:UInt32} AS start,
    multiIf(
        {by:String} = 'class', toString(lines.fault_class),
        {by:String} = 'level', toString(lines.severity),
        toString(lines.fault_severity)
    ) AS value,
    count() AS lines
FROM syslogs AS lines
WHERE lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
    -- filters
GROUP BY start, value
ORDER BY start, value
