-- purpose: GPUs held but idle: unbroken stretches in which a user's jobs held GPUs and hardly used them
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rate Float64 = 5  a GPU usage below so many percent is idle; an unknown one is not
-- param: minutes UInt32 = 30  only stretches at least so long, minutes
-- param: step_minutes UInt32 = 10  snapshots further apart than this are not one stretch, minutes
-- param: resource_group String = ''  resource group to look at; empty takes all
-- param: workspace String = ''  workspace to look at; empty takes all, each in rows of its own
-- param: user String = ''  user to look at; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    stretches.resource_group_id AS resource_group_id,
    stretches.workspace_id AS workspace_id,
    stretches.user_id AS user_id,
    stretches.job_type AS job_type,
    min(stretches.time) AS first,
    max(stretches.time) AS last,
    intDiv(dateDiff('second', first, last), 60) AS minutes,
    count() AS snapshots,
    max(stretches.request_gpu) AS gpus,
    round(avg(stretches.gpu_usage_rate), 2) AS mean_rate,
    round(sum(if(stretches.starts, 0, stretches.request_gpu * stretches.step)) / 3600, 2) AS gpu_hours
FROM
(
    SELECT
        looked.resource_group_id AS resource_group_id,
        looked.workspace_id AS workspace_id,
        looked.region AS region,
        looked.user_id AS user_id,
        looked.job_type AS job_type,
        looked.time AS time,
        looked.request_gpu AS request_gpu,
        looked.gpu_usage_rate AS gpu_usage_rate,
        looked.is_idle AS is_idle,
        dateDiff('second', looked.before, looked.time) AS step,
        NOT (looked.is_idle AND looked.was_idle AND step <= {step_minutes:UInt32} * 60) AS starts,
        sum(starts) OVER (
            PARTITION BY looked.region, looked.resource_group_id, looked.workspace_id, looked.user_id, looked.job_type
            ORDER BY looked.time
        ) AS stretch
    FROM
    (
        SELECT
            usage.resource_group_id AS resource_group_id,
            usage.workspace_id AS workspace_id,
            usage.region AS region,
            usage.user_id AS user_id,
            usage.job_type AS job_type,
            usage.time AS time,
            usage.request_gpu AS request_gpu,
            usage.gpu_usage_rate AS gpu_usage_rate,
            coalesce(usage.request_gpu > 0 AND usage.gpu_usage_rate < {rate:Float64}, 0) AS is_idle,
            lagInFrame(is_idle) OVER series AS was_idle,
            lagInFrame(usage.time) OVER series AS before
        FROM
        (
            -- part: drawn_usage
            ({resource_group:String} = '' OR told.resource_group_id = {resource_group:String})
                AND ({workspace:String} = '' OR told.workspace_id = {workspace:String})
            -- end
        ) AS usage
        WHERE usage.is_drawn AND ({user:String} = '' OR usage.user_id = {user:String})
        WINDOW series AS (
            PARTITION BY usage.region, usage.resource_group_id, usage.workspace_id, usage.user_id, usage.job_type
            ORDER BY usage.time
            ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
        )
    ) AS looked
) AS stretches
WHERE stretches.is_idle
GROUP BY stretches.region, resource_group_id, workspace_id, user_id, job_type, stretches.stretch
HAVING minutes >= {minutes:UInt32}
ORDER BY gpu_hours DESC, minutes DESC, resource_group_id, workspace_id, user_id, job_type, first
LIMIT {rows:UInt32}
