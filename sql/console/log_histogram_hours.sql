-- purpose: as log_histogram, for conditions on columns of the table's hours: of whole hours no line is read
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: step UInt32 = 3600  length of a part, seconds
-- param: by String = 'fault'  fault, class or level
WITH
    -- Lines without a fault are counted by the hour: they have to be read where the range or a part cuts one.
    toStartOfHour({start:DateTime('UTC')} + 3599) AS first_hour,
    if({step:UInt32} % 3600 = 0, greatest(toStartOfHour({end:DateTime('UTC')}), first_hour), first_hour) AS end_hour
SELECT
    intDiv(toUnixTimestamp(counted.moment), {step:UInt32}) * {step:UInt32} AS start,
    counted.value AS value,
    sum(counted.lines) AS lines
FROM
(
    SELECT faults.moment AS moment, faults.value AS value, faults.lines AS lines
    FROM
    (
        -- The hours hold faults by the second.
        SELECT
            if(lines.fault_class = '', toStartOfHour(lines.time), lines.time) AS moment,
            multiIf(
                {by:String} = 'class', toString(lines.fault_class),
                {by:String} = 'level', toString(lines.severity),
                toString(lines.fault_severity)
            ) AS value,
            count() AS lines
        FROM syslogs AS lines
        WHERE lines.fault_class != '' AND toStartOfHour(lines.time) >= toStartOfHour({start:DateTime('UTC')})
            AND toStartOfHour(lines.time) < {end:DateTime('UTC')}
            -- filters
        GROUP BY moment, value
    ) AS faults
    WHERE faults.moment >= {start:DateTime('UTC')} AND faults.moment < {end:DateTime('UTC')}
    UNION ALL
    SELECT
        toStartOfHour(lines.time) AS moment,
        if({by:String} = 'level', toString(lines.severity), '') AS value,
        count() AS lines
    FROM syslogs AS lines
    WHERE lines.fault_class = '' AND toStartOfHour(lines.time) >= first_hour AND toStartOfHour(lines.time) < end_hour
        -- filters
    GROUP BY moment, value
    UNION ALL
    SELECT
        toDateTime(intDiv(toUnixTimestamp(lines.time), {step:UInt32}) * {step:UInt32}, 'UTC') AS moment,
        if({by:String} = 'level', toString(lines.severity), '') AS value,
        count() AS lines
    FROM syslogs AS lines
    WHERE lines.fault_class = '' AND lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
        AND (lines.time < first_hour OR lines.time >= end_hour)
        -- filters
    GROUP BY moment, value
) AS counted
GROUP BY start, value
ORDER BY start, value
