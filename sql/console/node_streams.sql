-- purpose: log streams of nodes: from when and up to when each is collected; of several of a node the one that goes on
-- param: node String = ''  node to look at; empty takes all
SELECT
    splitByString('?Query=', toString(streams.scope_id))[1] AS node_id,
    decodeURLComponent(splitByString('?Query=', toString(streams.scope_id))[2]) AS query,
    toUnixTimestamp(streams.collected_from) AS collected_from,
    toUnixTimestamp(streams.watermark) AS watermark
FROM watermarks AS streams
WHERE streams.operation = 'ListSyslogs'
    AND ({node:String} = '' OR splitByString('?Query=', toString(streams.scope_id))[1] = {node:String})
ORDER BY watermark DESC, streams.scope_id
LIMIT 1 BY node_id
