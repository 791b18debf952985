-- purpose: calls over time by operation, how many of them failed, and what they cost
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: step UInt32 = 300  length of a part of the range, seconds
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    intDiv(toUnixTimestamp(meter.minute), {step:UInt32}) * {step:UInt32} AS time,
    meter.operation AS operation,
    sum(meter.calls) AS calls,
    sumIf(meter.calls, meter.http_status != 200 OR meter.code != '') AS failed,
    sum(meter.cost_cny) AS cost_cny
FROM api_calls AS meter
WHERE meter.minute >= range_start AND meter.minute < range_end
GROUP BY time, operation
ORDER BY time, operation
