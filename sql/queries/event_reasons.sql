-- purpose: events by reason, most first, with how many services or jobs they touch and the latest text
-- param: hours UInt16 = 168  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    said.source AS source,
    said.event_type AS event_type,
    said.reason AS reason,
    count() AS events,
    uniqExact(said.scope_id) AS scopes,
    min(said.time) AS first,
    max(said.time) AS last,
    argMax(said.content, tuple(said.time, said.content)) AS latest
FROM events AS said
WHERE said.time >= range_start AND said.time < range_end
GROUP BY source, event_type, reason
ORDER BY events DESC, source, event_type, reason
LIMIT {rows:UInt32}
