-- purpose: nodes without a line for long although they are collected; with a query: without one that it selects
-- param: minutes UInt32 = 60  a node is silent after so long without a line, minutes
-- param: hours UInt16 = 168  how far back the last line is looked for, hours
WITH now('UTC') - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    marks.node_id AS node_id,
    logged.hostname AS hostname,
    known.operating_state AS operating_state,
    known.is_present AS is_present,
    logged.last AS last_line,
    intDiv(dateDiff('second', greatest(coalesce(logged.last, marks.collected_from), range_start), marks.watermark), 60)
        AS silent_minutes,
    marks.watermark AS watermark,
    intDiv(dateDiff('second', marks.watermark, now('UTC')), 60) AS behind_minutes,
    marks.query AS query
FROM
(
    -- Of a node that was collected with other queries before, the stream that goes on.
    SELECT
        streams.region AS region,
        splitByString('?Query=', toString(streams.scope_id)) AS scope,
        scope[1] AS node_id,
        decodeURLComponent(scope[2]) AS query,
        streams.collected_from AS collected_from,
        streams.watermark AS watermark
    FROM watermarks AS streams
    WHERE streams.operation = 'ListSyslogs'
    ORDER BY streams.watermark DESC, streams.scope_id
    LIMIT 1 BY region, node_id
) AS marks
GLOBAL LEFT JOIN
(
    SELECT
        lines.node_id AS node_id,
        lines.region AS region,
        argMax(lines.hostname, lines.time) AS hostname,
        toNullable(max(lines.time)) AS last
    FROM syslogs AS lines
    WHERE lines.time >= range_start
    GROUP BY node_id, region
) AS logged ON marks.node_id = logged.node_id AND marks.region = logged.region
GLOBAL LEFT JOIN
(
    SELECT
        nodes.node_id AS node_id,
        nodes.region AS region,
        nodes.operating_state AS operating_state,
        toNullable(nodes.is_present) AS is_present
    FROM nodes
) AS known ON marks.node_id = known.node_id AND marks.region = known.region
WHERE silent_minutes >= {minutes:UInt32}
ORDER BY silent_minutes DESC, node_id
