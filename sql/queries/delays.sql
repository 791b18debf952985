-- purpose: how late the log lines of the last hours arrived at the log service, node by node, the latest first
-- param: hours UInt16 = 24  how far back lines are looked at, hours
-- param: rows UInt32 = 10000  rows at most
SELECT
    node_id,
    count() AS lines,
    quantileTiming(0.5)(greatest(0, dateDiff('second', time, receive_time))) AS p50_seconds,
    quantileTiming(0.99)(greatest(0, dateDiff('second', time, receive_time))) AS p99_seconds,
    quantileTiming(0.999)(greatest(0, dateDiff('second', time, receive_time))) AS p999_seconds,
    max(dateDiff('second', time, receive_time)) AS latest_seconds
FROM syslogs
WHERE time >= now('UTC') - toIntervalHour({hours:UInt16}) AND receive_time IS NOT NULL
GROUP BY node_id
ORDER BY latest_seconds DESC, node_id
LIMIT {rows:UInt32}
