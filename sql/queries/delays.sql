-- purpose: how late the log lines of the last day arrived, node by node, the latest first
SELECT
    node_id,
    count() AS rows,
    quantilesTiming(0.5, 0.99, 0.999)(greatest(0, dateDiff('second', time, receive_time))) AS p50_p99_p999_seconds,
    max(dateDiff('second', time, receive_time)) AS latest_seconds
FROM syslogs
WHERE time >= now() - INTERVAL 1 DAY AND receive_time IS NOT NULL
GROUP BY node_id
ORDER BY latest_seconds DESC, node_id
