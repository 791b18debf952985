-- purpose: share of diagnostic tasks that passed, by cluster and type, of those created in the range
-- param: hours UInt16 = 720  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    tasks.cluster_id AS cluster_id,
    tasks.diagnostic_type AS diagnostic_type,
    count() AS tasks,
    countIf(is_over) AS ended,
    countIf(is_over AND is_passed) AS passed,
    round(100 * passed / nullIf(ended, 0), 1) AS passed_percent,
    round(quantileExactInclusive(0.5)(dateDiff('second', tasks.created_at, tasks.ended_at))) AS median_seconds,
    max(created) AS last_created
FROM
(
    SELECT
        known.cluster_id AS cluster_id,
        known.diagnostic_type AS diagnostic_type,
        known.created_at AS created_at,
        known.ended_at AS ended_at,
        coalesce(known.created_at, known.observed_at) AS created,
        known.ended_at IS NOT NULL AS is_over,
        -- The list says in another field what a task found; its own answer says it as its state.
        coalesce(nullIf(JSONExtractString(known.extra, 'DiagResult'), ''), toString(known.state)) AS verdict,
        match(verdict, '(?i)^(succe|pass|ok$|normal|healthy)') AS is_passed
    FROM diagnostics AS known
) AS tasks
WHERE tasks.created >= range_start AND tasks.created < range_end
GROUP BY cluster_id, diagnostic_type
ORDER BY cluster_id, diagnostic_type
