-- purpose: how late log lines arrived at the log service, node by node, the latest first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rows UInt32 = 10000  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    late.node_id AS node_id,
    late.lines AS lines,
    toNullable(late.seconds[1]) AS p50_seconds,
    toNullable(late.seconds[2]) AS p99_seconds,
    toNullable(late.seconds[3]) AS p999_seconds,
    toNullable(late.latest) AS latest_seconds
FROM
(
    SELECT
        arrived.node_id AS node_id,
        count() AS lines,
        quantilesTiming(0.5, 0.99, 0.999)(greatest(0, arrived.seconds)) AS seconds,
        max(arrived.seconds) AS latest
    FROM
    (
        -- Numbers that cannot be NULL are compared in half the time of dates that can.
        SELECT
            logs.node_id AS node_id,
            toInt64(toUnixTimestamp(assumeNotNull(logs.receive_time))) - toUnixTimestamp(logs.time) AS seconds
        FROM syslogs AS logs
        WHERE logs.time >= range_start AND logs.time < range_end AND logs.receive_time IS NOT NULL
    ) AS arrived
    GROUP BY node_id
) AS late
ORDER BY latest_seconds DESC, node_id
LIMIT {rows:UInt32}
