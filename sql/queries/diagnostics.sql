-- purpose: diagnostic tasks as last seen, the newest first, with how long they took and how much they found
SELECT
    diagnostic_id,
    cluster_id,
    diagnostic_type,
    state,
    length(node_ids) AS nodes,
    JSONLength(results) AS findings,
    created_at,
    ended_at,
    dateDiff('second', created_at, ended_at) AS seconds,
    observed_at
FROM diagnostics
ORDER BY created_at DESC NULLS LAST, diagnostic_id
LIMIT 100
