-- purpose: diagnostic tasks of one node, the newest first, with what they found
-- param: node String  id of the node
-- param: rows UInt32 = 50  rows at most
SELECT
    tasks.diagnostic_id AS diagnostic_id,
    tasks.diagnostic_type AS diagnostic_type,
    tasks.state AS state,
    tasks.created_at AS created_at,
    tasks.ended_at AS ended_at,
    toUnixTimestamp(tasks.created_at) AS began,
    toUnixTimestamp(tasks.ended_at) AS ended,
    JSONLength(tasks.results) AS findings,
    arrayStringConcat(
        arrayMap(
            found -> concat(JSONExtractString(found, 'Item'), ': ', JSONExtractString(found, 'Detail')),
            arrayFilter(found -> JSONExtractString(found, 'Detail') != '', JSONExtractArrayRaw(tasks.results))
        ), '; '
    ) AS details
FROM diagnostics AS tasks
WHERE has(tasks.node_ids, {node:String})
ORDER BY created_at DESC NULLS LAST, diagnostic_id
LIMIT {rows:UInt32}
