-- purpose: ranges of nodes' logs that are not covered
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: node String = ''  node to look at; empty takes all
-- param: rows UInt32 = 20000  rows at most
SELECT
    splitByString('?Query=', toString(holes.scope_id))[1] AS node_id,
    toUnixTimestamp(holes.start) AS first_second,
    toUnixTimestamp(holes.end) AS end_second,
    holes.reason AS reason
FROM gaps AS holes
WHERE holes.operation = 'ListSyslogs' AND holes.state = 'open'
    AND holes.start < toDateTime({end:UInt32}, 'UTC') AND holes.end > toDateTime({start:UInt32}, 'UTC')
    AND ({node:String} = '' OR splitByString('?Query=', toString(holes.scope_id))[1] = {node:String})
ORDER BY first_second, node_id
LIMIT {rows:UInt32}
