-- purpose: events of services and jobs, the latest first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: scope String = ''  service as cluster_id/service_name, or job; empty takes all
-- param: rows UInt32 = 200  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    said.time AS time,
    said.source AS source,
    said.entity_id AS entity_id,
    said.event_type AS event_type,
    said.reason AS reason,
    said.triggered_by AS triggered_by,
    said.content AS content
FROM events AS said
WHERE said.time >= range_start AND said.time < range_end
    AND ({scope:String} = '' OR said.scope_id = {scope:String})
ORDER BY time DESC, source, entity_id, content
LIMIT {rows:UInt32}
