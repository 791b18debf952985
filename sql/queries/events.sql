-- purpose: events of the last day, the latest first
SELECT
    time,
    source,
    entity_id,
    event_type,
    reason,
    triggered_by,
    content
FROM events
WHERE time >= now() - INTERVAL 1 DAY
ORDER BY time DESC, source, entity_id, content
LIMIT 200
