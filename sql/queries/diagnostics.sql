-- purpose: diagnostic tasks as last seen, the newest first, with how long they took and how much they found
-- param: rows UInt32 = 100  rows at most
SELECT
    tasks.diagnostic_id AS diagnostic_id,
    tasks.cluster_id AS cluster_id,
    tasks.diagnostic_type AS diagnostic_type,
    tasks.state AS state,
    length(tasks.node_ids) AS nodes,
    JSONLength(tasks.results) AS findings,
    tasks.created_at AS created_at,
    tasks.ended_at AS ended_at,
    dateDiff('second', tasks.created_at, tasks.ended_at) AS seconds,
    tasks.observed_at AS observed_at
FROM diagnostics AS tasks
ORDER BY created_at DESC NULLS LAST, diagnostic_id
LIMIT {rows:UInt32}
