-- purpose: events of one node: those that name it, and those of some jobs
-- param: node String  id of the node
-- param: host String = ''  its host name
-- param: jobs String = ''  jobs whose events belong to it, one a line
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: rows UInt32 = 100  rows at most
SELECT
    said.time AS time,
    said.source AS source,
    said.entity_id AS entity_id,
    said.event_type AS event_type,
    said.reason AS reason,
    said.content AS content
FROM events AS said
WHERE said.time >= toDateTime({start:UInt32}, 'UTC') AND said.time < toDateTime({end:UInt32}, 'UTC')
    AND (
        (said.scope_id != '' AND has(splitByChar('\n', {jobs:String}), said.scope_id))
        OR said.entity_id IN ({node:String}, {host:String})
        OR position(said.content, {node:String}) > 0
        OR ({host:String} != '' AND position(said.content, {host:String}) > 0)
    )
ORDER BY time DESC, source, entity_id, content
LIMIT {rows:UInt32}
