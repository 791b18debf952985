-- purpose: GPUs requested and used in each hour, all resource groups together: means over the hour's snapshots
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    toUnixTimestamp(groups.hour) AS time,
    round(sum(groups.requested), 2) AS gpus_requested,
    round(sum(groups.used), 2) AS gpus_used
FROM
(
    SELECT
        toStartOfHour(snapshots.time) AS hour,
        snapshots.resource_group_id AS resource_group_id,
        avg(snapshots.requested) AS requested,
        avg(snapshots.used) AS used
    FROM
    (
        SELECT
            usage.time AS time,
            usage.resource_group_id AS resource_group_id,
            sum(usage.request_gpu) AS requested,
            sum(usage.request_gpu * usage.gpu_usage_rate) / 100 AS used
        FROM
        (
            -- part: drawn_usage
            told.workspace_id = ''
            -- end
        ) AS usage
        WHERE usage.is_drawn
        GROUP BY time, resource_group_id
    ) AS snapshots
    GROUP BY hour, resource_group_id
) AS groups
GROUP BY time
ORDER BY time
