-- purpose: how late log lines arrived at the log service, node by node, the latest first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rows UInt32 = 10000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    node_id,
    count() AS lines,
    quantileTiming(0.5)(greatest(0, dateDiff('second', time, receive_time))) AS p50_seconds,
    quantileTiming(0.99)(greatest(0, dateDiff('second', time, receive_time))) AS p99_seconds,
    quantileTiming(0.999)(greatest(0, dateDiff('second', time, receive_time))) AS p999_seconds,
    max(dateDiff('second', time, receive_time)) AS latest_seconds
FROM syslogs
WHERE time >= range_start AND time < range_end AND receive_time IS NOT NULL
GROUP BY node_id
ORDER BY latest_seconds DESC, node_id
LIMIT {rows:UInt32}
