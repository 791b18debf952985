-- purpose: calls and spend of each operation on each day (UTC+8, as it is billed), the latest first
-- param: hours UInt16 = 744  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rows UInt32 = 1000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    toDate(meter.minute, 'Asia/Shanghai') AS day,
    meter.operation AS operation,
    sum(meter.calls) AS calls,
    sumIf(meter.calls, meter.http_status != 200 OR meter.code != '') AS failed,
    sum(meter.rows) AS records,
    sum(meter.cost_cny) AS cost_cny,
    sumIf(meter.cost_cny, meter.http_status != 200 OR meter.code != '') AS cost_failed_cny
FROM api_calls AS meter
WHERE meter.minute >= range_start AND meter.minute < range_end
GROUP BY day, operation
ORDER BY day DESC, cost_cny DESC, operation
LIMIT {rows:UInt32}
